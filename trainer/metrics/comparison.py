"""How much a file loses against float32 on the same photos, with paired bounds: what so many photos can tell.

By labels (`compare`): a quantised file gives most photos the label that float32 gives them, so its top-1 differs on
few, and 70 photos cannot tell a loss of two points from chance. Without labels (`damage`): what a photo loses is
expected of float32's calibrated probabilities, whose label is right with the probability that it gives. A photo that
goes from a label of 0.5 to one of 0.4 loses 0.1 of a right answer; its log-loss rises by the Kullback-Leibler
divergence. That leaves the luck of labels out and is about nothing but the quantisation, and photos whose labels are
not to be looked at count too.
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
LARGEST_INCREASE = -math.log(LOWEST_PROBABILITY)
"""Nats; what is said of a bound where there is one photo."""
PARTS = 5
"""Of the photos that were not trained on, as many in each, by how sure float32 is of them."""


@dataclass(frozen=True)
class Comparison:
    """One file against float32 by labels; ``low`` is the most favourable value that the photos do not rule out."""

    top_1_loss: float
    """Share of photos more that float32 classifies rightly."""
    top_1_loss_low: float
    log_loss_increase: float
    """Nats."""
    log_loss_increase_low: float

    def row(self) -> dict[str, float]:
        """Return the figures for the manifest's table."""
        return {f"labelled_{name}": round(float(value), 6) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Damage:
    """One file against float32 by float32's probabilities; the bounds are the least favourable values."""

    photos: float
    """How many photos of weight 1 tell as much as these (Kish 1965)."""
    agreement: float
    """Share of photos that get float32's label."""
    agreement_low: float
    top_1_loss: float
    """Share of photos that float32 is expected to classify rightly, less that of the file."""
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
    """Compare what two files say of the same photos with their labels.

    Args:
        reference: float32's probabilities, [photos, classes].
        found: the other file's.
        truth: class numbers, [photos].
    """
    labels, expected = found.argmax(axis=1), reference.argmax(axis=1)
    losses = (expected == truth).astype(np.float64) - (labels == truth)
    increases = _log_losses(found, truth) - _log_losses(reference, truth)
    return Comparison(
        top_1_loss=float(losses.mean()),
        top_1_loss_low=_lowest_loss(losses),
        log_loss_increase=float(increases.mean()),
        log_loss_increase_low=-_highest_mean(-increases, np.ones(len(truth))),
    )


def damage(
    reference: NDArray[np.float32], found: NDArray[np.float32], weights: NDArray[np.float64] | None = None
) -> Damage:
    """Weigh what another file says of photos by float32's probabilities.

    Args:
        reference: float32's probabilities, [photos, classes], calibrated.
        found: the other file's.
        weights: how much each photo counts, 1 at most.
    """
    counts = np.ones(len(reference)) if weights is None else weights
    rows = np.arange(len(reference))
    labels, expected = found.argmax(axis=1), reference.argmax(axis=1)
    exact, other = (np.clip(each.astype(np.float64), LOWEST_PROBABILITY, 1) for each in (reference, found))
    losses = (reference[rows, expected] - reference[rows, labels]).astype(np.float64)
    increases = (exact * (np.log(exact) - np.log(other))).sum(axis=1)
    effective = counts.sum() ** 2 / (counts**2).sum()
    agreement = float(np.average(labels == expected, weights=counts))
    return Damage(
        photos=float(effective),
        agreement=agreement,
        agreement_low=share_interval(round(agreement * effective), round(effective))[0],
        top_1_loss=float(np.average(losses, weights=counts)),
        # A photo that loses half a right answer is added, so that no loss on few photos is not taken for none at all.
        top_1_loss_high=_highest_mean(np.append(losses, 0.5), np.append(counts, 1)),
        log_loss_increase=float(np.average(increases, weights=counts)),
        log_loss_increase_high=_highest_mean(increases, counts),
    )


def weights_of_learnt(unseen: NDArray[np.float32], learnt: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how much each training photo counts, so that they are as sure, all in all, as photos not trained on.

    Photos are divided by the distance between float32's two largest probabilities, on which it depends how easily a
    label changes: at the fifths of the photos that were not trained on. The photos of a fifth that has few training
    photos count fully, those of the others as much as makes the fifths equal. Where a fifth has none, none count.

    Args:
        unseen: float32's probabilities of photos that were not trained on, [photos, classes].
        learnt: those of training photos.
    """
    if not len(learnt) or len(unseen) < PARTS:
        return np.zeros(len(learnt))
    of_unseen, of_learnt = (_margins(each) for each in (unseen, learnt))
    edges = np.quantile(of_unseen, np.linspace(0, 1, PARTS + 1)[1:-1])
    wanted, given = (np.bincount(np.searchsorted(edges, each), minlength=PARTS) for each in (of_unseen, of_learnt))
    needed = wanted > 0
    if (given[needed] == 0).any():
        return np.zeros(len(learnt))
    ratios = np.where(needed, wanted, 0) / np.maximum(given, 1)
    weights: NDArray[np.float64] = (ratios / ratios.max())[np.searchsorted(edges, of_learnt)]
    return weights


def _margins(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    ordered = np.sort(probabilities.astype(np.float64), axis=1)
    margins: NDArray[np.float64] = ordered[:, -1] - (ordered[:, -2] if ordered.shape[1] > 1 else 0)
    return margins


def _log_losses(probabilities: NDArray[np.float32], truth: NDArray[np.int32]) -> NDArray[np.float64]:
    of_truth = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    losses: NDArray[np.float64] = -np.log(np.clip(of_truth, LOWEST_PROBABILITY, 1))
    return losses


def _highest_mean(differences: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the upper bound of a weighted mean of paired differences (Student's t)."""
    from scipy.stats import t

    total = weights.sum()
    photos = total**2 / (weights**2).sum()
    if photos < 1.5:
        return LARGEST_INCREASE
    mean = (weights * differences).sum() / total
    variance = (weights**2 * (differences - mean) ** 2).sum() / total**2 * photos / (photos - 1)
    return float(mean + t.ppf(CERTAINTY, photos - 1) * math.sqrt(variance))


def _lowest_loss(losses: NDArray[np.float64]) -> float:
    """Return the lower bound of the difference of two paired shares (Agresti and Min 2005).

    Half a photo is added to each of the four cells, so that no loss on few photos is not taken for none at all.
    """
    from scipy.stats import norm

    photos = len(losses) + 2
    lost, won = float((losses > 0).sum()) + 0.5, float((losses < 0).sum()) + 0.5
    mean = (lost - won) / photos
    variance = (lost + won) / photos - mean**2
    return mean - float(norm.ppf(CERTAINTY)) * math.sqrt(variance / photos)
