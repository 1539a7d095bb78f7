"""The LiteRT files of a network: float32, float16, dynamic-range int8 and calibrated int8.

Calibrated int8 is made so that LiteRT's XNNPACK kernels run all of the backbone and the answers stay fine-grained:

- XNNPACK has no int8 ReLU. One that cannot be fused into the layer before it, because that layer's output is used
  elsewhere too, runs in LiteRT's portable kernel and tears the graph into pieces: a block of ReLU, depthwise
  convolution and sum took 33 times as long as in float32, and Xception's eleven took half of an int8 forward pass.
  `with_fusible_relus` puts a 1 x 1 max pooling before each, which changes no value, and into which the converter
  fuses it.
- What follows the features (pooling, head, softmax, heatmaps) stays float32: under 1 % of the arithmetic, while int8
  would give probabilities in steps of 1/256 and blur the heatmaps.
"""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import get_args

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from classifier.errors import PointerError
from trainer.export.quantisation import quantised
from trainer.networks import backbones, scalings
from trainer.run.export_options import VariantName

FLOAT32: VariantName = "float32"
INT8: VariantName = "int8"
VARIANTS: tuple[VariantName, ...] = get_args(VariantName)

QUANTISED = f"/{backbones.BACKBONE}(?!.*/{scalings.SCALING})"
"""Tensors of the backbone but for the scaled pixels, which as int8 would be rounded twice."""

Photos = Callable[[], Iterable[NDArray[np.uint8]]]
"""Returns photos [H, W, 3] to calibrate with, one after another."""


def convert_all(
    served: keras.Model, photos: Photos, variants: tuple[VariantName, ...] = VARIANTS
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Convert a network to several variants. Needs the TensorFlow backend.

    Args:
        served: ``image`` uint8 [1, H, W, 3] -> named outputs; see `trainer.networks.gradcam.serving_model`.
        photos: training photos, from which calibrated int8 learns the range of each layer.
        variants: which ones, besides float32, with which all are compared.

    Returns:
        The LiteRT files by variant, and why the others could not be made.

    Raises:
        Exception: what the converter raised at float32, without which nothing can be compared.
    """
    contents: dict[str, bytes] = {}
    failures: dict[str, str] = {}
    contents[FLOAT32] = _converted(served)
    for variant in (each for each in VARIANTS if each != FLOAT32 and each in variants):
        try:
            contents[variant] = _quantised(contents[FLOAT32], variant, photos)
        except (PointerError, OSError, ValueError, RuntimeError) as error:
            failures[variant] = reason(error)
    return contents, failures


def convert(served: keras.Model, variant: VariantName, photos: Photos = tuple) -> bytes:
    """Convert a network to one variant; see `convert_all`.

    Raises:
        Exception: what the converter raised.
    """
    float32 = _converted(served)
    return float32 if variant == FLOAT32 else _quantised(float32, variant, photos)


def with_fusible_relus(backbone: keras.Model) -> keras.Model:
    """Return a copy of a backbone that gives the same features, whose every ReLU can be fused; see this file's top."""
    apart = {layer.name for layer in _relus_apart(backbones.backbone_core(backbone))}

    def copy(layer: layers.Layer) -> layers.Layer:
        if layer.name in apart:
            return keras.Sequential([layers.MaxPooling2D(1), layers.ReLU()], name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    copied = keras.models.clone_model(backbone, clone_function=copy, recursive=True)
    copied.set_weights(backbone.get_weights())
    return copied


def reason(error: Exception) -> str:
    """Return an error's first line for a table, without the folders of this machine."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    # From a path's first slash to the last one: folders may have spaces in their names.
    return re.sub(r"(?<![\w.])/[^'\"]*/", "", first)[:200]


def _relus_apart(core: keras.Model) -> Iterator[layers.Layer]:
    """Yield the ReLUs whose input goes elsewhere too."""
    takers: dict[int, int] = {}
    for layer in core.layers:
        for tensor in keras.tree.flatten(layer.input):
            takers[id(tensor)] = takers.get(id(tensor), 0) + 1
    for layer in core.layers:
        plain = isinstance(layer, layers.ReLU) and layer.max_value is None and not layer.negative_slope
        named = isinstance(layer, layers.Activation) and layer.activation is keras.activations.relu
        if (plain or named) and takers[id(layer.input)] > 1 and len(layer.output.shape) == 4:
            yield layer


def _converted(served: keras.Model) -> bytes:
    """Return the float32 file. TensorFlow's converter is named here alone."""
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(served)
    archive.add_endpoint(
        "serve",
        functools.partial(served.__call__, training=False),
        input_signature=[keras.InputSpec(shape=served.input_shape, dtype="uint8", name="image")],
    )
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        content: bytes = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    return content


def _quantised(float32: bytes, variant: VariantName, photos: Photos) -> bytes:
    """Return a variant in which what follows the backbone is float32, but for float16's weights."""
    return quantised(float32, variant, QUANTISED, (photo[np.newaxis] for photo in photos()))
