"""A network as a TensorFlow SavedModel, with the signatures that TensorFlow Serving and others call by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from trainer.export.agreement import Runner

CLASSIFY, EXPLAIN = "serving_default", "explain"
HEATMAPS = "heatmaps"


def write_saved_model(network: keras.Model, labels: Sequence[str], folder: Path) -> None:
    """Write a SavedModel that runs without Keras and Pointer. Needs the TensorFlow backend.

    Both signatures take ``image`` uint8 [n, H, W, 3] and give all outputs of the network and ``label``, string [n], the
    most probable one; `CLASSIFY` leaves out the heatmaps, which would be most of what is sent.

    Args:
        network: see `trainer.export.portable.portable_network`.
        labels: of its classes, in order.
        folder: is there already; other files in it stay.
    """
    import tensorflow as tf

    def explain(image: Any) -> dict[str, Any]:
        outputs = network(image, training=False)
        best = tf.argmax(outputs["probabilities"], axis=-1)
        return {"label": tf.gather(tf.constant(list(labels)), best), **outputs}

    def classify(image: Any) -> dict[str, Any]:
        return {name: output for name, output in explain(image).items() if name != HEATMAPS}

    archive = keras.export.ExportArchive()
    archive.track(network)
    takes = [keras.InputSpec(shape=network.input_shape, dtype="uint8", name="image")]
    for name, signature in ((CLASSIFY, classify), (EXPLAIN, explain)):
        archive.add_endpoint(name, signature, input_signature=takes)
    archive.write_out(str(folder), verbose=False)


def load_saved_model(folder: Path) -> Runner:
    """Return a SavedModel's `EXPLAIN`, loaded by TensorFlow alone."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        # By way of what was loaded: a signature alone does not keep its variables.
        outputs = loaded.signatures[EXPLAIN](image=tf.constant(images))
        return {name: output.numpy() for name, output in outputs.items()}

    return run
