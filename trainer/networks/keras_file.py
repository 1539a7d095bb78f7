"""Opens a .keras or HDF5 file: what it asks of Keras is read first, and only layers of Keras itself are let in."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

from classifier.errors import InvalidRequest

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
LARGEST_CONFIG = 64 << 20
LARGEST_WEIGHTS = 4 << 30
MOST_RATIO = 1000
"""By which weights may be smaller in the archive than unpacked: Keras does not compress them at all."""
LARGEST_NUMBER = 1 << 24
"""In a configuration, such as of units."""
REFUSED = {
    "Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup", "IntegerLookup",
    "TextVectorization", "HashedCrossing", "Hashing", "TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "function",
    "__lambda__",
}  # fmt: skip
"""What is a program, opens other files, or is of another Keras."""
DAMAGED = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError)
MODELS = ("Functional", "Sequential", "Model")
OTHERS = ("DTypePolicy", "Policy", "QuantizedDTypePolicy", "__tuple__", "slice", "__keras_tensor__")
VALUES = (keras.initializers, keras.regularizers, keras.constraints, keras.activations, keras.optimizers, keras.losses)


class DepthwiseConv2D(keras.layers.DepthwiseConv2D):  # type: ignore[misc]
    """Keras 2 wrote ``groups``, always 1, which Keras 3 does not take: every export of Teachable Machine has it."""

    def __init__(self, *args: Any, groups: int = 1, **options: Any) -> None:
        super().__init__(*args, **options)


def load_keras_file(path: Path, kind: str) -> keras.Model:
    """Return the network of a file, not compiled.

    Args:
        path: the file.
        kind: "keras" or "hdf5".

    Raises:
        InvalidRequest: it is damaged, has no architecture, or one that is not made of Keras's own layers alone.
    """
    expect_plain_config(_archived_config(path) if kind == "keras" else _hdf5_config(path))
    try:
        return keras.saving.load_model(
            path, compile=False, safe_mode=True, custom_objects={"DepthwiseConv2D": DepthwiseConv2D}
        )
    except MemoryError:
        raise
    except Exception as error:  # Keras raises what its layers raise
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InvalidRequest(
            f"Expected a network that Keras {keras.__version__} can open; {path.name} is none: "
            f"{first[:300].rstrip('.')}. Export it as a SavedModel or to .tflite with the Keras that made it, and "
            "import that."
        ) from error


def expect_plain_config(config: Any) -> None:
    """Look at all that a configuration names.

    Raises:
        InvalidRequest: something is not Keras's own, is a program, or opens files.
    """
    for part in _objects(config):
        name, module = part.get("class_name"), part.get("module")
        if not isinstance(name, str):
            continue
        short = name.rpartition(">")[2]
        own = module is None or str(module).split(".")[0] in ("keras", "builtins", "tensorflow")
        if short in REFUSED:
            raise InvalidRequest(
                f"Expected layers of Keras that only compute; received {short}, which holds a program or opens files: "
                "it is not opened. Replace it with Keras's own layers (Rescaling, Resizing), or export the network to "
                ".tflite where you trust it."
            )
        if not own or name != short or not _is_known(short):
            raise InvalidRequest(
                f"Expected layers of Keras itself; received the custom object {name!r}. Export the network to .tflite "
                "or as a SavedModel where its code is, and import that."
            )


def _is_known(name: str) -> bool:
    if name in MODELS or name in OTHERS or hasattr(keras.layers, name):
        return True
    return any(hasattr(module, name) for module in VALUES)


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a configuration, however deep, without recursion.

    Raises:
        InvalidRequest: a number is too large to be meant.
    """
    left = [config]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            yield each
            left += [value for key, value in each.items() if key != "shared_object_id"]
        elif isinstance(each, list):
            left += each
        elif isinstance(each, int) and abs(each) > LARGEST_NUMBER:
            raise InvalidRequest(
                f"Expected sizes of at most {LARGEST_NUMBER:,} in the network's configuration; received {each:,}."
            )


def _archived_config(path: Path) -> Any:
    """Return the configuration of a .keras file, after a look at what unpacking it would write."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            if CONFIG not in entries or WEIGHTS not in entries:
                raise InvalidRequest(f"Expected {CONFIG} and {WEIGHTS} in {path.name}; it is no file of Keras 3.")
            for name, entry in entries.items():
                most = LARGEST_WEIGHTS if name == WEIGHTS else LARGEST_CONFIG
                packed = entry.file_size > LARGEST_CONFIG and entry.file_size > MOST_RATIO * max(1, entry.compress_size)
                if entry.file_size > most or packed:
                    raise InvalidRequest(
                        f"Expected {name} in {path.name} to unpack to at most {most:,} bytes, and not from a "
                        f"thousandth; received {entry.compress_size:,} bytes that unpack to {entry.file_size:,}."
                    )
            with archive.open(WEIGHTS) as weights, h5py.File(io.BytesIO(weights.read()), "r") as opened:
                _expect_plain_hdf5(opened)
            return json.loads(archive.read(CONFIG))
    except DAMAGED as error:
        raise InvalidRequest(f"Expected a whole .keras file; {path.name} is damaged. Export it again.") from error


def _hdf5_config(path: Path) -> Any:
    try:
        with h5py.File(path, "r") as opened:
            _expect_plain_hdf5(opened)
            config = opened.attrs.get("model_config")
            if config is None:
                raise InvalidRequest(
                    f"Expected a network in {path.name}; it has weights alone. Save the whole network (model.save), "
                    "not its weights, and import that."
                )
            return json.loads(config)
    except (OSError, ValueError, RuntimeError, RecursionError, TypeError) as error:
        raise InvalidRequest(f"Expected a whole HDF5 file; {path.name} is damaged. Export it again.") from error


def _expect_plain_hdf5(group: Any) -> None:
    """Refuse what leads out of a file: links to other files, and values that lie there.

    Raises:
        InvalidRequest: there is such a thing.
    """
    left = [group]
    seen = set()
    while left:
        each = left.pop()
        for name in each:
            link = each.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise InvalidRequest("Expected an HDF5 file without links; received one with a link. Save it anew.")
            item = each[name]
            if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise InvalidRequest("Expected values inside of the HDF5 file; received some in other files.")
            if isinstance(item, h5py.Group) and item.id.__hash__() not in seen:
                seen.add(item.id.__hash__())
                left.append(item)
