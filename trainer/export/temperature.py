"""Fits the temperature that the served file divides its logits by.

A hundred validation photos tell it to a tenth only, and they have chosen the epoch before. Where the backbone has not
learnt from the training photos, those tell it too: a regression on its frozen features is fitted five times, each
time without a fifth of the training and validation photos, whose logits it then gives. They are scaled as the head's
logits are, which makes one temperature serve both. To a backbone that was fine-tuned its training photos are too
easy, and what it was before is another network: there the validation photos decide alone. docs/results.md has what
either is worth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.calibration import fit_temperature
from trainer.networks.ood_score import Array, regressed
from trainer.run.config import TrainingConfig
from trainer.run.finished import HEAD_PHASE
from trainer.run.folder import RunFolder
from trainer.training.checkpoints import TrainingState

FOLDS = 5
CROSS_VALIDATION, VALIDATION = "cross-validation", "validation"


class Temperature(NamedTuple):
    """What the logits are divided by, and what told it."""

    value: float
    fitted_on: str
    """`CROSS_VALIDATION` of training and validation photos, or `VALIDATION` photos alone."""
    photos: int

    def figures(self) -> dict[str, str | int]:
        """Return what the manifest has of it besides the value."""
        return {"fitted_on": self.fitted_on, "fitted_on_photos": self.photos}


def has_linear_head_alone(run: RunFolder, config: TrainingConfig) -> bool:
    """Return whether a run's best epoch is that of a linear head on a backbone that has not seen its training photos.

    A backbone that begins as an earlier version's may have seen them.
    """
    best, network = TrainingState(run).best, config.network
    if best is None or best["phase"] != HEAD_PHASE or config.schedule.teacher is not None:
        return False
    return not network.hidden and not network.head_convolution and network.start is None


def of_validation(logits: NDArray[np.float32], truth: NDArray[np.int32]) -> Temperature:
    """Return the temperature of validation photos alone.

    Args:
        logits: the network's, [photos, classes].
        truth: class numbers, [photos].
    """
    return Temperature(fit_temperature(logits, truth), VALIDATION, len(truth))


def of_frozen_features(
    train: tuple[Array, NDArray[np.int32]],
    validation: tuple[Array, NDArray[np.int32]],
    logits: NDArray[np.float32],
) -> Temperature:
    """Return the temperature of a linear head on features that its training photos had no part in.

    It is that of the validation photos alone where a class has fewer than two photos to train on, or where the
    regression is of no use.

    Args:
        train: pooled features [photos, channels] of the head's training photos and their class numbers.
        validation: the same of validation photos.
        logits: the head's, of the validation photos, [photos, classes].
    """
    alone = of_validation(logits, validation[1])
    features, truth = (np.concatenate(pair) for pair in zip(train, validation, strict=True))
    classes = logits.shape[1]
    if classes < 2 or min(np.bincount(each, minlength=classes).min() for each in (train[1], truth)) < 2:
        return alone
    scale = _scale(logits, regressed(*train, validation[0]))
    if scale <= 0:
        return alone
    held_out = cross_validated(features, truth)
    return Temperature(fit_temperature(held_out * np.float32(scale), truth), CROSS_VALIDATION, len(truth))


def cross_validated(features: Array, truth: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return logits [photos, classes] of regressions that have not seen the photo; each class has two or more."""
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(truth)
    logits = np.zeros((len(truth), len(counts)), np.float32)
    folds = StratifiedKFold(min(FOLDS, int(counts.min())), shuffle=True, random_state=0)
    for rest, fold in folds.split(features, truth):
        logits[fold] = regressed(features[rest], truth[rest], features[fold])
    return logits


def _scale(logits: NDArray[np.float32], of_regression: NDArray[np.float32]) -> float:
    """Return by how much a regression's logits of the same photos are to be multiplied to be like the head's.

    Least squares; what is the same for all classes of a photo says nothing.
    """
    wanted, given = (each - each.mean(axis=1, keepdims=True) for each in (logits, of_regression))
    squares = float((given**2).sum())
    return float((wanted * given).sum()) / squares if squares > 0 else 0.0
