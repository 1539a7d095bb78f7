"""How pixels are scaled for a backbone: from uint8 0..255, RGB, to what its weights expect."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

SCALING = "scaling"
"""The layer's name."""


def _symmetric(image: Any) -> Any:
    """Scale 0..255 to -1..1."""
    return layers.Rescaling(1 / 127.5, offset=-1.0, name=SCALING)(image)


def _caffe(image: Any) -> Any:
    """Subtract ImageNet's channel means in BGR order, as the original ResNet weights expect."""
    swap = layers.Conv2D(3, 1, use_bias=True, trainable=False, name=SCALING, dtype="float32")
    scaled = swap(layers.Rescaling(1.0, name="to_float")(image))
    rgb_to_bgr = keras.ops.convert_to_numpy(keras.ops.flip(keras.ops.eye(3), axis=1))[None, None]
    swap.set_weights([rgb_to_bgr, keras.ops.convert_to_numpy([-103.939, -116.779, -123.68]).astype("float32")])
    return scaled


def _torch(image: Any) -> Any:
    """Scale 0..255 to 0..1, then by ImageNet's mean and standard deviation of each channel."""
    means, deviations = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return layers.Rescaling(
        [1 / (255 * each) for each in deviations],
        offset=[-mean / each for mean, each in zip(means, deviations, strict=True)],
        name=SCALING,
    )(image)


def _by_128(image: Any) -> Any:
    """Scale 0..255 to -1..0.992, as EfficientNetV2's larger networks do."""
    return layers.Rescaling(1 / 128, offset=-1.0, name=SCALING)(image)


def _lite(image: Any) -> Any:
    """Scale 0..255 as EfficientNet-Lite's weights expect: (x - 127) / 128."""
    return layers.Rescaling(1 / 128, offset=-127 / 128, name=SCALING)(image)


def _pixels(image: Any) -> Any:
    """Leave 0..255 as it is."""
    return layers.Rescaling(1.0, name=SCALING)(image)


def _unit(image: Any) -> Any:
    """Scale 0..255 to 0..1."""
    return layers.Rescaling(1 / 255, name=SCALING)(image)


SCALINGS = {
    "none": _pixels,
    "unit": _unit,
    "symmetric": _symmetric,
    "caffe": _caffe,
    "torch": _torch,
    "lite": _lite,
    "by_128": _by_128,
}
