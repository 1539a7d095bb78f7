"""How much of any class a photo shows, by a kernel machine over a bank of training photos: it falls to 0 far from them.

Kernel ridge regression of the classes' indicators on the features (the posterior mean of Gaussian process regression on
labels: Rasmussen and Williams 2006, 6.5), with the kernel exp(-d²). A softmax has to divide itself among the classes it
knows; this does not: between the classes, where photos of nearly the right thing lie, no output is high, as in DUQ (van
Amersfoort et al. 2020) and SNGP (Liu et al. 2020), but without training the network for it.

Features are square roots of the pooled ones, signs kept, of unit length (Hellinger), centred, and scaled so that
training photos are at a mean squared distance of 1 from their centre. Distances are those within the principal
components plus what both photos have outside of them, as if these parts were at right angles: in a thousand dimensions
they nearly are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

COMPONENTS = 256
BANK = 1024
"""Training photos at most whose features are kept in the file, as many of each class."""
RIDGE = 0.1
EPSILON = 1e-6


@dataclass(frozen=True)
class KernelBank:
    """What the kernel machine is made of."""

    centre: Array
    """Of the normalised features, [channels]."""
    projection: Array
    """Principal components, orthonormal, divided by the scale, [channels, components]."""
    scale: Array
    """What centred features are divided by, []."""
    photos: Array
    """Those kept, in the components, [photos, components]."""
    weights: Array
    """Of their kernels, one output a class, [photos, classes]."""

    def outputs(self, pooled: Any) -> Any:
        """Return the outputs [n, classes] of pooled features [n, channels]: about 1 for the class, 0 for no class."""
        inside, outside = _placed(ops.cast(pooled, "float32"), self)
        photos = _constant(self.photos)
        squares = ops.sum(ops.square(inside), axis=-1, keepdims=True) + ops.sum(ops.square(photos), axis=-1)
        distances = ops.relu(squares - 2 * ops.matmul(inside, ops.transpose(photos))) + outside
        return ops.matmul(ops.exp(-distances), _constant(self.weights))


def fit_bank(
    pooled: Array, truth: NDArray[np.integer[Any]], others: Array | None = None, *, components: int = COMPONENTS
) -> KernelBank:
    """Fit the kernel machine.

    Args:
        pooled: features of training photos, [photos, channels].
        truth: their class numbers; the outputs are those of the numbers that occur, in order.
        others: features of photos of something else, for which every output is to be 0 (outlier exposure, Hendrycks
            et al. 2019).
        components: principal components at most.
    """
    from sklearn.utils.extmath import randomized_svd

    targets = (truth[:, None] == np.unique(truth)).astype(np.float64)
    features, groups = _normalised(np.asarray(pooled, np.float64)), np.unique(truth, return_inverse=True)[1]
    centre = features.mean(axis=0)
    scale = np.sqrt(((features - centre) ** 2).sum(axis=1).mean()) + EPSILON
    kept = max(1, min(components, len(features) - 1, features.shape[1]))
    _, _, vectors = randomized_svd((features - centre).astype(np.float32), kept, random_state=0)
    if others is not None:
        features = np.concatenate([features, _normalised(np.asarray(others, np.float64))])
        targets = np.concatenate([targets, np.zeros((len(others), targets.shape[1]))])
        groups = np.concatenate([groups, np.full(len(others), targets.shape[1])])
    projection = vectors.T.astype(np.float64) / scale
    centred = features - centre
    inside = centred @ projection
    outside = np.maximum((centred**2).sum(axis=1) / scale**2 - (inside**2).sum(axis=1), 0)
    bank = _evenly(groups, BANK)
    kernel = _kernel(inside, outside, bank)
    own = kernel[bank]
    ridge = RIDGE * own + EPSILON * np.eye(len(bank))
    weights = np.linalg.solve(kernel.T @ kernel + ridge, kernel.T @ targets)
    # The outside part of each kept photo's distance is the same for every photo: it goes into its weights.
    return KernelBank(centre, projection, scale, inside[bank], weights * np.exp(-outside[bank])[:, None])


def _placed(pooled: Any, bank: KernelBank) -> tuple[Any, Any]:
    """Return where photos lie within the components, [n, components], and what they have outside, squared, [n, 1]."""
    roots = ops.sign(pooled) * ops.sqrt(ops.abs(pooled))
    length = ops.sqrt(ops.sum(ops.square(roots), axis=-1, keepdims=True)) + EPSILON
    centred = roots / length - _constant(bank.centre)
    inside = ops.matmul(centred, _constant(bank.projection))
    whole = ops.sum(ops.square(centred), axis=-1, keepdims=True) / float(bank.scale) ** 2
    return inside, ops.relu(whole - ops.sum(ops.square(inside), axis=-1, keepdims=True))


def _kernel(inside: Array, outside: Array, bank: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the kernels [photos, bank] of training photos with those kept; of a photo with itself 1."""
    squares = (inside**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[bank] - 2 * inside @ inside[bank].T, 0)
    distances += outside[:, None] + outside[bank]
    distances[bank, np.arange(len(bank))] = 0
    kernel: NDArray[np.float64] = np.exp(-distances)
    return kernel


def _normalised(pooled: NDArray[np.float64]) -> NDArray[np.float64]:
    roots = np.sign(pooled) * np.sqrt(np.abs(pooled))
    normalised: NDArray[np.float64] = roots / (np.linalg.norm(roots, axis=1, keepdims=True) + EPSILON)
    return normalised


def _evenly(groups: NDArray[np.integer[Any]], most: int) -> NDArray[np.intp]:
    """Return rows of at most so many photos: the first of each group, then the second of each, and so on."""
    rank = np.empty(len(groups), np.intp)
    for number in np.unique(groups):
        rows = np.flatnonzero(groups == number)
        rank[rows] = np.random.default_rng(0).permutation(len(rows))
    chosen: NDArray[np.intp] = np.sort(np.argsort(rank, kind="stable")[:most])
    return chosen


def _constant(values: Array) -> Any:
    return ops.convert_to_tensor(np.asarray(values, np.float32))
