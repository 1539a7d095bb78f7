"""Pictures of a network's layers: what they make of a photo, and what their filters answer to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from classifier.quiet import quiet
from trainer.networks import backbones
from trainer.report import insides, mosaics


def activations(photo: NDArray[np.uint8], found: Sequence[insides.Layer]) -> Figure:
    """Draw a row a layer: a photo [H, W, 3], and the channels of the layer that differ most over it."""
    heat = mpl.colormaps["viridis"]
    return mosaics.photo_rows(
        [
            (_title(layer), [photo, *(_coloured(heat, layer.picture(channel)) for channel in layer.strongest())])
            for layer in found
        ]
    )


def filter_patterns(
    backbone: keras.Model, kind: backbones.Architecture, found: Sequence[insides.Layer], seed: int
) -> Figure:
    """Draw a row a layer: pictures that its strongest channels answer to, by `insides.patterns`.

    Needs the TensorFlow backend.
    """
    rows: list[tuple[str, list[NDArray[np.uint8]]]] = []
    for layer in found:
        channels = layer.strongest(insides.PATTERNS)
        with quiet(tell_on_error=True):  # TensorFlow remarks on every function that is traced anew
            sought = insides.patterns(backbone, kind, layer.name, channels, seed)
        rows.append((f"{layer.name}, channels {', '.join(map(str, channels))}", list(sought)))
    return mosaics.photo_rows(rows)


def _title(layer: insides.Layer) -> str:
    rows, columns, channels = layer.maps.shape
    return f"{layer.name}: {rows} x {columns} cells, {channels} channels"


def _coloured(heat: Any, plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    colours: NDArray[np.uint8] = heat(plane, bytes=True)[..., :3]
    return colours
