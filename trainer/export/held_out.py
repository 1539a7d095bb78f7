"""The photos by which an export decides and measures: those that were not trained on, and some that were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.loaders import class_targets
from trainer.data.ood_photos import readable_rows
from trainer.data.sampling import calibration_rows, spread
from trainer.export.measuring import Compared
from trainer.training.trained import Trained

MEASURED_PHOTOS = 500
"""Of validation, test and training photos each, at most, spread over the classes: they are the time a variant takes."""


@dataclass(frozen=True)
class HeldOut:
    """The photos that were not trained on."""

    rows: dict[str, NDArray[np.intp]]
    """Of the data frame, by split."""
    truth: NDArray[np.int32]
    """Class number of every photo of the frame."""
    compared: Compared
    """Those that every variant is measured on, and training photos."""

    @classmethod
    def of(cls, trained: Trained) -> HeldOut:
        """Return those of a training."""
        frame = trained.photos.frame
        rows = {split: np.flatnonzero(frame["split"] == split) for split in ("validation", "test")}
        truth = class_targets(frame["label"], trained.labels, one_hot=False)
        labels, few = list(frame["label"]), spread(rows["validation"], MEASURED_PHOTOS)
        train, test = (
            calibration_rows(labels, np.flatnonzero(frame["split"] == split), MEASURED_PHOTOS)
            for split in ("train", "test")
        )
        learnt = readable_rows(trained.photos.source, train)
        return cls(rows, truth, Compared(few, truth[few], test, learnt))
