"""The function that most people write: a Keras model, Pillow, and Grad-CAM with GradientTape.

It is served as Pointer is, by functions-framework with its default workers and threads, and does as little: the model
is loaded at the first request and kept, Matplotlib is imported for the first overlay, the model that gives features
beside predictions is built once, and a request with an overlay takes one forward pass for both. A label comes from
`model.predict`, which was faster than calling the model (`model(batch)`). What an expert would change is in
../compiled/main.py.
"""

from __future__ import annotations

import base64
import io
import json
import os
import threading
from functools import cache
from pathlib import Path
from typing import Any

import flask
import functions_framework
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

MODEL = Path(os.environ.get("KERAS_MODEL", "model.keras"))
"""Beside it are its labels, in labels.json."""
TOP = 5
OPACITY = 0.4

Classes = NDArray[np.float32]
Heatmap = NDArray[np.float32]

_one_at_a_time = threading.Lock()


class Classic:
    """The model, loaded."""

    def __init__(self) -> None:
        self.labels = json.loads(MODEL.with_name("labels.json").read_text())
        self.model = keras.models.load_model(MODEL, compile=False)
        self.size = self.model.input_shape[2], self.model.input_shape[1]

    def classify(self, batch: NDArray[np.float32]) -> Classes:
        """Return the probabilities [classes] of one photo [1, H, W, 3]."""
        probabilities: Classes = self.model.predict(batch, verbose=0)[0]
        return probabilities

    def explain(self, batch: NDArray[np.float32]) -> tuple[Classes, Heatmap]:
        """Return the probabilities too, and the Grad-CAM [h, w] of the most probable class, at most 1."""
        with _one_at_a_time:
            model = self.with_features()
        with tf.GradientTape() as tape:
            features, probabilities = model(batch)
            best = tf.reduce_max(probabilities[0])
        weights = tf.reduce_mean(tape.gradient(best, features), axis=(0, 1, 2))
        heatmap = tf.maximum(tf.reduce_sum(features[0] * weights, axis=-1), 0)
        return probabilities[0].numpy(), (heatmap / (tf.reduce_max(heatmap) + 1e-12)).numpy()

    @cache  # noqa: B019 - there is one object, and it is never let go
    def with_features(self) -> Any:
        """Return the model with a second output: the last features that are a picture."""
        last = [layer for layer in self.model.layers if len(layer.output.shape) == 4][-1]
        return keras.Model(self.model.input, [last.output, self.model.output])


@cache
def _classic() -> Classic:
    return Classic()


@functions_framework.http
def predict(request: flask.Request) -> dict[str, Any]:
    """Classify the photo that is the body; `?gradcam=1` explains the label."""
    with _one_at_a_time:
        classic = _classic()
    return answer(classic, request)


def answer(classic: Classic, request: flask.Request) -> dict[str, Any]:
    """Return the reply to a request, as JSON."""
    photo = Image.open(io.BytesIO(request.get_data())).convert("RGB")
    array = np.asarray(photo.resize(classic.size, Image.Resampling.BILINEAR), np.float32)
    batch = array[np.newaxis] / 127.5 - 1  # `preprocess_input` of MobileNetV2 and Xception
    if "gradcam" not in request.args:
        return body(classic.labels, classic.classify(batch))
    probabilities, heatmap = classic.explain(batch)
    reply = body(classic.labels, probabilities)
    return reply | {"gradcam": {"label": reply["label"], "image": base64.b64encode(overlay(photo, heatmap)).decode()}}


def body(labels: list[str], probabilities: Classes) -> dict[str, Any]:
    """Return the labels that are most probable."""
    ranked = [int(index) for index in np.argsort(-probabilities)[:TOP]]
    predictions = [{"label": labels[index], "confidence": float(probabilities[index])} for index in ranked]
    return {**predictions[0], "predictions": predictions}


def overlay(photo: Image.Image, heatmap: Heatmap) -> bytes:
    """Return the photo with the heatmap in colour on it, as JPEG."""
    from matplotlib import colormaps

    grown = Image.fromarray((heatmap * 255).astype(np.uint8)).resize(photo.size, Image.Resampling.BILINEAR)
    palette = (colormaps["jet"](np.arange(256))[:, :3] * 255).astype(np.uint8)
    colours = Image.fromarray(palette[np.asarray(grown)])
    file = io.BytesIO()
    Image.blend(photo, colours, OPACITY).save(file, "JPEG")
    return file.getvalue()
