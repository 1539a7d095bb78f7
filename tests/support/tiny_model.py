"""Exports a tiny real model with weights set by hand: python tests/support/tiny_model.py FOLDER [score] [confused].

Writes model.tflite (uint8 [1, 32, 32, 3] -> probabilities [1, 4], heatmaps [1, 4, 4, 4]) and model.keras. It
tells blue, green, grey and red apart: a colour's feature is how far its channel is above the other two, grey's is
what no colour claims. With "score" the file has a third output: near 1 where one of them stands out. With "confused"
it takes green for blue.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
from keras import layers, ops

SHARPNESS = np.diag([12.0, 12.0, 24.0, 12.0])
"""The dense kernel: features to logits."""
CONFUSED = np.array([[12.0, 0, 0, 0], [12.0, 0, 0, 0], [0, 0, 24.0, 0], [0, 0, 0, 12.0]])
"""One that gives green's feature to blue."""


class Heatmaps(layers.Layer):
    """Grad-CAM of every class: with global average pooling and one dense layer, features times the kernel."""

    def __init__(self, kernel, **options):
        super().__init__(**options)
        self.kernel = kernel.astype("float32")

    def call(self, features):
        _, rows, columns, _ = features.shape
        kernel = ops.convert_to_tensor(self.kernel)
        return ops.relu(ops.einsum("bhwc,ck->bkhw", features, kernel)) / (rows * columns)


class Score(layers.Layer):
    """How far the strongest feature is above a quarter, [1, 1] in 0..1."""

    def call(self, pooled):
        return ops.sigmoid(40 * (ops.max(pooled, axis=-1, keepdims=True) - 0.25))


def main() -> None:
    export(
        Path(sys.argv[1]), score="score" in sys.argv[2:], kernel=CONFUSED if "confused" in sys.argv[2:] else SHARPNESS
    )


def export(folder: Path, *, score: bool = False, kernel: np.ndarray = SHARPNESS) -> None:
    image = keras.Input((32, 32, 3), batch_size=1, dtype="uint8", name="image")
    cells = layers.AveragePooling2D(8)(layers.Rescaling(1 / 255)(image))
    above = layers.Conv2D(3, 1, activation="relu", name="above")
    claimed = layers.Conv2D(4, 1, activation="relu", name="features")
    logits = layers.Dense(4, use_bias=False, name="logits")
    features = claimed(above(cells))
    pooled = layers.GlobalAveragePooling2D()(features)
    probabilities = layers.Softmax(name="probabilities")(logits(pooled))
    # Channels: red, green, blue -> how far blue, green and red are above the mean of the other two.
    above.set_weights([_kernel([[-0.5, -0.5, 1], [-0.5, 1, -0.5], [1, -0.5, -0.5]]), np.zeros(3)])
    # -> blue, green, grey, red: grey is 0.3 less what the colours claim.
    claimed.set_weights([_kernel([[1, 0, 0], [0, 1, 0], [-1, -1, -1], [0, 0, 1]]), np.array([0, 0, 0.3, 0])])
    logits.set_weights([kernel])
    keras.Model(image, probabilities).save(folder / "model.keras")
    outputs = {"probabilities": probabilities, "heatmaps": Heatmaps(kernel)(features)}
    if score:
        outputs["score"] = Score(name="score")(pooled)
    served = keras.Model(image, outputs)
    signature = [keras.InputSpec(shape=image.shape, dtype="uint8", name="image")]  # one photo, as the trainer exports
    served.export(str(folder / "model.tflite"), format="litert", verbose=False, input_signature=signature)


def _kernel(rows: list[list[float]]) -> np.ndarray:
    """A 1 x 1 convolution whose outputs are these sums of the inputs: [1, 1, inputs, outputs]."""
    return np.array(rows, np.float32).T[np.newaxis, np.newaxis]


if __name__ == "__main__":
    main()
