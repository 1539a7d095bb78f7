"""What a training shows while it runs: phase, epoch, images/s, loss, accuracy and the time left."""

from __future__ import annotations

import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINES = 20
"""How many epochs a phase may have for each to get a line."""


class TrainingProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """Shows a phase: a live line on a terminal, and lines that stay; a star marks the best epoch so far.

    Args:
        console: where it is shown.
        phase: its name, such as ``fine-tuning``.
        epochs: how many at most.
        images: training photos an epoch.
        first_epoch: the epoch that this process starts with, counted from 0.
        best: the lowest calibrated log-loss of the epochs before it.
        lines: whether each epoch gets a line that stays.
    """

    def __init__(
        self,
        console: Console,
        phase: str,
        epochs: int,
        images: int,
        *,
        first_epoch: int = 0,
        best: float = float("inf"),
        lines: bool = True,
    ) -> None:
        super().__init__()
        self.console, self.phase, self.epochs, self.images = console, phase, epochs, images
        self.first_epoch, self.lines = first_epoch, lines
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._epoch_began = 0.0
        self._best = best
        self._steps = 1

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Open the live line."""
        self._steps = int((self.params or {}).get("steps") or 1)
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=16), MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"), TimeRemainingColumn(compact=True),
                console=self.console, transient=True,
            )  # fmt: skip
            self._progress.start()
            total = (self.epochs - self.first_epoch) * self._steps
            self._task = self._progress.add_task(self.phase, total=total, figures="")

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the epoch's clock."""
        self._epoch_began = time.perf_counter()
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=f"{self.phase} {epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the live line on."""
        if self._progress is not None and self._task is not None:
            seconds = time.perf_counter() - self._epoch_began
            rate = (batch + 1) / self._steps * self.images / seconds
            figures = (
                f"{rate:.0f} img/s loss {(logs or {}).get('log_loss', 0):.3f} acc {(logs or {}).get('accuracy', 0):.3f}"
            )
            self._progress.update(self._task, advance=1, figures=figures)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the epoch's line."""
        logs = logs or {}
        best = logs.get("val_calibrated_log_loss", 0.0) < self._best
        self._best = min(self._best, logs.get("val_calibrated_log_loss", 0.0))
        # A long training gets a line where it improved and every tenth epoch; log.csv has them all.
        if not self.lines or (self.epochs > LINES and not best and (epoch + 1) % 10):
            return
        seconds = time.perf_counter() - self._epoch_began
        self.console.print(
            f"{self.phase} {epoch + 1:>3}/{self.epochs}  {self.images / seconds:6.0f} img/s  "
            f"loss {logs.get('log_loss', 0):.3f} acc {logs.get('accuracy', 0):.3f}  "
            f"val {logs.get('val_log_loss', 0):.3f} {logs.get('val_accuracy', 0):.3f}{' *' if best else ''}",
            highlight=False,
        )

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Close the live line."""
        self.close()

    def close(self) -> None:
        """Close the live line; also after an error."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
