"""What TensorFlow's own converter makes of a network: the dynamic-range and calibrated int8 files to compare with."""

from __future__ import annotations

import functools
import tempfile
import warnings
from collections.abc import Callable, Iterable

import keras
import numpy as np
from numpy.typing import NDArray

PREFIX = "tf.lite "


def tensorflows(
    served: keras.Model, float32: bytes, photos: Callable[[], Iterable[NDArray[np.uint8]]], quantised: str
) -> dict[str, bytes]:
    """Return its files by name.

    Args:
        served: ``image`` uint8 [1, H, W, 3] -> named outputs.
        float32: its float32 file.
        photos: [H, W, 3] to calibrate with.
        quantised: part of the names of the tensors that become int8 in the calibrated file.
    """
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    archive = keras.export.ExportArchive()
    archive.track(served)
    archive.add_endpoint(
        "serve",
        functools.partial(served.__call__, training=False),
        input_signature=[keras.InputSpec(shape=served.input_shape, dtype="uint8", name="image")],
    )
    names = [tensor["name"] for tensor in Interpreter(model_content=float32).get_tensor_details()]
    options = tf.lite.experimental.QuantizationDebugOptions(
        denylisted_nodes=[name for name in names if quantised not in name]
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The debugger, which alone takes such a list, also builds an interpreter of TensorFlow's that it never runs.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        dynamic = converter.convert()
        converter.representative_dataset = lambda: ({"image": photo[np.newaxis]} for photo in photos())
        debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
        return {f"{PREFIX}int8-dynamic": dynamic, f"{PREFIX}int8": debugger.get_nondebug_quantized_model()}
