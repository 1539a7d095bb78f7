"""Photos that are nearly the same, and photos that are like no other, by their features and by their pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 10
ALIKE = ((0.6, 0.9), (0.9, 0.5))
"""Least cosine similarity of the features of near duplicates, and least correlation of their thumbnails; either pair.

The first is that of photos that were compressed, scaled, mirrored, brightened or made grey, the second that of crops.
"""
FENCE = 1.5
"""Tukey's: so many interquartile ranges above the upper quartile."""


class Pair(NamedTuple):
    """Two photos that are nearly the same."""

    first: int
    second: int
    correlation: float
    """Of their thumbnails."""

    def turned(self) -> Pair:
        """Return the pair the other way round."""
        return Pair(self.second, self.first, self.correlation)


class Neighbours(NamedTuple):
    """The photos nearest to each photo by their features."""

    rows: NDArray[np.intp]
    """[photos, neighbours]."""
    similarities: NDArray[np.float64]
    """Cosine, in the same places; largest first."""


def nearest(features: NDArray[np.floating[Any]]) -> Neighbours:
    """Return the nearest other photos of features [photos, channels]."""
    count = min(NEIGHBOURS, len(features) - 1)
    found = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(features.astype(np.float32))
    distances, rows = found.kneighbors()
    return Neighbours(rows, 1.0 - distances.astype(np.float64))


def near_duplicates(neighbours: Neighbours, thumbnail: Callable[[int], NDArray[np.uint8]]) -> list[Pair]:
    """Return the pairs of photos that are nearly the same, the most alike first.

    Args:
        neighbours: those of which it is looked at.
        thumbnail: returns a photo small and grey, [H, W]; asked for candidates only.
    """
    rows, places = np.nonzero(neighbours.similarities >= min(features for features, _ in ALIKE))
    others = neighbours.rows[rows, places]
    pairs = zip(np.minimum(rows, others).tolist(), np.maximum(rows, others).tolist(), strict=True)
    candidates = dict(zip(pairs, neighbours.similarities[rows, places].tolist(), strict=True))
    small = {row: thumbnail(row) for row in sorted({row for pair in candidates for row in pair})}
    found = []
    for (one, other), similarity in sorted(candidates.items()):
        pair = Pair(one, other, correlation(small[one], small[other]))
        if any(similarity >= features and pair.correlation >= pixels for features, pixels in ALIKE):
            found.append(pair)
    return sorted(found, key=lambda pair: -pair.correlation)


def correlation(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the correlation of two thumbnails, or of one and the other's mirror image if that is larger.

    Brightness and contrast do not matter; 0 where one has a single grey level.
    """
    first = one.astype(np.float64) - one.mean()
    second = other.astype(np.float64) - other.mean()
    size = np.linalg.norm(first) * np.linalg.norm(second)
    if size == 0:
        return 0.0
    return float(max((first * second).sum(), (first * second[:, ::-1]).sum()) / size)


def groups_of(pairs: list[Pair], photos: int) -> NDArray[np.intp]:
    """Return a number for each photo, [photos], that it has in common with its near duplicates and theirs."""
    firsts, seconds = [pair.first for pair in pairs], [pair.second for pair in pairs]
    graph = coo_array((np.ones(len(pairs)), (firsts, seconds)), shape=(photos, photos))
    numbers: NDArray[np.intp] = connected_components(graph, directed=False)[1]
    return numbers


def outliers(neighbours: Neighbours) -> NDArray[np.intp]:
    """Return the photos that are like no other, the strangest first.

    They are those whose mean cosine distance to their nearest photos is beyond Tukey's fence.
    """
    distances = 1.0 - neighbours.similarities.mean(axis=1)
    low, high = np.percentile(distances, [25, 75])
    far = np.flatnonzero(distances > high + FENCE * (high - low))
    chosen: NDArray[np.intp] = far[np.argsort(-distances[far], kind="stable")]
    return chosen
