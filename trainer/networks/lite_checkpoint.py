"""EfficientNet-Lite's weights as Google publishes them: TensorFlow checkpoints, numbers by name and no programs.

Lite 3 and 4 have no other. TensorFlow's own reader reads it; of each variable the average over the last steps of its
training is taken, as its authors' evaluation does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from classifier.errors import Corrupt, InvalidRequest, NotFound
from trainer.download.archive import unpack_tar

AVERAGE = "/ExponentialMovingAverage"
INDEX = ".index"
ARCHIVES = (".tar.gz", ".tgz")
LARGEST_ARCHIVE = 2 << 30
"""Bytes that an archive may unpack to; that of Lite 4, the largest, has a few hundred million."""
NORMALISATION = ("gamma", "beta", "moving_mean", "moving_variance")


def is_checkpoint(path: Path) -> bool:
    """Return whether a path is a checkpoint: its prefix, its index, a folder with one, or an archive of it."""
    return path.is_dir() or path.name.endswith((*ARCHIVES, INDEX)) or _index(path).is_file()


def load_checkpoint(network: keras.Model, path: Path) -> None:
    """Give a network the weights of a checkpoint.

    Args:
        network: from `efficientnet_lite.build`.
        path: see `is_checkpoint`.

    Raises:
        NotFound: there is no such file, or no checkpoint in it.
        InvalidRequest: it is another network's, damaged, or TensorFlow is not installed.
    """
    if path.name.endswith(ARCHIVES) and not path.is_dir():
        if not path.is_file():
            raise NotFound(f"Expected a checkpoint at {path}; there is none.")
        with tempfile.TemporaryDirectory() as folder:
            try:
                unpack_tar(path, Path(folder), Console(quiet=True), max_bytes=LARGEST_ARCHIVE)
            except Corrupt as error:
                raise InvalidRequest(f"{error} Download it again.") from error
            _load(network, _prefix(Path(folder), path), path)
    else:
        _load(network, _prefix(path, path), path)


def _load(network: keras.Model, prefix: Path, shown: Path) -> None:
    try:
        from tensorflow.errors import OpError
        from tensorflow.train import load_checkpoint as open_checkpoint
    except ImportError as error:
        raise InvalidRequest(
            f"Expected TensorFlow, which reads the checkpoint {shown}; it is not installed: pip install "
            "tensorflow-cpu, "
            "or give --weights a .weights.h5 file of Keras."
        ) from error
    try:
        reader = open_checkpoint(str(prefix))
        shapes = reader.get_variable_to_shape_map()
        root, normalisation = _names(shapes, network, shown)
        found = {layer.name: layer.get_weights() for layer in network.layers if layer.weights}
        for name, inside in _variables(list(found), normalisation):
            values = []
            for part, now in zip(inside, found[name], strict=True):
                variable = f"{root}/{part}"
                variable += AVERAGE if variable + AVERAGE in shapes else ""
                shape = tuple(shapes[variable]) if variable in shapes else None
                if shape != now.shape:
                    raise InvalidRequest(
                        f"Expected {variable} in {shown} with the shape {now.shape}, as {network.name} has it; "
                        + ("there is none." if shape is None else f"received {shape}.")
                    )
                values.append(reader.get_tensor(variable))
            network.get_layer(name).set_weights(values)
    except (OpError, ValueError, RuntimeError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidRequest(
            f"Expected a whole TensorFlow checkpoint; {shown} is none: {first.rstrip('.')}."
        ) from error


def _names(shapes: dict[str, Any], network: keras.Model, shown: Path) -> tuple[str, str]:
    """Return the first part of all names, and what batch normalisation is called."""
    stems = [name.removesuffix("/stem/conv2d/kernel") for name in shapes if name.endswith("/stem/conv2d/kernel")]
    if len(stems) != 1:
        raise InvalidRequest(f"Expected a checkpoint of {network.name}; {shown} is another network's.")
    on_tpu = f"{stems[0]}/stem/tpu_batch_normalization/gamma" in shapes
    return stems[0], "tpu_batch_normalization" if on_tpu else "batch_normalization"


def _variables(layers: list[str], normalisation: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each layer's name and those of its variables; a block's convolutions and normalisations are counted."""
    block, convolutions, normalisations, number = "", 0, 0, -1
    for name in layers:
        part, _, kind = name.partition("_") if name.startswith(("stem", "head")) else _split(name)
        if part != block:
            block, convolutions, normalisations = part, 0, 0
            number += part not in ("stem", "head")
        folder = part if part in ("stem", "head") else f"blocks_{number}"
        if kind.endswith("norm"):
            counted = f"{folder}/{normalisation}" + (f"_{normalisations}" if normalisations else "")
            normalisations += 1
            yield name, [f"{counted}/{each}" for each in NORMALISATION]
        elif kind == "depthwise":
            yield name, [f"{folder}/depthwise_conv2d/depthwise_kernel"]
        else:
            yield name, [f"{folder}/conv2d" + (f"_{convolutions}" if convolutions else "") + "/kernel"]
            convolutions += 1


def _split(name: str) -> tuple[str, str, str]:
    """Return block, "_" and the rest of a name such as ``block2_1_expand_norm``."""
    stage, repeat, kind = name.split("_", 2)
    return f"{stage}_{repeat}", "_", kind


def _prefix(path: Path, shown: Path) -> Path:
    if path.is_dir():
        indices = sorted(path.rglob(f"*{INDEX}"))
        if len(indices) != 1:
            raise NotFound(f"Expected one checkpoint in {shown}; found {len(indices)} files *{INDEX}.")
        path = indices[0]
    prefix = path.with_name(path.name.removesuffix(INDEX))
    if not _index(prefix).is_file():
        raise NotFound(f"Expected a checkpoint at {shown}; there is none.")
    return prefix


def _index(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + INDEX)
