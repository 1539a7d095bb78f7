"""Random changes of photos while training: layers in front of the backbone, which the export leaves out."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

LARGEST_ZOOM = 0.7
"""Share of a side that zooming may cut off, however strong the augmentation."""


def build_augmentation(seed: int, strength: float = 1.0, zoom: float = 0.0) -> keras.Model:
    """Return layers that flip, turn, shift and change the contrast of photos in 0..255, while training only.

    Args:
        seed: of all of them.
        strength: multiplies the angles, distances, zoom and contrasts; 0 leaves the flips.
        zoom: share of height and, independently, width that a crop may cut off; 0 is none.
    """
    changes: list[Any] = [layers.RandomFlip("horizontal", seed=seed)]
    if strength > 0:
        changes += [
            layers.RandomRotation(0.15 * strength, fill_mode="reflect", seed=seed + 1),
            layers.RandomTranslation(0.1 * strength, 0.1 * strength, fill_mode="reflect", seed=seed + 2),
            layers.RandomContrast(0.1 * strength, value_range=(0, 255), seed=seed + 3),
        ]
    if zoom * strength > 0:
        # A zoom by z shows a share 1 + z of the side.
        cut = (-min(zoom * strength, LARGEST_ZOOM), 0.0)
        changes.insert(-1, layers.RandomZoom(cut, cut, fill_mode="reflect", seed=seed + 4))
    if keras.backend.backend() == "jax":
        # Keras marks them as impossible to compile because one operation of TensorFlow's is.
        for layer in changes:
            layer.supports_jit = True
    return keras.Sequential(changes, name="augmentation")


class Always(keras.layers.Layer):  # type: ignore[misc]
    """Augments in every mode: for views of photos that are computed once, by prediction."""

    def __init__(self, augmentation: keras.Model) -> None:
        super().__init__()
        self.augmentation = augmentation

    def call(self, photos: Any) -> Any:
        """Return the photos changed, [n, H, W, 3]."""
        return self.augmentation(photos, training=True)
