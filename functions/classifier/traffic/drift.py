"""How far traffic has moved from what a version was measured on: the population stability index.

Between two distributions over the same classes it is the sum of (p - q) ln(p / q) (Siddiqi 2006): usually below 0.1 is
read as the same, above 0.25 as another population.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

SLIGHT, LARGE = 0.1, 0.25
"""The usual bounds."""
LEAST = 30
"""Photos, below which nothing is said of them: a few are no distribution."""
SMOOTHING = 0.5
"""Photos added to every class, so that one that was not seen does not make the index infinite."""


def stability_index(expected: Sequence[float], found: Sequence[float]) -> float | None:
    """Return the index of two rows of counts of the same classes; None where one of them is empty.

    The index of few photos is large by chance: about (classes - 1) (1/n + 1/m), which is taken off.
    """
    first, second = sum(expected), sum(found)
    if not first or not second:
        return None
    classes = len(expected)
    index = 0.0
    for one, other in zip(expected, found, strict=True):
        p = (one + SMOOTHING) / (first + SMOOTHING * classes)
        q = (other + SMOOTHING) / (second + SMOOTHING * classes)
        index += (p - q) * math.log(p / q)
    return max(0.0, index - (classes - 1) * (1 / first + 1 / second))


def of_labels(expected: Mapping[str, int], found: Mapping[str, int]) -> float | None:
    """Return the index of two counts by label."""
    labels = sorted(expected.keys() | found.keys())
    return stability_index([expected.get(label, 0) for label in labels], [found.get(label, 0) for label in labels])


def verdict(index: float | None) -> str:
    """Return the index in a word."""
    if index is None:
        return "unknown"
    return "stable" if index < SLIGHT else "moved" if index < LARGE else "drifted"
