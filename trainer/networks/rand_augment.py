"""RandAugment (Cubuk et al. 2020): a few operations a photo, drawn out of a list, all of one magnitude.

Those that move pixels are composed with the rest of the augmentation, which interpolates once; those that change grey
levels come behind. Of the paper's fourteen, equalising histograms is left out.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

OPERATIONS = (
    "identity", "rotate", "shear_x", "shear_y", "translate_x", "translate_y",
    "color", "contrast", "brightness", "sharpness", "autocontrast", "solarize", "posterize",
)  # fmt: skip
LARGEST = 10.0
"""The magnitude at which an operation changes the most."""
ROTATION = np.pi / 6
SHEAR = 0.3
TRANSLATION = 0.45
"""Of a side."""
ENHANCEMENT = 0.9
"""How far colour, contrast, brightness and sharpness go from 1."""
BITS = 4
"""Of the eight, those that posterising leaves."""
GREY = (0.299, 0.587, 0.114)


class RandAugment:
    """Draws operations for photos and carries them out.

    Args:
        operations: how many a photo.
        magnitude: of all, 0 to `LARGEST`.
        seed: of the draws.
    """

    def __init__(self, operations: int, magnitude: float, seed: int) -> None:
        self.operations, self.level = operations, magnitude / LARGEST
        self.seed_generator = keras.random.SeedGenerator(seed)

    def draw(self, count: Any) -> tuple[Any, Any]:
        """Return for each photo and step which operation, [n, operations] int32, and in which direction, 1 or -1."""
        shape = (count, self.operations)
        kinds = ops.floor(keras.random.uniform(shape, 0.0, len(OPERATIONS), seed=self.seed_generator))
        # A float32 below the end may round to it.
        kinds = ops.minimum(ops.cast(kinds, "int32"), len(OPERATIONS) - 1)
        signs = keras.random.uniform(shape, seed=self.seed_generator) < 0.5
        return kinds, ops.where(signs, 1.0, -1.0)

    def motion(self, kinds: Any, signs: Any, size: tuple[int, int]) -> tuple[Any, Any]:
        """Return what the drawn operations do to places: matrices [n, 2, 2] and shifts [n, 2] in pixels, x then y.

        A place (x, y) of the result, counted from the middle, comes from matrix (x, y) + shift.
        """
        matrix, shift = ops.eye(2)[None], ops.zeros((1, 2))
        height, width = size
        for step in range(self.operations):
            chosen = {name: signs[:, step] * self._is(kinds, step, name) for name in OPERATIONS[1:6]}
            angle = chosen["rotate"] * ROTATION * self.level
            lean_x, lean_y = (chosen[name] * SHEAR * self.level for name in ("shear_x", "shear_y"))
            cos, sin = ops.cos(angle), ops.sin(angle)
            # At most one of the three is not 0.
            rows = [[cos, lean_x - sin], [lean_y + sin, cos]]
            own = ops.stack([ops.stack(row, axis=1) for row in rows], axis=1)
            moved = [
                chosen["translate_x"] * TRANSLATION * self.level * width,
                chosen["translate_y"] * TRANSLATION * self.level * height,
            ]
            shift = shift + ops.squeeze(ops.matmul(matrix, ops.stack(moved, axis=1)[..., None]), -1)
            matrix = ops.matmul(matrix, own)
        return matrix, shift

    def recolour(self, photos: Any, kinds: Any, signs: Any) -> Any:
        """Return photos [n, H, W, 3] in 0..255 with their grey levels changed as drawn."""
        for step in range(self.operations):
            change = signs[:, step] * ENHANCEMENT * self.level
            color, contrast, brightness, sharpness = (
                (change * self._is(kinds, step, name))[:, None, None, None] for name in OPERATIONS[6:10]
            )
            grey = ops.sum(photos * ops.array(GREY), axis=-1, keepdims=True)
            mean = ops.mean(grey, axis=(1, 2, 3), keepdims=True)
            # photos + color (photos - grey) + contrast (photos - mean) + ..., in fewer passes over the pixels.
            enhanced = photos * (1 + color + contrast + brightness + sharpness)
            enhanced = enhanced - (color * grey + contrast * mean) - sharpness * _smoothed(photos)
            for name, changed in (
                ("autocontrast", _stretched(photos)),
                ("solarize", ops.where(photos >= 256 * (1 - self.level), 255 - photos, photos)),
                ("posterize", ops.floor(photos / self._step) * self._step),
            ):
                is_it = self._is(kinds, step, name)[:, None, None, None] > 0
                enhanced = ops.where(is_it, changed, enhanced)
            photos = ops.clip(enhanced, 0.0, 255.0)
        return photos

    @property
    def _step(self) -> float:
        return float(2 ** round((8 - BITS) * self.level))

    @staticmethod
    def _is(kinds: Any, step: int, name: str) -> Any:
        return ops.cast(ops.equal(kinds[:, step], OPERATIONS.index(name)), "float32")


def _smoothed(photos: Any) -> Any:
    """Return what Pillow's SMOOTH gives: the mean of 3 x 3 pixels in which the middle one counts five times."""
    padded = ops.pad(photos, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
    return (9 * ops.average_pool(padded, 3, 1, "valid", data_format="channels_last") + 4 * photos) / 13


def _stretched(photos: Any) -> Any:
    """Return photos whose darkest level of each channel is 0 and whose brightest is 255."""
    low, high = (each(photos, axis=(1, 2), keepdims=True) for each in (ops.min, ops.max))
    return (photos - low) * 255 / ops.maximum(high - low, 1.0)
