"""The classic function as an expert would write it: `tf.function` for the label and for Grad-CAM.

Compiled graphs save most of Keras's work for each call, which is what costs a small network most of its time, and
all of the tape's. They are traced at the first request of each kind, which starts later for it. TensorFlow itself,
its import and its memory, stays.
"""

from __future__ import annotations

import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

import flask
import functions_framework
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from bench.peers.classic import main as classic

_one_at_a_time = threading.Lock()


class Compiled(classic.Classic):
    """The model, loaded, with graphs in place of Keras's calls."""

    def __init__(self) -> None:
        super().__init__()
        photo = [tf.TensorSpec((1, *self.model.input_shape[1:]), tf.float32)]
        self._classify = tf.function(lambda batch: self.model(batch, training=False), input_signature=photo)
        self._explain = tf.function(self._explained, input_signature=photo)

    def classify(self, batch: NDArray[np.float32]) -> classic.Classes:
        """Return the probabilities [classes] of one photo [1, H, W, 3]."""
        probabilities: classic.Classes = self._classify(batch)[0].numpy()
        return probabilities

    def explain(self, batch: NDArray[np.float32]) -> tuple[classic.Classes, classic.Heatmap]:
        """Return the probabilities too, and the Grad-CAM [h, w] of the most probable class, at most 1."""
        probabilities, heatmap = self._explain(batch)
        return probabilities.numpy(), heatmap.numpy()

    def _explained(self, batch: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            features, probabilities = self.with_features()(batch, training=False)
            best = tf.reduce_max(probabilities[0])
        weights = tf.reduce_mean(tape.gradient(best, features), axis=(0, 1, 2))
        heatmap = tf.maximum(tf.reduce_sum(features[0] * weights, axis=-1), 0)
        return probabilities[0], heatmap / (tf.reduce_max(heatmap) + 1e-12)


@cache
def _compiled() -> Compiled:
    return Compiled()


@functions_framework.http
def predict(request: flask.Request) -> dict[str, Any]:
    """Classify the photo that is the body; `?gradcam=1` explains the label."""
    with _one_at_a_time:
        compiled = _compiled()
    return classic.answer(compiled, request)
