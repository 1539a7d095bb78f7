"""How much a file loses against float32 on the same photos, with paired bounds: what so many photos can tell.

A quantised file gives most photos the label that float32 gives them, so its top-1 differs on few: 70 photos cannot tell
a loss of two points from chance. The log-loss differs on every photo, and by little: it tells far more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.intervals import share_interval

CERTAINTY = 0.95
"""Of each bound, to one side."""
LOWEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Comparison:
    """One file against float32, each figure with the least favourable value that the photos do not rule out."""

    agreement: float
    """Share of photos that get float32's label."""
    agreement_low: float
    top_1_loss: float
    """Share of photos more that float32 classifies rightly."""
    top_1_loss_high: float
    log_loss_increase: float
    """Nats."""
    log_loss_increase_high: float

    @property
    def top_1_resolved(self) -> float:
        """The smallest loss of top-1 that these photos tell from none."""
        return self.top_1_loss_high - self.top_1_loss

    @property
    def log_loss_resolved(self) -> float:
        """The smallest rise of the log-loss that these photos tell from none."""
        return self.log_loss_increase_high - self.log_loss_increase

    def row(self) -> dict[str, float]:
        """Return the figures for the manifest's table."""
        return {name: round(float(value), 6) for name, value in vars(self).items()}


def compare(reference: NDArray[np.float32], found: NDArray[np.float32], truth: NDArray[np.int32]) -> Comparison:
    """Compare what two files say of the same photos.

    Args:
        reference: float32's probabilities, [photos, classes].
        found: the other file's.
        truth: class numbers, [photos].
    """
    labels, expected = found.argmax(axis=1), reference.argmax(axis=1)
    losses = (expected == truth).astype(np.float64) - (labels == truth)
    increases = _log_losses(found, truth) - _log_losses(reference, truth)
    return Comparison(
        agreement=float((labels == expected).mean()),
        agreement_low=share_interval(int((labels == expected).sum()), len(truth))[0],
        top_1_loss=float(losses.mean()),
        top_1_loss_high=_highest_loss(losses),
        log_loss_increase=float(increases.mean()),
        log_loss_increase_high=_highest_mean(increases),
    )


def _log_losses(probabilities: NDArray[np.float32], truth: NDArray[np.int32]) -> NDArray[np.float64]:
    of_truth = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    losses: NDArray[np.float64] = -np.log(np.clip(of_truth, LOWEST_PROBABILITY, 1))
    return losses


def _highest_mean(differences: NDArray[np.float64]) -> float:
    """Return the upper bound of a mean of paired differences (Student's t)."""
    from scipy.stats import t

    photos = len(differences)
    if photos < 2:
        return math.inf
    spread = differences.std(ddof=1) / np.sqrt(photos)
    return float(differences.mean() + t.ppf(CERTAINTY, photos - 1) * spread)


def _highest_loss(losses: NDArray[np.float64]) -> float:
    """Return the upper bound of the difference of two paired shares (Agresti and Min 2005).

    Half a photo is added to each of the four cells, so that no loss on few photos is not taken for none at all.
    """
    from scipy.stats import norm

    photos = len(losses) + 2
    lost, won = float((losses > 0).sum()) + 0.5, float((losses < 0).sum()) + 0.5
    mean = (lost - won) / photos
    variance = (lost + won) / photos - mean**2
    return mean + float(norm.ppf(CERTAINTY)) * math.sqrt(variance / photos)
