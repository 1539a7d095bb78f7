"""A program: opens a checked Keras file or SavedModel and converts it to LiteRT; see `trainer.importing.isolated`.

``python -m trainer.importing.convert FOLDER KIND FILE OPTIONS`` writes ``float32.tflite`` into the folder. It takes
what the network takes: pixels are put in front of it by `trainer.importing.compose`, as of any .tflite.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from classifier.errors import InvalidRequest
from classifier.registry.manifest import MAX_SIDE
from trainer.importing.isolated import answer
from trainer.importing.source import Kind

TOLERANCE = 1e-3
"""Largest difference of an output, relative to its largest value, between the network and its float32 file."""


class Opened(NamedTuple):
    """A network that was opened."""

    call: Callable[[Any], Any]
    """From a batch in its own type to its output."""
    shape: tuple[int | None, ...]
    """Of its input."""
    dtype: Any
    trackable: Any
    """What has to stay alive."""


def main() -> None:
    """Run ``FOLDER KIND FILE OPTIONS``; the options are JSON."""
    folder, kind, file, options = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4])
    answer(folder, lambda: convert(folder, kind, file, **options))  # type: ignore[arg-type]


def convert(folder: Path, kind: Kind, file: Path, *, size: list[int] | None = None) -> dict[str, Any]:
    """Convert to float32; returns the input's shape.

    Raises:
        InvalidRequest: the network cannot be used, or its file gives other numbers than it does.
    """
    import tensorflow as tf

    network = _open(kind, file)
    shape = _image_shape(network.shape, size)
    spec = tf.TensorSpec(shape, tf.float32, name="image")
    function = tf.function(lambda image: tf.cast(network.call(tf.cast(image, network.dtype)), tf.float32))
    concrete = function.get_concrete_function(spec)
    # By way of a SavedModel that Keras writes, as every export here: of a function of a Keras network the converter
    # leaves the weights out, as variables that nothing ever fills.
    written = folder / "network"
    if kind != "saved-model":
        _write(network, function, spec, written)
    if kind == "saved-model":
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], network.trackable)
    else:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(written))
    try:
        content = converter.convert()
    except Exception as error:  # the converter raises what its passes raise
        raise InvalidRequest(
            f"Expected a network of LiteRT's built-in operators; it cannot be converted: {_first(error)}. Use "
            "layers that LiteRT knows."
        ) from error
    _expect_same(content, concrete, shape)
    (folder / "float32.tflite").write_bytes(content)
    return {"shape": list(shape)}


def _open(kind: Kind, file: Path) -> Opened:
    if kind == "saved-model":
        from trainer.importing.saved_model import expect_only_computes, load_signature

        expect_only_computes(file)
        call, spec, loaded = load_signature(file)
        shape = tuple(spec.shape) if spec.shape.rank is not None else ()
        if not (spec.dtype.is_floating or spec.dtype.is_integer):
            raise InvalidRequest(
                f"Expected a SavedModel that takes pixels; this one takes {spec.dtype.name}, as those do that decode "
                "photos themselves. Export the network alone, or its .tflite."
            )
        return Opened(call, shape, spec.dtype, loaded)
    from trainer.networks.keras_file import load_keras_file

    model = load_keras_file(file, kind)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InvalidRequest(
            f"Expected a network of one image and one output; received {len(model.inputs)} inputs and "
            f"{len(model.outputs)} outputs."
        )
    dtype = str(model.inputs[0].dtype)
    if not dtype.startswith(("float", "int", "uint")):
        raise InvalidRequest(f"Expected a network that takes pixels; this one takes {dtype}.")
    return Opened(lambda image: model(image, training=False), tuple(model.inputs[0].shape), dtype, model)


def _write(network: Opened, function: Any, spec: Any, folder: Path) -> None:
    import keras

    archive = keras.export.ExportArchive()
    archive.track(network.trackable)
    archive.add_endpoint("serve", function, input_signature=[spec])
    archive.write_out(str(folder), verbose=False)


def _image_shape(shape: tuple[int | None, ...], size: list[int] | None) -> tuple[int, ...]:
    """Return the input's shape with a batch of one and known sides.

    Raises:
        InvalidRequest: it takes no images, or of any size while none is told.
    """
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        said = [side if side is not None else "any" for side in shape]
        raise InvalidRequest(f"Expected a network that takes images [1, height, width, 3]; this one takes {said}.")
    last = shape[3] == 3
    sides = list(shape[1:3] if last else shape[2:4])
    for place, told in enumerate(reversed(size or [])):  # width x height as told, height before width here
        if sides[place] is not None and sides[place] != told:
            raise InvalidRequest(
                f"Expected --size to be {sides[1]}x{sides[0]}, as the network has it; received another."
            )
        sides[place] = told
    if None in sides:
        raise InvalidRequest(
            "Expected --size WIDTHxHEIGHT: the network takes images of any size. Tell the trained one."
        )
    height, width = (int(side) for side in sides)  # type: ignore[arg-type]
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise InvalidRequest(f"Expected images of at most {MAX_SIDE} pixels a side; received {width} x {height}.")
    return (1, height, width, 3) if last else (1, 3, height, width)


def _expect_same(content: bytes, concrete: Any, shape: tuple[int, ...]) -> None:
    """Compare the file with the network on noise of the ranges that networks take.

    Raises:
        InvalidRequest: they differ.
    """
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    rng = np.random.default_rng(0)
    for low, high in ((0, 1), (-1, 1), (0, 255)):
        image = rng.uniform(low, high, shape).astype(np.float32)
        expected = concrete(tf.constant(image)).numpy()
        interpreter.set_tensor(into, image)
        interpreter.invoke()
        given = interpreter.get_tensor(out)
        most = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        if given.shape != expected.shape or not np.allclose(given, expected, atol=most, equal_nan=True):
            raise InvalidRequest("Expected the converted file to give what the network gives; it gives other numbers.")


def _first(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300].rstrip(".")


if __name__ == "__main__":
    main()
