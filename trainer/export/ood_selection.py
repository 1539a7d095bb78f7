"""Fits the score of `networks.ood_score` to a trained network, and chooses its method, before the network is exported.

Test photos have no part in it. Where photos of something else are given, every other one is learnt from (outlier
exposure), if the rest is told better so, and the method that tells the rest best from the validation photos is taken.
Without them, two kinds of substitutes are made: validation photos of classes left out in turn, which resemble what the
network knows, and validation photos cut into tiles and shuffled, which have its colours and textures and show nothing.
The method with the best mean of both AUROCs is taken.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from trainer.data.generator import PhotoSequence
from trainer.data.loaders import class_targets
from trainer.data.ood_photos import readable_rows
from trainer.data.sampling import calibration_rows
from trainer.data.source import PhotoSource
from trainer.metrics.separation import TRADES
from trainer.networks import ood_score
from trainer.networks.ood_score import OodScore
from trainer.run.progress import counting
from trainer.training.trained import Trained

FEATURE_PHOTOS = 4000
"""Training photos that class means and subspace are made of, as many of each class."""
SUBSTITUTES = 200
"""Validation photos at most that are shuffled."""
TILES = 7
"""Each side is cut into so many."""


class Features(NamedTuple):
    """What a network makes of photos."""

    pooled: NDArray[np.float32]
    """[photos, channels]"""
    logits: NDArray[np.float32]
    """[photos, classes], at temperature 1."""

    def tempered(self, temperature: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return pooled features, and logits divided by the temperature."""
        return self.pooled, self.logits / np.float32(temperature)


class Scoring(NamedTuple):
    """The score, how it was chosen, and which of the given OOD photos had no part in fitting it."""

    score: OodScore
    figures: dict[str, Any]
    """For the manifest: the method, by what it was chosen, each method's AUROCs, and what is told at which price."""
    unseen: NDArray[np.intp]
    """Rows of the OOD photos that were not learnt from."""


class FeatureExtractor:
    """A trained network as photos -> pooled features and logits, in float32.

    Args:
        trained: the network and its photos.
        kept: rows of its photos whose pooled features are known, and these; see `features_of_backbone`.
    """

    def __init__(
        self, trained: Trained, kept: tuple[NDArray[np.intp], NDArray[np.floating[Any]]] | None = None
    ) -> None:
        self._source, self._head, self._kept = trained.photos.source, trained.head, kept
        image = keras.Input(trained.backbone.input_shape[1:], dtype="uint8", name="image")
        pooled = keras.layers.GlobalAveragePooling2D(dtype="float32")(trained.backbone(image, training=False))
        self._model = keras.Model(image, (pooled, trained.head(pooled, training=False)))

    def __call__(self, source: Any, rows: NDArray[np.intp], console: Console, what: str) -> Features:
        """Return what the network makes of some photos of a source."""
        if self._kept is not None and source is self._source and np.isin(rows, self._kept[0]).all():
            order = np.argsort(self._kept[0])
            known = self._kept[1][order[np.searchsorted(self._kept[0], rows, sorter=order)]].astype(np.float32)
            return Features(known, np.asarray(self._head.predict(known, verbose=0), np.float32))
        batches = PhotoSequence(source, rows, None, shuffle=False)
        with counting(console, what, len(batches)) as step:
            callback = keras.callbacks.LambdaCallback(on_predict_batch_end=lambda batch, logs: step())
            pooled, logits = self._model.predict(batches, verbose=0, callbacks=[callback])
        return Features(np.asarray(pooled, np.float32), np.asarray(logits, np.float32))


def training_features(
    trained: Trained, look: FeatureExtractor, console: Console
) -> tuple[NDArray[np.float32], NDArray[np.int32]] | None:
    """Return pooled features [photos, channels] and class numbers of up to `FEATURE_PHOTOS` training photos.

    None where a class has none that can be read: an export on a machine that no longer has the training photos.
    """
    frame, source = trained.photos.frame, trained.photos.source
    truth = class_targets(frame["label"], trained.labels, one_hot=False)
    rows = calibration_rows(list(frame["label"]), np.flatnonzero(frame["split"] == "train"), FEATURE_PHOTOS)
    rows = readable_rows(source, rows)
    if len(np.unique(truth[rows])) < len(trained.labels):
        return None
    return look(source, rows, console, "features of training photos").pooled, truth[rows]


def fit_score(
    trained: Trained,
    look: FeatureExtractor,
    train: tuple[NDArray[np.float32], NDArray[np.int32]] | None,
    validation: tuple[NDArray[np.intp], Features],
    temperature: float,
    ood: PhotoSource | None,
    console: Console,
) -> Scoring:
    """Fit the score and choose its method.

    Args:
        trained: the network and its photos.
        look: the same network.
        train: see `training_features`; None to make do with the validation photos.
        validation: rows of the validation photos, and what the network makes of them.
        temperature: what the logits are divided by when they are served.
        ood: photos of something else, if there are any.
        console: where progress is shown.
    """
    frame, source = trained.photos.frame, trained.photos.source
    truth = class_targets(frame["label"], trained.labels, one_hot=False)
    rows, seen = validation
    known = seen.tempered(temperature)
    complete = train is not None
    features, targets = (seen.pooled, truth[rows]) if train is None else train
    score = ood_score.fit(ood_score.feature_space(features, targets, with_bank=complete), *known)
    left_out = ood_score.compare_left_out((features, targets), (seen.pooled, truth[rows]), with_bank=complete)
    unseen, exposed = np.arange(0 if ood is None else len(ood)), 0
    if ood is not None:
        others = look(ood, unseen, console, "features of OOD photos")
        if complete and len(ood) > 1:
            score, unseen = _exposed(score, (features, targets), known, (others.pooled, others.logits / temperature))
            exposed = len(ood) - len(unseen)
        rest = Features(others.pooled[unseen], others.logits[unseen])
        found = {"ood": ood_score.compare(score, known, rest.tempered(temperature))}
    else:
        shuffled = _Shuffled(source)
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(SUBSTITUTES, len(rows))).astype(int))]
        others = look(shuffled, chosen, console, "features of shuffled photos")
        found = {
            "classes_left_out": left_out,
            "shuffled_tiles": ood_score.compare(score, known, others.tempered(temperature)),
        }
    method = ood_score.best_method(
        {name: float(np.mean([each[name].auroc for each in found.values()])) for name in score.space.methods}
    )
    aurocs = {by: {name: round(told.auroc, 4) for name, told in each.items()} for by, each in found.items()}
    accepted = {by: round(each[method].accepted, 4) for by, each in found.items()}
    nearest = left_out[method]
    figures: dict[str, Any] = {
        "method": method,
        "chosen_by": aurocs,
        "ood_accepted": accepted,
        "near": {"auroc": round(nearest.auroc, 4), "rejected": round(1 - nearest.accepted, 4)},
        "trade": {"pass": list(TRADES)}
        | {by: [round(share, 4) for share in each[method].trade] for by, each in found.items()},
    }
    if exposed:
        figures["exposed"] = exposed
    return Scoring(score.of(method), figures, unseen)


def _exposed(
    score: OodScore,
    train: tuple[NDArray[Any], NDArray[np.int32]],
    known: tuple[NDArray[Any], NDArray[Any]],
    others: tuple[NDArray[Any], NDArray[Any]],
) -> tuple[OodScore, NDArray[np.intp]]:
    """Return the score that learns from every other OOD photo, and the rows of the rest.

    Where that is no gain, it is the same score, and all rows.
    """
    pooled, logits = others
    rest = np.arange(1, len(pooled), 2)
    learnt = ood_score.fit(ood_score.feature_space(*train, others=pooled[::2]), *known)
    before, after = (
        ood_score.compare(each, known, (pooled[rest], logits[rest]))["kernel"].auroc for each in (score, learnt)
    )
    return (learnt, rest) if after > before else (score, np.arange(len(pooled)))


class _Shuffled:
    """A photo source whose photos are cut into tiles and shuffled."""

    def __init__(self, source: PhotoSource) -> None:
        self._source = source

    def array(self, row: int) -> NDArray[np.uint8]:
        return ood_score.shuffled_tiles(self._source.array(row), TILES, np.random.default_rng(row))
