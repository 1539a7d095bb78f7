"""Dead filters: channels of a backbone that answer the same whatever they see, and so tell nothing of any photo."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
from keras import layers, ops
from numpy.typing import NDArray

from trainer.networks import backbones


@dataclass(frozen=True)
class Filters:
    """The filters of one layer."""

    layer: str
    count: int
    silent: int
    """How many answer the same everywhere on the first photo."""
    dead: tuple[int, ...]
    """Those that answer the same everywhere on every photo."""


def count_dead(
    backbone: keras.Model, kind: backbones.Architecture, photos: Iterable[NDArray[np.uint8]]
) -> list[Filters]:
    """Count the filters of each activation of a backbone that do not answer.

    A rectifier that is closed everywhere gives 0 at every place of every photo; one that is always saturated, or has no
    input, gives another constant. That a filter is dead is said of these photos: the more there are, the surer.

    Args:
        backbone: uint8 photos -> features.
        kind: its architecture, for the scaling of pixels.
        photos: one after the other, uint8 [H, W, 3]; at least one.

    Returns:
        The layers of ``ReLU`` and ``Activation`` that have rows and columns, in the network's order.
    """
    core = backbones.backbone_core(backbone)
    active = [
        layer
        for layer in core.layers
        if isinstance(layer, (layers.ReLU, layers.Activation)) and len(layer.output.shape) == 4
    ]
    if not active:
        return []
    pixels = keras.Input(core.input_shape[1:], dtype="float32")
    answers = keras.Model(core.input, [layer.output for layer in active])(kind.scaling(pixels))
    # A list even of one: Keras would give that one alone.
    answers = answers if isinstance(answers, (list, tuple)) else [answers]
    lowest = ops.concatenate([ops.min(answer, axis=(1, 2)) for answer in answers], axis=-1)
    highest = ops.concatenate([ops.max(answer, axis=(1, 2)) for answer in answers], axis=-1)
    probe = keras.Model(pixels, [lowest, highest])
    low = high = silent = None
    for photo in photos:
        found = [np.asarray(each[0], np.float32) for each in probe.predict(photo[None].astype(np.float32), verbose=0)]
        if low is None or high is None:
            low, high = found
            silent = low == high
        low, high = np.minimum(low, found[0]), np.maximum(high, found[1])
    if low is None or high is None or silent is None:
        raise ValueError("Expected at least one photo; received none.")
    ends = np.cumsum([layer.output.shape[-1] for layer in active])[:-1]
    return [
        Filters(layer.name, len(own), int(quiet.sum()), tuple(np.flatnonzero(own).tolist()))
        for layer, own, quiet in zip(active, np.split(low == high, ends), np.split(silent, ends), strict=True)
    ]


def table(filters: Sequence[Filters]) -> pd.DataFrame:
    """Return a row a layer: ``layer``, ``filters``, ``silent``, ``dead``, ``dead_filters`` (their numbers)."""
    return pd.DataFrame(
        [(each.layer, each.count, each.silent, len(each.dead), " ".join(map(str, each.dead))) for each in filters],
        columns=["layer", "filters", "silent", "dead", "dead_filters"],
    )
