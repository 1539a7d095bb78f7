"""Keeps a training's state after every epoch: history, the best weights, the last ones, and when to stop."""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifier.errors import PointerError
from trainer.compute.processes import ALONE, Workers
from trainer.metrics.calibration import calibrated_log_loss, log_loss
from trainer.run.files import read_json, write_file, write_json
from trainer.run.folder import RunFolder
from trainer.training.optimizers import averaged_weights

COLUMNS = (
    "phase", "epoch", "log_loss", "accuracy", "val_log_loss", "val_accuracy", "val_calibrated_log_loss",
    "learning_rate", "seconds",
)  # fmt: skip


class TrainingDivergedError(PointerError):
    """The loss is no longer a number."""


class TrainingState:
    """How far a run is: kept in ``state.json``, which names the checkpoints that belong to it.

    A crash between two writes leaves the former state with its own checkpoints.

    Args:
        run: the run's folder.
        workers: this process among those that share the training: the chief writes, and all read at the same places.
    """

    def __init__(self, run: RunFolder, workers: Workers = ALONE) -> None:
        self.run, self.workers = run, workers
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.last: dict[str, Any] | None = None
        self.finished: list[str] = []
        self.planned: dict[str, list[int]] = {}
        """Most epochs, and the patience, that the finished phases were trained with."""
        self.head_decay: float | None = None
        """L2 of the head's kernels, from when it is known."""
        self.on_epoch: Callable[[int, dict[str, Any]], None] = lambda step, entry: None
        """Called with each epoch that is recorded; its number counts on over the phases."""
        self._read()

    def _read(self) -> None:
        if self.run.state.is_file():
            saved = read_json(self.run.state)
            self.history, self.best = saved["history"], saved["best"]
            self.last, self.finished = saved["last"], saved["finished"]
            self.head_decay, self.planned = saved.get("head_decay"), saved.get("planned", {})

    def keep_epoch(self, entry: dict[str, Any], plain: keras.Model, trained: keras.Model, *, resumable: bool) -> None:
        """Record an epoch.

        Args:
            entry: its figures.
            plain: the model whose weights, averaged as the schedule asks, are kept if this is the best epoch so far.
            trained: the compiled model, which shares its weights.
            resumable: whether that one's weights and optimizer are kept in any case.
        """
        self.history.append(entry)
        if self.best is None or merit(entry) > merit(self.best):
            with averaged_weights(trained):
                self.best = {**entry, "weights": self._save(plain, f"best-{entry['phase']}-{entry['epoch']:03}")}
        if resumable:
            weights = self._save(trained, f"last-{entry['phase']}-{entry['epoch']:03}")
            self.last = {**entry, "weights": weights, "seeds": _seed_states(trained)}
        self._write()
        self.on_epoch(len(self.history), entry)

    def keep_whole(self, model: keras.Model) -> None:
        """Replace the best epoch's weights, which are those of a part, by the whole model's."""
        if self.best is not None:
            self.best["weights"] = self._save(model, f"best-{self.best['phase']}-whole")

    def finish(self, phase: str, epochs: int, patience: int) -> None:
        """Record that a phase is complete, and with how many epochs at most and which patience it is so.

        Its last epoch stays, for a training that goes on later.
        """
        self.finished.append(phase)
        self.planned[phase] = [epochs, patience]
        self._write()

    def reopen(self, phase: str, epochs: int, patience: int) -> None:
        """Take a phase for unfinished that was finished with fewer epochs, or less patience."""
        if phase in self.finished and [epochs, patience] != self.planned.get(phase, [epochs, patience]):
            self.finished.remove(phase)

    def resume(self, phase: str, model: keras.Model) -> int:
        """Put the compiled model back to where the phase was left; return the number of epochs already done."""
        if self.last is None or self.last["phase"] != phase:
            # Epochs of a phase that cannot be resumed are done again.
            self.history = [entry for entry in self.history if entry["phase"] in self.finished]
            for variable in _seed_variables(model):
                # The head's phase has drawn from the head's generator; a process that goes on behind it has not.
                seed = keras.ops.convert_to_numpy(variable).copy()
                seed[1] = 0
                variable.assign(seed)
            return 0
        model.optimizer.build(model.trainable_variables)
        self._load(model, self.last["weights"])
        for variable, value in zip(_seed_variables(model), self.last["seeds"], strict=True):
            variable.assign(value)
        return int(self.last["epoch"])

    def epochs_done(self, phase: str) -> int:
        """Return how many epochs of a phase a training that is resumed has behind it."""
        return int(self.last["epoch"]) if self.last is not None and self.last["phase"] == phase else 0

    def load_best(self, model: keras.Model) -> None:
        """Give the model the best weights over all phases."""
        self.workers.meet()
        if not self.workers.chief:
            self._read()
        if self.best is not None:
            self._load(model, self.best["weights"])

    def epochs_without_gain(self, phase: str) -> int:
        """Return for how many epochs a phase has not improved on its own best."""
        merits = [merit(entry) for entry in self.history if entry["phase"] == phase]
        return len(merits) - 1 - merits.index(max(merits)) if merits else 0

    def _load(self, model: keras.Model, name: str) -> None:
        model.load_weights(self.run.checkpoints / name)
        # The chief may replace the file now.
        self.workers.meet()

    def _save(self, model: keras.Model, name: str) -> str:
        path = self.run.checkpoints / f"{name}.weights.h5"
        if self.workers.chief:
            write_file(path, model.save_weights)
        else:
            # Reading an optimizer's state computes its rate, which takes all processes.
            with tempfile.TemporaryDirectory() as folder:
                model.save_weights(Path(folder, path.name))
        return path.name

    def _write(self) -> None:
        if not self.workers.chief:
            return
        write_json(
            self.run.state,
            {
                "finished": self.finished, "planned": self.planned, "head_decay": self.head_decay,
                "best": self.best, "last": self.last, "history": self.history,
            },
        )  # fmt: skip
        write_file(self.run.log, self._write_log)
        used = {entry["weights"] for entry in (self.best, self.last) if entry is not None}
        for path in self.run.checkpoints.glob("*.weights.h5"):
            if path.name not in used:
                path.unlink()

    def _write_log(self, path: Path) -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.history)


class Validation(keras.callbacks.Callback):  # type: ignore[misc]
    """Adds the validation figures to an epoch's logs; has to come before `Checkpointing`.

    Args:
        model: what is validated: gives logits, without augmentation; it shares the trained model's weights.
        inputs: what it takes: arrays, or batches without targets and in order.
        truth: class numbers, [photos].
        workers: those that share the training, and then decide by the same figures.
    """

    def __init__(self, model: keras.Model, inputs: Any, truth: NDArray[np.int32], workers: Workers = ALONE) -> None:
        super().__init__()
        self.validated, self.inputs, self.truth, self.workers = model, inputs, truth, workers

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Validate."""
        # Behind the photos come those that fill the last batch up for several devices.
        with averaged_weights(self.model):
            logits = np.asarray(self.validated.predict(self.inputs, verbose=0), np.float32)[: len(self.truth)]
        finite = bool(np.isfinite(logits).all())
        figures = {
            "val_log_loss": log_loss(logits, self.truth) if finite else float("nan"),
            "val_accuracy": float((logits.argmax(axis=1) == self.truth).mean()),
            "val_calibrated_log_loss": calibrated_log_loss(logits, self.truth) if finite else float("nan"),
        }
        if logs is not None:
            logs |= self.workers.agreed(figures)


class Checkpointing(keras.callbacks.Callback):  # type: ignore[misc]
    """Records each epoch in a `TrainingState` and stops the training when validation no longer improves.

    Args:
        state: where.
        phase: the phase's name.
        patience: epochs without a better validation result (see `merit`) before it stops.
        plain: the model whose weights are the result: the trained one without augmentation and optimizer.
        resumable: whether the last epoch is kept too, so that the phase can go on after a crash.
    """

    def __init__(self, state: TrainingState, phase: str, patience: int, plain: keras.Model, *, resumable: bool) -> None:
        super().__init__()
        self.state, self.phase, self.patience = state, phase, patience
        self.plain, self.resumable = plain, resumable
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the epoch's clock."""
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the epoch; stop where patience has run out.

        Raises:
            TrainingDivergedError: the loss is not finite.
        """
        logs = logs or {}
        names = ("log_loss", "accuracy", "val_log_loss", "val_accuracy", "val_calibrated_log_loss")
        entry: dict[str, Any] = {name: round(float(logs[name]), 6) for name in names}
        losses = {"loss": logs["loss"], "log-loss": entry["log_loss"], "validation loss": entry["val_log_loss"]}
        spoilt = [f"{name} became {value}" for name, value in losses.items() if not np.isfinite(value)]
        if spoilt:
            raise TrainingDivergedError(
                f"The {spoilt[0]} in {self.phase} epoch {epoch + 1}; start a new run with a lower learning rate."
            )
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        seconds = round(time.perf_counter() - self._began, 3)
        entry |= {"phase": self.phase, "epoch": epoch + 1, "learning_rate": rate, "seconds": seconds}
        self.state.keep_epoch(entry, self.plain, self.model, resumable=self.resumable)
        if self.state.epochs_without_gain(self.phase) >= self.patience:
            self.model.stop_training = True


def merit(entry: dict[str, Any]) -> float:
    """Return what makes one epoch better than another: a lower validation log-loss of what would be served.

    That is at the temperature fitted on the same photos, which the export bakes in. Plain log-loss would punish a
    network that is right more often for being too sure of itself; accuracy alone is decided by luck where there are few
    validation photos.
    """
    return -float(entry["val_calibrated_log_loss"])


def _seed_variables(model: keras.Model) -> list[Any]:
    """Return the states of the random-number generators, which Keras leaves out of saved weights."""
    return [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]


def _seed_states(model: keras.Model) -> list[list[int]]:
    return [keras.ops.convert_to_numpy(variable).tolist() for variable in _seed_variables(model)]
