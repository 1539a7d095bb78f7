"""A score of how much a photo is like those that the network was trained on, computed inside the served file.

It is made of one or two signals, each of which is low for photos of something else, for a reason of its own:

- ``kernel``: the largest output of `networks.kernel_score`. Good at photos of nearly the right thing, and at others.
- ``probability``: the largest probability (Hendrycks and Gimpel 2017), the baseline.
- ``energy``: log sum exp of the logits (Liu et al. 2020). Good at things that resemble the classes.
- ``similarity``: cosine between the pooled features and the nearest class mean. Good at things of another kind.
- ``residual``: minus the squared length of what the features have outside of the training photos' principal subspace,
  the feature part of ViM (Wang et al. 2022).

A signal s becomes z = (s - median) / (third - first quartile), both of validation photos; the score is the logistic
function of z, or of the mean of two: 0.5 for the median photo, near 0 for OOD photos, and thresholds stay within 0..1.
The same `signal` is used to fit, to choose and to export.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from trainer.metrics.separation import TRADES, auroc, threshold, trade
from trainer.networks.kernel_score import KernelBank, fit_bank

Array = NDArray[np.floating[Any]]

METHODS: dict[str, tuple[str, ...]] = {
    "kernel": ("kernel",),
    "energy+similarity": ("energy", "similarity"),
    "energy+residual": ("energy", "residual"),
    "similarity": ("similarity",),
    "residual": ("residual",),
    "energy": ("energy",),
    "probability": ("probability",),
}
"""Candidates by name, preferred ones first: where two tell OOD photos equally well, the first is taken."""
COMPONENTS = 64
"""Principal components at most: with more the subspace explains photos of anything."""
SAME = 0.01
"""AUROCs closer than this count as equal: about the standard error on a hundred photos."""
EPSILON = 1e-6
REGRESSED, REGULARISATION = 256, 1 / 280
"""Components, and the inverse penalty for features of variance 1, of the regression that stands for a head; it is that
of the heads of a training."""


@dataclass(frozen=True)
class FeatureSpace:
    """Where the training photos lie among the pooled features."""

    class_means: Array
    """Unit vectors, [classes, channels]."""
    centre: Array
    """Mean of all training photos, [channels]."""
    components: Array
    """Their principal components, orthonormal, [channels, components]."""
    bank: KernelBank | None = None
    """None of a bundle of before there was one, and where the training photos are gone: without ``kernel``."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Return the methods that can be computed, preferred ones first."""
        return tuple(name for name in METHODS if self.bank is not None or "kernel" not in METHODS[name])


@dataclass(frozen=True)
class OodScore:
    """How the score is computed."""

    method: str
    """A key of `METHODS`."""
    space: FeatureSpace
    scales: Mapping[str, tuple[float, float]]
    """Median and interquartile range of each signal on validation photos."""

    def scores(self, pooled: Any, logits: Any) -> Any:
        """Return the scores [n, 1] of pooled features [n, channels] and tempered logits [n, classes]."""
        parts = [
            (signal(name, pooled, logits, self.space) - self.scales[name][0]) / self.scales[name][1]
            for name in METHODS[self.method]
        ]
        return ops.sigmoid(sum(parts[1:], parts[0]) / len(parts))

    def of(self, method: str) -> OodScore:
        """Return the same by another method."""
        return replace(self, method=method)


@keras.saving.register_keras_serializable(package="pointer")
class OodScoreLayer(layers.Layer):  # type: ignore[misc]
    """Pooled features [n, channels] and tempered logits [n, classes] -> scores [n, 1]."""

    def __init__(self, score: OodScore, **kwargs: Any) -> None:
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self._score = score

    def call(self, pooled: Any, logits: Any) -> Any:
        """Return the scores."""
        return self._score.scores(pooled, logits)


def signal(name: str, pooled: Any, logits: Any, space: FeatureSpace) -> Any:
    """Return one signal [n, 1] as a float32 tensor: higher for photos that are like the training photos."""
    pooled, logits = ops.cast(pooled, "float32"), ops.cast(logits, "float32")
    if name == "kernel" and space.bank is not None:
        return ops.max(space.bank.outputs(pooled), axis=-1, keepdims=True)
    if name == "probability":
        return ops.max(ops.softmax(logits), axis=-1, keepdims=True)
    if name == "energy":
        return ops.logsumexp(logits, axis=-1, keepdims=True)
    if name == "similarity":
        length = ops.sqrt(ops.sum(ops.square(pooled), axis=-1, keepdims=True)) + EPSILON
        cosines = ops.matmul(pooled / length, _constant(space.class_means.T))
        return ops.max(cosines, axis=-1, keepdims=True)
    centred = pooled - _constant(space.centre)
    inside = ops.matmul(centred, _constant(space.components))
    return ops.sum(ops.square(inside), axis=-1, keepdims=True) - ops.sum(ops.square(centred), axis=-1, keepdims=True)


def feature_space(
    pooled: Array,
    truth: NDArray[np.int32],
    components: int = COMPONENTS,
    *,
    others: Array | None = None,
    with_bank: bool = True,
) -> FeatureSpace:
    """Describe the features of training photos.

    Args:
        pooled: [photos, channels].
        truth: class numbers; the classes are those that occur.
        components: principal components at most.
        others: features of photos of something else that the kernel machine learns from.
        with_bank: whether there is a kernel machine; not of photos that the score is to be measured on.
    """
    from scipy.linalg import eigh

    bank = fit_bank(pooled, truth, others) if with_bank and len(pooled) > 1 else None
    pooled = pooled.astype(np.float64)
    means = np.stack([pooled[truth == number].mean(axis=0) for number in np.unique(truth)])
    centre = pooled.mean(axis=0)
    centred = pooled - centre
    # Half of the photos at least must be left to tell what lies outside.
    kept = max(1, min(components, len(pooled) // 2, pooled.shape[1] // 2))
    lengths = np.linalg.norm(means, axis=1, keepdims=True) + EPSILON
    channels = pooled.shape[1]
    _, vectors = eigh(centred.T @ centred, subset_by_index=(channels - kept, channels - 1))
    return FeatureSpace(means / lengths, centre, vectors[:, ::-1], bank)


def fit(space: FeatureSpace, pooled: Array, logits: Array, method: str | None = None) -> OodScore:
    """Return the score whose scales are those of validation photos.

    Args:
        space: of the training photos.
        pooled: features of validation photos, [photos, channels].
        logits: their tempered logits, [photos, classes].
        method: a key of `METHODS`; None for the preferred one.
    """
    scales = {}
    for name in sorted({name for method in space.methods for name in METHODS[method]}):
        low, middle, high = np.quantile(np.asarray(signal(name, pooled, logits, space), np.float64), (0.25, 0.5, 0.75))
        scales[name] = (float(middle), float(max(high - low, EPSILON)))
    return OodScore(method or space.methods[0], space, scales)


class Separation(NamedTuple):
    """How well a method tells OOD photos from known photos."""

    auroc: float
    accepted: float
    """Share of the OOD photos that reach the threshold of the known photos."""
    trade: tuple[float, ...] = ()
    """Share of them that is told at each of `metrics.separation.TRADES`."""


def compare(score: OodScore, known: tuple[Array, Array], ood: tuple[Array, Array]) -> dict[str, Separation]:
    """Return how well each method tells them.

    Args:
        score: the fitted score.
        known: pooled features and tempered logits of photos of the classes.
        ood: those of other photos.
    """
    told = {}
    for method in score.space.methods:
        ours, others = (np.asarray(score.of(method).scores(*each), np.float64) for each in (known, ood))
        told[method] = Separation(auroc(ours, others), float((others >= threshold(ours)).mean()), trade(ours, others))
    return told


def compare_left_out(
    train: tuple[Array, NDArray[np.int32]],
    validation: tuple[Array, NDArray[np.int32]],
    *,
    with_bank: bool = True,
) -> dict[str, Separation]:
    """Return how well each method tells OOD photos on average where classes in turn stand for them.

    Class means, subspace, kernel machine and logits are those of the other classes. The logits are a logistic
    regression's: a head that has learnt to tell a class from the others keeps its photos away from their logits also
    without its own. At most ten parts of the classes are left out, one after another.

    Args:
        train: pooled features [photos, channels] and class numbers.
        validation: the same of validation photos.
        with_bank: see `feature_space`.
    """
    features, truth = train
    pooled, labels = validation
    methods = [name for name in METHODS if with_bank or "kernel" not in METHODS[name]]
    classes = np.unique(labels)
    found = []
    for part in np.array_split(classes, min(10, len(classes))):
        kept = np.setdiff1d(np.unique(truth), part)
        known = ~np.isin(labels, part)
        if not known.any() or not len(kept):
            continue
        inside = np.isin(truth, kept)
        space = feature_space(features[inside], truth[inside], with_bank=with_bank)
        logits = regressed(features[inside], truth[inside], pooled)
        ours, others = ((pooled[those], logits[those]) for those in (known, ~known))
        found.append(compare(fit(space, *ours), ours, others))
    if not found:
        return dict.fromkeys(methods, Separation(0.5, 1.0, tuple(1 - share for share in TRADES)))
    return {method: _mean([each[method] for each in found]) for method in methods}


def shuffled_tiles(photo: NDArray[np.uint8], tiles: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a photo [H, W, 3] of the same colours and textures that shows nothing: cut into tiles and shuffled."""
    height, width = photo.shape[0] // tiles, photo.shape[1] // tiles
    shuffled = photo.copy()
    places = [(row * height, column * width) for row in range(tiles) for column in range(tiles)]
    for (top, left), number in zip(places, rng.permutation(len(places)), strict=True):
        y, x = places[int(number)]
        shuffled[top : top + height, left : left + width] = photo[y : y + height, x : x + width]
    return shuffled


def best_method(aurocs: Mapping[str, float]) -> str:
    """Return the method with the highest AUROC; of equals (see `SAME`) the preferred one."""
    highest = max(aurocs.values())
    return next(method for method in METHODS if aurocs.get(method, 0) >= highest - SAME)


def regressed(features: Array, truth: NDArray[np.int32], tested: Array) -> NDArray[np.float32]:
    """Return the logits [photos, classes] of features by a logistic regression on the features of training photos.

    Args:
        features: pooled, of training photos, [photos, channels].
        truth: their class numbers; the classes are those that occur.
        tested: pooled features of other photos.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.utils.extmath import randomized_svd

    classes = np.unique(truth)
    if len(classes) == 1:
        return np.zeros((len(tested), 1), np.float32)
    centre, scale = features.mean(axis=0), np.sqrt(features.var(axis=0).mean()) + EPSILON
    _, _, vectors = randomized_svd((features - centre) / scale, min(REGRESSED, *features.shape), random_state=0)
    placed, wanted = (((each - centre) / scale) @ vectors.T for each in (features, tested))
    regression = LogisticRegression(C=REGULARISATION, max_iter=100).fit(placed, truth)
    found = regression.decision_function(wanted)
    logits = np.stack([-found, found], axis=1) / 2 if found.ndim == 1 else found
    return logits.astype(np.float32)


def _mean(found: Sequence[Separation]) -> Separation:
    trades = np.mean([each.trade for each in found], axis=0)
    return Separation(
        float(np.mean([each.auroc for each in found])),
        float(np.mean([each.accepted for each in found])),
        tuple(map(float, trades)),
    )


def _constant(values: Array) -> Any:
    return ops.convert_to_tensor(np.asarray(values, np.float32))
