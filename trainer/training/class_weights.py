"""Classes that count alike however many photos they have: weights by frequency, and the loss that they weigh."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from trainer.run.sections import ScheduleConfig
from trainer.training.batches import UNLABELLED, Batches


def balanced_weights(numbers: NDArray[np.integer[Any]], classes: int) -> NDArray[np.float32]:
    """Return the weight of each class, [classes]: photos / (classes * photos of the class), as in scikit-learn.

    Every class has the same part of the sum over the photos then, and the mean over the photos is 1.

    Args:
        numbers: class numbers of the training photos, each of which occurs; photos without a label do not count.
        classes: how many there are.
    """
    counts = np.bincount(numbers[numbers != UNLABELLED], minlength=classes)
    weights: NDArray[np.float32] = (counts.sum() / (classes * counts)).astype(np.float32)
    return weights


def weights_of(schedule: ScheduleConfig, data: Batches) -> NDArray[np.float32] | None:
    """Return what --class-weights asks for: None where all photos count alike."""
    if schedule.class_weights == "none":
        return None
    return balanced_weights(data.truth("train"), len(data.labels))


def labels_cross_entropy(targets: Any, logits: Any, label_smoothing: float, weights: NDArray[np.float32] | None) -> Any:
    """Return the cross-entropy of each photo with its labels, [n].

    Of a photo that is in part t_c of class c it is the sum of t_c w_c times the smoothed cross-entropy of that class: a
    mixed photo costs what its parts would.

    Args:
        targets: [n, classes].
        logits: [n, classes].
        label_smoothing: share of each class's target that is given to all classes.
        weights: w, [classes]; None for 1.
    """
    weighed = targets if weights is None else targets * ops.convert_to_tensor(weights, dtype=targets.dtype)
    whole = ops.sum(weighed, axis=-1, keepdims=True)
    smoothed = (1 - label_smoothing) * weighed + label_smoothing * whole / targets.shape[-1]
    return -ops.sum(smoothed * ops.log_softmax(logits, axis=-1), axis=-1)


class WeightedCrossentropy(keras.losses.Loss):  # type: ignore[misc]
    """`labels_cross_entropy` of logits and shares of the classes.

    Args:
        weights: [classes].
        label_smoothing: see there.
    """

    def __init__(self, weights: NDArray[np.float32], label_smoothing: float = 0.0) -> None:
        super().__init__(name="weighted_crossentropy")
        self.weights, self.label_smoothing = weights, label_smoothing

    def call(self, targets: Any, logits: Any) -> Any:
        """Return the loss of each photo, [n]."""
        return labels_cross_entropy(ops.cast(targets, logits.dtype), logits, self.label_smoothing, self.weights)
