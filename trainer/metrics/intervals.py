"""How sure a figure is: Wilson's interval of a share, the bootstrap interval of F1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def share_interval(right: int, photos: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was `right` of `photos` (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(right, photos).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


RESAMPLES = 1000
LEVEL = 0.95


def f1_interval(
    truth: NDArray[np.int32], predicted: NDArray[np.intp], classes: int, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile interval of macro F1 over bootstrap samples of the photos (Efron 1979).

    Args:
        truth: class numbers, [photos].
        predicted: class numbers, [photos].
        classes: how many there are; the mean is over those that have photos.
        seed: of the samples.
    """
    rng = np.random.default_rng(seed)
    known = np.unique(truth)
    scores = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        drawn = rng.integers(0, len(truth), len(truth))
        true, found = truth[drawn], predicted[drawn]
        hits = np.bincount(true[true == found], minlength=classes)
        both = np.bincount(true, minlength=classes) + np.bincount(found, minlength=classes)
        scores[number] = (2 * hits[known] / np.maximum(both[known], 1)).mean()
    low, high = np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
