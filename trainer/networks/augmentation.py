"""Random changes of photos while training: layers in front of the backbone, which the export leaves out."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops

TURN, SHIFT, CONTRAST = 0.15, 0.1, 0.1
"""Of strength 1: the largest turn either way as a share of a full one, the largest shift as a share of a side, and the
largest change of contrast."""
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
            RandomAffine(TURN * strength, SHIFT * strength, min(zoom * strength, LARGEST_ZOOM), seed=seed + 1),
            layers.RandomContrast(CONTRAST * strength, value_range=(0, 255), seed=seed + 2),
        ]
    if keras.backend.backend() == "jax":
        # Keras marks its own as impossible to compile because one operation of TensorFlow's is.
        for layer in changes:
            layer.supports_jit = True
    return keras.Sequential(changes, name="augmentation")


class RandomAffine(layers.Layer):  # type: ignore[misc]
    """Turns, shifts and crops photos [n, H, W, C] while training, all in one interpolation.

    Keras's layers, one for each, interpolate one behind the other, and every one blurs the photo: the network would be
    trained on photos that are less sharp than those it is asked about. What lies beyond the borders is mirrored.

    Args:
        turn: the largest angle either way, as a share of a full turn.
        shift: the largest distance either way, as a share of height and, independently, width.
        zoom: the largest share of height and, independently, width that is cut off.
        seed: of the draws.
    """

    def __init__(self, turn: float, shift: float, zoom: float, seed: int) -> None:
        super().__init__()
        self.turn, self.shift, self.zoom = turn, shift, zoom
        self.seed_generator = keras.random.SeedGenerator(seed)
        # One operation of TensorFlow's cannot be compiled by XLA.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def call(self, photos: Any, training: bool = False) -> Any:
        """Return the photos changed if `training`, else as they are."""
        if not training:
            return photos
        height, width = photos.shape[1:3]
        turn = self._draw(photos, -self.turn, self.turn) * 2 * math.pi
        across, down = (self._draw(photos, 1 - self.zoom, 1.0) for _ in range(2))
        right, below = (self._draw(photos, -self.shift, self.shift) for _ in range(2))
        # Where each pixel comes from, with the photo's middle as the origin: x = a u + b v + c, y = d u + e v + f.
        a, b = across * ops.cos(turn), -across * ops.sin(turn)
        d, e = down * ops.sin(turn), down * ops.cos(turn)
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        c = middle_x + right * width - a * middle_x - b * middle_y
        f = middle_y + below * height - d * middle_x - e * middle_y
        none = ops.zeros_like(a)
        return ops.image.affine_transform(
            photos, ops.stack([a, b, c, d, e, f, none, none], axis=1),
            interpolation="bilinear", fill_mode="reflect", data_format="channels_last",
        )  # fmt: skip

    def _draw(self, photos: Any, low: float, high: float) -> Any:
        return keras.random.uniform((ops.shape(photos)[0],), low, high, seed=self.seed_generator)


class Always(layers.Layer):  # type: ignore[misc]
    """Augments in every mode: for views of photos that are computed once, by prediction."""

    def __init__(self, augmentation: keras.Model) -> None:
        super().__init__()
        self.augmentation = augmentation

    def call(self, photos: Any) -> Any:
        """Return the photos changed, [n, H, W, 3]."""
        return self.augmentation(photos, training=True)
