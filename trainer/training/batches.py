"""The photos of a run as batches and targets, by split."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from trainer.compute.strategy import Strategy
from trainer.data.checks import CheckedPhotos
from trainer.data.generator import PhotoSequence
from trainer.data.loaders import class_targets
from trainer.run.sections import ScheduleConfig

PREDICTED_BATCH = 32
UNLABELLED = -1
"""The class number of photos without a label."""


class Batches:
    """The photos of a run as batches for training and predicting.

    Args:
        photos: those of all splits.
        labels: their order numbers the classes.
        schedule: how batches are made for training.
        workers: threads that make them ahead; None means one a CPU.
        strategy: how they are shared out over devices.
    """

    def __init__(
        self,
        photos: CheckedPhotos,
        labels: tuple[str, ...],
        schedule: ScheduleConfig,
        workers: int | None,
        strategy: Strategy,
    ) -> None:
        self.photos, self.labels, self.schedule = photos, labels, schedule
        self.workers, self.strategy = workers, strategy
        split = photos.frame["split"].to_numpy()
        unlabelled = np.arange(len(photos.frame), len(photos.source))
        numbers = class_targets(photos.frame["label"], labels, one_hot=False)
        self._numbers = np.concatenate([numbers, np.full(len(unlabelled), UNLABELLED, np.int32)])
        self.rows = {name: np.flatnonzero(split == name) for name in ("train", "validation")}
        # Behind the others: what is made of those alone does not change with them.
        self.rows["train"] = np.concatenate([self.rows["train"], unlabelled])

    def truth(self, split: str) -> NDArray[np.int32]:
        """Return the class numbers of a split, [photos]."""
        return self._numbers[self.rows[split]]

    def targets(self, *, soft: bool) -> NDArray[Any]:
        """Return the targets of the training photos: class numbers [photos], or one-hot rows if `soft`.

        The row of a photo without a label is zeros.
        """
        truth = self.truth("train")
        if not soft:
            return truth
        rows = np.eye(len(self.labels), dtype=np.float32)[truth]
        rows[truth == UNLABELLED] = 0
        return rows

    def shuffled(self) -> keras.utils.PyDataset:
        """Return batches of training photos and targets, in an order of each epoch's own."""
        schedule = self.schedule
        return self.strategy.shared(
            PhotoSequence(
                self.photos.source, self.rows["train"], self.targets(soft=soft_targets(schedule)),
                batch_size=schedule.batch_size, seed=schedule.seed, mixup=schedule.mixup, cutmix=schedule.cutmix,
                workers=self.workers,
            )
        )  # fmt: skip

    def photos_only(self, split: str) -> keras.utils.PyDataset:
        """Return batches of a split's photos, in order; those behind the last photo only fill a batch up."""
        return self.strategy.shared(
            PhotoSequence(
                self.photos.source, self.rows[split], None,
                batch_size=PREDICTED_BATCH, shuffle=False, workers=self.workers,
            )
        )  # fmt: skip


def soft_targets(schedule: ScheduleConfig) -> bool:
    """Return whether a photo's target is a share of each class, not the number of one."""
    shared = max(schedule.label_smoothing, schedule.mixup, schedule.cutmix) > 0
    return shared or schedule.teacher is not None or schedule.class_weights != "none"
