"""Random changes of photos while training: layers in front of the backbone, which the export leaves out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from trainer.networks.rand_augment import RandAugment
from trainer.run.sections import Flip, ScheduleConfig

LARGEST_ZOOM = 0.7
"""Share of a side that zooming may cut off, however strong the augmentation."""
LARGEST_SHEAR = 60.0
"""Degrees that verticals may lean, however strong it is."""


@dataclass(frozen=True)
class Amounts:
    """How much each change does at most, at strength 1; the change is drawn anew for each photo."""

    flip: Flip = "horizontal"
    """Which mirror images there are; "both" draws either way, independently."""
    rotation: float = 54.0
    """Degrees, either way."""
    shift: float = 0.1
    """Share of height and, independently, width, either way."""
    shear: float = 0.0
    """Degrees that verticals lean, either way."""
    zoom: float = 0.0
    """Share of height and, independently, width that a crop cuts off."""
    contrast: float = 0.1
    """Share of the contrast that is added: Keras's layer, given one number, only raises it."""
    operations: int = 0
    """Of RandAugment, a photo; the strength does not multiply them."""
    magnitude: float = 0.0
    """Of those."""

    @classmethod
    def of(cls, schedule: ScheduleConfig, zoom: float) -> Amounts:
        """Return those of a schedule; `zoom` is the architecture's own, where the schedule names none."""
        return cls(
            schedule.flip,
            schedule.rotation,
            schedule.shift,
            schedule.shear,
            zoom if schedule.zoom is None else schedule.zoom,
            schedule.contrast,
            schedule.randaugment,
            schedule.randaugment_magnitude,
        )


def scheduled_augmentation(schedule: ScheduleConfig, zoom: float) -> keras.Model:
    """Return the augmentation that a schedule asks for; `zoom` is the architecture's own."""
    return build_augmentation(schedule.seed, schedule.augmentation_strength, Amounts.of(schedule, zoom))


def build_augmentation(seed: int, strength: float = 1.0, amounts: Amounts = Amounts()) -> keras.Model:
    """Return layers that flip, turn, shift, shear, crop and change the contrast of photos in 0..255, in training only.

    Args:
        seed: of all of them.
        strength: multiplies the amounts; 0 leaves the flips.
        amounts: of each change; what is 0 changes nothing.
    """
    changes: list[Any] = []
    # Two layers for both: Keras's "horizontal_and_vertical" draws once, and turns by half a circle or not at all.
    if amounts.flip in ("horizontal", "both"):
        changes.append(layers.RandomFlip("horizontal", seed=seed))
    if amounts.flip in ("vertical", "both"):
        changes.append(layers.RandomFlip("vertical", seed=seed + 3))
    turn, shift, shear, zoom = (
        amount * strength for amount in (amounts.rotation / 360, amounts.shift, amounts.shear, amounts.zoom)
    )
    drawn = RandAugment(amounts.operations, amounts.magnitude, seed + 4) if amounts.operations else None
    if turn or shift or shear or zoom or drawn:
        zoom, shear = min(zoom, LARGEST_ZOOM), min(shear, LARGEST_SHEAR) / 360
        changes.append(RandomAffine(turn, shift, zoom, seed + 1, shear=shear, drawn=drawn))
    if contrast := min(amounts.contrast * strength, 1.0):
        changes.append(layers.RandomContrast(contrast, value_range=(0, 255), seed=seed + 2))
    if keras.backend.backend() == "jax":
        # Keras marks its own as impossible to compile because one operation of TensorFlow's is.
        for layer in changes:
            layer.supports_jit = True
    # Without any change it still is a model.
    return keras.Sequential(changes or [layers.Identity()], name="augmentation")


class RandomAffine(layers.Layer):  # type: ignore[misc]
    """Turns, shears, shifts and crops photos [n, H, W, C] while training, all in one interpolation.

    Keras's layers, one for each, interpolate one behind the other, and every one blurs the photo: the network would be
    trained on photos that are less sharp than those it is asked about. What lies beyond the borders is mirrored.

    Args:
        turn: the largest angle either way, as a share of a full turn.
        shift: the largest distance either way, as a share of height and, independently, width.
        zoom: the largest share of height and, independently, width that is cut off.
        seed: of the draws.
        shear: the largest angle by which verticals lean either way, as a share of a full turn. The photo is sheared
            after it is turned.
        drawn: operations of RandAugment: what moves pixels happens in the same interpolation, the rest behind it.
    """

    def __init__(
        self,
        turn: float,
        shift: float,
        zoom: float,
        seed: int,
        *,
        shear: float = 0.0,
        drawn: RandAugment | None = None,
    ) -> None:
        super().__init__()
        self.drawn = drawn
        if drawn is not None:
            self.drawn_seed = drawn.seed_generator  # its state is one of this layer's variables
        self.turn, self.shift, self.zoom, self.shear = turn, shift, zoom, shear
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
        if self.shear:  # drawn last, and only then: without it the draws are those of before there was any
            lean = ops.tan(self._draw(photos, -self.shear, self.shear) * 2 * math.pi)
            b, e = b + a * lean, e + d * lean
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        right, below = right * width, below * height
        if self.drawn is not None:
            kinds, signs = self.drawn.draw(ops.shape(photos)[0])
            matrix, offset = self.drawn.motion(kinds, signs, (height, width))
            (p, q), (r, s) = ((matrix[:, row, 0], matrix[:, row, 1]) for row in range(2))
            right, below = right + a * offset[:, 0] + b * offset[:, 1], below + d * offset[:, 0] + e * offset[:, 1]
            a, b, d, e = a * p + b * r, a * q + b * s, d * p + e * r, d * q + e * s
        c = middle_x + right - a * middle_x - b * middle_y
        f = middle_y + below - d * middle_x - e * middle_y
        none = ops.zeros_like(a)
        moved = ops.image.affine_transform(
            photos, ops.stack([a, b, c, d, e, f, none, none], axis=1),
            interpolation="bilinear", fill_mode="reflect", data_format="channels_last",
        )  # fmt: skip
        return moved if self.drawn is None else self.drawn.recolour(moved, kinds, signs)

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
