"""A model that cannot explain itself: a file without heatmaps, and a bundle that says why."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from classifier.registry.manifest import Manifest
from tests.support.bundles import TINY_SIDE, files_of

WHY = "it ends in no pooling"


def silent_model(folder: Path) -> bytes:
    """Make a file that looks at the top left corner alone, and gives no heatmaps."""
    import keras

    image = keras.Input((TINY_SIDE, TINY_SIDE, 3), batch_size=1, dtype="uint8", name="image")
    corner = keras.layers.Rescaling(1 / 16)(image)[:, :8, :8]
    colours = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(corner))
    dense = keras.layers.Dense(4, use_bias=False)
    served = keras.Model(image, {"probabilities": keras.layers.Softmax(name="probabilities")(dense(colours))})
    dense.set_weights([np.array([[-1, -1, 0, 1], [-1, 1, 0, -1], [1, -1, 0, -1]], np.float32)])
    path = folder / "model.tflite"
    served.export(str(path), format="litert", verbose=False)
    return path.read_bytes()


def silenced(bundle: Path, content: bytes) -> Path:
    """Give a tiny bundle this file."""
    (bundle / "model.tflite").write_bytes(content)
    rewritten(bundle, no_gradcam=WHY)
    return bundle


def rewritten(bundle: Path, **changes: object) -> Manifest:
    """Write a bundle's manifest anew, with other fields and without golden cases."""
    manifest = Manifest.from_json((bundle / "manifest.json").read_bytes())
    manifest = dataclasses.replace(manifest, files=files_of(bundle), golden=(), **changes)
    (bundle / "manifest.json").write_bytes(manifest.to_json())
    return manifest
