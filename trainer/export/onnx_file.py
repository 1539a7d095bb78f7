"""A network as an ONNX file, made with tf2onnx and run with ONNX Runtime: the extra `onnx`."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.errors import NotFound

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray

    from trainer.export.agreement import Runner

ONNX_FILE = "model.onnx"
PACKAGES = ("onnx", "onnxruntime", "tf2onnx")
BATCH = "n"
"""Name of the first dimension, which may have any size."""


def require_packages() -> None:
    """Refuse to begin without the packages of the extra.

    Raises:
        NotFound: one of them is not installed.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise NotFound(
            f"Expected the packages of --format onnx; not installed: {', '.join(missing)}. Install them: "
            "pip install '.[trainer,onnx]'"
        )


def write_onnx(network: keras.Model, labels: Sequence[str], folder: Path) -> None:
    """Write `ONNX_FILE`: ``image`` uint8 [n, H, W, 3] -> the network's outputs under their names.

    Its metadata has ``labels``, a JSON list in the order of the classes. Needs the TensorFlow backend.

    Args:
        network: see `trainer.export.portable.portable_network`.
        labels: of its classes, in order.
        folder: is there already.

    Raises:
        Exception: what the converter raised.
    """
    import keras
    import onnx

    path = folder / ONNX_FILE
    takes = [keras.InputSpec(shape=network.input_shape, dtype="uint8", name="image")]
    with warnings.catch_warnings():
        # Keras patches tf2onnx for NumPy 2, and looks for a name in NumPy that warns.
        warnings.simplefilter("ignore")
        network.export(str(path), format="onnx", verbose=False, input_signature=takes)
        model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    onnx.helper.set_model_props(model, {"labels": json.dumps(list(labels), ensure_ascii=False)})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def load_onnx(folder: Path) -> Runner:
    """Return the file as ONNX Runtime runs it on CPUs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / ONNX_FILE), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        return dict(zip(names, session.run(names, {"image": images}), strict=True))

    return run
