"""What a network that has a teacher is trained by (Hinton et al. 2015; Beyer et al. 2022), and its figures meanwhile.

Its outputs are those of `trainer.networks.teacher`: [n, 2 * classes], its own logits and the teacher's. Its targets are
shares of the classes, [n, classes]; a row that sums to less than 1 is of a photo that in part, or in whole (a row of
zeros), has no label: there the teacher alone tells.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from trainer.training.class_weights import labels_cross_entropy

TINY = 1e-7


class DistillationLoss(keras.losses.Loss):  # type: ignore[misc]
    """The labels' cross-entropy and the teacher's, mixed.

    For a photo of which the part m has a label y, with T the temperature and a the teacher's share:

        (1 - a) CE(y, p) + (1 - (1 - a) m) T^2 KL(teacher / T || p / T)

    T^2 keeps the gradients of the second term as large as those of the first, whatever T is (Hinton et al. 2015).

    Args:
        share: the teacher's share of the loss of labelled photos, 0..1.
        temperature: what both networks' logits are divided by where they are compared.
        label_smoothing: share of the labels' target that is given to all classes.
        weights: of the classes, [classes], in the labels' cross-entropy; the teacher's has none. None for 1.
    """

    def __init__(
        self,
        share: float,
        temperature: float,
        label_smoothing: float = 0.0,
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__(name="distillation")
        self.weights = weights
        self.share, self.temperature, self.label_smoothing = share, temperature, label_smoothing

    def call(self, targets: Any, outputs: Any) -> Any:
        """Return the loss of each photo, [n]."""
        own, taught = own_logits(outputs), teachers_logits(outputs)
        targets = ops.cast(targets, own.dtype)
        labelled = ops.sum(targets, axis=-1)
        of_labels = labels_cross_entropy(targets, own, self.label_smoothing, self.weights)
        theirs = ops.log_softmax(taught / self.temperature, axis=-1)
        mine = ops.log_softmax(own / self.temperature, axis=-1)
        of_teacher = self.temperature**2 * ops.sum(ops.exp(theirs) * (theirs - mine), axis=-1)
        return (1 - self.share) * of_labels + (1 - (1 - self.share) * labelled) * of_teacher


class _OfLabels(keras.metrics.Mean):  # type: ignore[misc]
    """A mean over the photos that have labels, by the part that has one."""

    def update_state(self, targets: Any, outputs: Any, sample_weight: Any = None) -> None:
        """Count a batch."""
        own = own_logits(outputs)
        targets = ops.cast(targets, own.dtype)
        labelled = ops.sum(targets, axis=-1)
        shares = targets / ops.maximum(labelled, TINY)[:, None]
        weight = labelled if sample_weight is None else labelled * ops.cast(sample_weight, own.dtype)
        super().update_state(self.of_photos(shares, own), sample_weight=weight)

    def of_photos(self, targets: Any, logits: Any) -> Any:
        """Return the value of each photo, [n]."""
        raise NotImplementedError


class LabelledAccuracy(_OfLabels):
    """How many labelled photos the pupil has right."""

    def of_photos(self, targets: Any, logits: Any) -> Any:
        """Return 1 where it has."""
        return ops.cast(ops.equal(ops.argmax(targets, axis=-1), ops.argmax(logits, axis=-1)), logits.dtype)


class LabelledLogLoss(_OfLabels):
    """The pupil's cross-entropy with the labels of those that have one."""

    def of_photos(self, targets: Any, logits: Any) -> Any:
        """Return it of each photo."""
        return -ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)


def own_logits(outputs: Any) -> Any:
    """Return the pupil's part of the outputs."""
    return outputs[:, : outputs.shape[-1] // 2]


def teachers_logits(outputs: Any) -> Any:
    """Return the teacher's part."""
    return outputs[:, outputs.shape[-1] // 2 :]
