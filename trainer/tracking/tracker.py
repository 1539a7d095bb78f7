"""The interface of what follows a training, and how a training drives it: what fails there never ends the training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from trainer.run.config import TrainingConfig
from trainer.run.files import read_json
from trainer.run.folder import RunFolder

CURVES = ("log_loss", "accuracy", "val_log_loss", "val_accuracy", "val_calibrated_log_loss", "learning_rate")
PICTURES = ("confusion_matrix.png", "grad_cam.jpg")
"""Of the report's figures."""


class Tracker(Protocol):
    """One place where figures go."""

    name: str

    def begin(self, options: Mapping[str, str], history: Sequence[Mapping[str, Any]]) -> None:
        """Take a training's options, and the epochs that are over already where it is resumed."""

    def epoch(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of an epoch, whose number counts on over the phases."""

    def result(self, figures: Mapping[str, float], pictures: Sequence[Path]) -> None:
        """Take the figures of the served file and pictures of the report."""

    def close(self) -> None:
        """Write what is not written yet."""


class Tracking:
    """Tells several trackers. One that fails is told of once and left out from then on.

    Args:
        trackers: may be none.
        console: where it is said.
    """

    def __init__(self, trackers: Sequence[Tracker], console: Console) -> None:
        self._trackers, self._console = list(trackers), console

    def begin(self, run: RunFolder, config: TrainingConfig) -> None:
        """Begin with a run's folder, or go on where it is one that was interrupted."""
        state = read_json(run.state) if run.state.is_file() else {"history": [], "finished": []}
        # A head whose phase was interrupted begins anew.
        history = [each for each in state["history"] if each["phase"] != "head" or "head" in state["finished"]]
        options = flat(config.to_json())
        self._each(lambda tracker: tracker.begin(options, history))

    def epoch(self, step: int, entry: Mapping[str, Any]) -> None:
        """Tell of an epoch; see `Tracker.epoch`."""
        figures = numbers_of(entry)
        self._each(lambda tracker: tracker.epoch(step, figures))

    def result(self, run: RunFolder, metrics: Mapping[str, Any]) -> None:
        """Tell of a bundle's metrics, and of the report's pictures where there are any."""
        figures = {
            f"{split}/{name}": float(value)
            for split in ("validation", "test")
            for name, value in metrics.get(split, {}).items()
            if isinstance(value, int | float)
        }
        pictures = [path for name in PICTURES if (path := run.report / "figures" / name).is_file()]
        self._each(lambda tracker: tracker.result(figures, pictures))

    def close(self) -> None:
        """Close them all."""
        self._each(lambda tracker: tracker.close())

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                call(tracker)
            except Exception as error:  # noqa: BLE001 - any library's, and none may cost hours of training
                self._trackers.remove(tracker)
                self._console.print(
                    f"warning: {tracker.name} is told nothing any more: {' '.join(str(error).split())[:300]}",
                    style="yellow", highlight=False, markup=False,
                )  # fmt: skip


def flat(plain: Mapping[str, Any]) -> dict[str, str]:
    """Return a configuration's options as texts by ``section.option``, without those that are not set."""
    return {
        f"{section}.{name}": value if isinstance(value, str) else json.dumps(value)
        for section, options in plain.items()
        for name, value in options.items()
        if value is not None and value != []
    }


def numbers_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return the curves' figures of an epoch by ``split/name``: train/accuracy, validation/accuracy, learning_rate."""
    found = {}
    for name in CURVES:
        if name in entry:
            split = "validation" if name.startswith("val_") else "train"
            shown = name if name == "learning_rate" else f"{split}/{name.removeprefix('val_')}"
            found[shown] = float(entry[name])
    return found
