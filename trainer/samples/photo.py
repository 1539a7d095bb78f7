"""One drawn photo: a table, perhaps a plate, small things and the food, seen by a camera; and the box of the food."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from trainer.samples.canvas import Array, Layer, Light, lit, noise, picture, planes, smoothstep, softened
from trainer.samples.foods import FOODS
from trainer.samples.table import table_top
from trainer.samples.things import THINGS, plate

_REACH = 1.16  # how far the drawn table reaches beyond what an upright camera would see
_SHIFT = 0.10  # and how much farther it reaches at the far side than at the near one


@dataclass(frozen=True)
class Drawing:
    """A photo and its object's bounding box, (left, top, right, bottom) in pixels, right and bottom exclusive."""

    image: Image.Image
    quality: int
    box: tuple[int, int, int, int]

    def jpeg(self) -> bytes:
        """The photo as a JPEG file of its own quality."""
        data = io.BytesIO()
        self.image.save(data, "JPEG", quality=self.quality)
        return data.getvalue()


def draw(label: str, seed: Sequence[int], size: int, *, with_food: bool = True) -> Drawing:
    """Draw a photo of `size` x `size` pixels, the same one for the same numbers in `seed`.

    The scene and the food have random numbers of their own: everything but the food is the same for
    every label and without the food (whose box is given all the same), so nothing around it tells it.
    """
    rng, food_rng = (np.random.default_rng([*seed, stream]) for stream in (0, 1))
    light, camera = Light.random(rng), _Camera.random(rng, size)
    radius = rng.triangular(0.44, 0.69, 0.69)
    room = 0.96 - 1.07 * radius
    x, y = camera.on_table(rng.uniform(-room, room), rng.uniform(-room, room))
    scene = _Scene(rng, camera, light)
    if rng.random() < 0.45:
        dish = Layer(radius * rng.uniform(1.12, 1.5) * camera.unit)
        plate(dish, rng)
        scene.put(dish, x + rng.normal(0, 0.03), y + rng.normal(0, 0.03), lift=0.06)
    _lay_about(scene, rng, x, y, radius)
    food = Layer(radius * camera.unit)
    FOODS[label](food, food_rng)
    if with_food:
        scene.put(food, x, y, lift=0.10)
    image, quality = camera.shoot(scene.image, rng, light)
    return Drawing(image, quality, camera.box(food.alpha, scene.corner(food, x, y)))


class _Camera:
    """Looks down on the table at a slant; the table's points run over -1 to 1 where an upright camera would see them.

    A point (X, Y) of the table is seen at u = X (1 + k v), v = c Y (1 + k v): c is the cosine of the slant, k the
    perspective, u to the right and v down, both -1 to 1 over the photo.
    """

    def __init__(self, size: int, cosine: float, perspective: float) -> None:
        self.size, self.cosine, self.perspective = size, cosine, perspective
        self.pixels = round(2 * size * _REACH)
        self.unit = float(size)  # pixels of the drawn table for a length of 1: twice the photo's own

    @classmethod
    def random(cls, rng: np.random.Generator, size: int) -> _Camera:
        slant = np.radians(rng.uniform(0, 20))
        return cls(size, float(np.cos(slant)), 0.26 * float(np.sin(slant)))

    def on_table(self, u: float, v: float) -> tuple[float, float]:
        """The point of the table that is seen at (u, v)."""
        near = 1 + self.perspective * v
        return u / near, v / (self.cosine * near)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the table is, in pixels of its drawing."""
        return self.pixels / 2 + x * self.unit, self.pixels / 2 + (y + _SHIFT) * self.unit

    def see(self, table: Image.Image) -> Image.Image:
        """The drawing of the table as the camera sees it."""
        side, k, c = 1.5 * self.size, self.perspective, self.cosine  # of what is then averaged to the photo's size
        # For the pixel p: v = 2 p_y / side - 1, near = 1 + k v; all three rows are linear in p, as Pillow wants.
        near_0, near_y = 1 - k, 2 * k / side
        (middle_x, middle_y), unit = self.at(0, 0), self.unit
        across = (2 * unit / side, middle_x * near_y, middle_x * near_0 - unit)
        down = (0.0, 2 * unit / (c * side) + middle_y * near_y, middle_y * near_0 - unit / c)
        data = tuple(value / near_0 for value in (*across, *down, 0.0, near_y))
        large = (round(side), round(side))
        seen = table.transform(large, Image.Transform.PERSPECTIVE, data, Image.Resampling.BILINEAR)
        return seen.resize((self.size, self.size), Image.Resampling.BOX)

    def box(self, alpha: Array, corner: tuple[int, int]) -> tuple[int, int, int, int]:
        """The bounding box in the photo of what `alpha` covers; `corner` is its upper left pixel in the drawing."""
        rows, columns = np.nonzero(alpha >= 0.5)
        # Both corners of each pixel, so that the whole of it lies in the box.
        x = (np.concatenate([columns, columns + 1]) + corner[0] - self.pixels / 2) / self.unit
        y = (np.concatenate([rows, rows + 1]) + corner[1] - self.pixels / 2) / self.unit - _SHIFT
        v = self.cosine * y / (1 - self.cosine * self.perspective * y)
        u = x * (1 + self.perspective * v)
        across, down = (u + 1) * self.size / 2, (v + 1) * self.size / 2
        least = np.floor([across.min(), down.min()]).clip(0).astype(int).tolist()
        most = np.ceil([across.max(), down.max()]).clip(None, self.size).astype(int).tolist()
        return least[0], least[1], most[0], most[1]

    def shoot(self, table: Image.Image, rng: np.random.Generator, light: Light) -> tuple[Image.Image, int]:
        """The photo, and the quality to save it with: light that falls off, warmth, blur, noise, tone."""
        seen = self.see(table)
        soft = seen.filter(ImageFilter.GaussianBlur(self.size / 256 * rng.uniform(0.8, 2.2)))
        sharp = seen.filter(ImageFilter.GaussianBlur(self.size / 256 * rng.uniform(0.0, 0.6)))
        axis = np.linspace(-1, 1, self.size, dtype=np.float32)
        u, v = axis[None, :], axis[:, None]
        out_of_focus = np.tile(smoothstep(0.2, 1.0, -v) * np.float32(rng.random()), (1, self.size))
        pixels = planes(Image.composite(soft, sharp, picture(out_of_focus)))
        bright = 1 + np.float32(rng.uniform(0.04, 0.22)) * (u * light.x + v * light.y) / np.hypot(light.x, light.y)
        bright = bright * (1 - np.float32(rng.uniform(0.0, 0.28)) * ((u**2 + v**2) / 2) ** 1.5)
        if rng.random() < 0.3:
            shade = smoothstep(0.42, 0.60, noise(rng, self.size, rng.uniform(2.5, 4.5), 2))
            bright = bright * (1 - np.float32(rng.uniform(0.15, 0.35)) * shade)
        warmth = rng.normal(0.01, 0.05)
        gain = planes((1 + warmth, 1 + 0.15 * warmth, 1 - warmth)) * np.float32(rng.uniform(0.94, 1.2))
        pixels = lit(pixels * gain, bright)
        pixels /= 1 + 0.25 * np.clip(pixels - 0.7, 0, None)  # bright parts run into white gently
        pixels **= np.float32(rng.uniform(0.9, 1.12))
        grain = np.float32(rng.uniform(0.003, 0.018))
        pixels += grain * rng.standard_normal((self.size, self.size), np.float32)
        pixels += grain * np.float32(0.5) * rng.standard_normal((3, self.size, self.size), np.float32)
        photo = picture(pixels)
        return photo, int(rng.integers(76, 95))


class _Scene:
    """The table seen from straight above, on which layers are put one after the other."""

    def __init__(self, rng: np.random.Generator, camera: _Camera, light: Light) -> None:
        self.camera, self.light = camera, light
        drawn, side = round(0.6 * camera.pixels), camera.pixels // 2  # out of focus: more would not be seen
        # Drawn along its sides, then turned, and zoomed by the square root of 2 to fill the table at any angle.
        angle, zoom = rng.uniform(0, 2 * np.pi), np.sqrt(2) * side / drawn
        cos, sin = float(np.cos(angle) / zoom), float(np.sin(angle) / zoom)
        to, of = drawn / 2, side / 2
        data = (cos, -sin, to - of * (cos - sin), sin, cos, to - of * (sin + cos))
        image = _muted(picture(table_top(rng, drawn)), rng)
        turned = image.transform((side, side), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
        self.image = turned.resize((camera.pixels, camera.pixels), Image.Resampling.BILINEAR)

    def corner(self, layer: Layer, x: float, y: float) -> tuple[int, int]:
        """The upper left pixel of a layer whose centre lies at the point (x, y) of the table."""
        across, down = self.camera.at(x, y)
        return round(across - layer.pixels / 2), round(down - layer.pixels / 2)

    def put(self, layer: Layer, x: float, y: float, lift: float) -> None:
        """Lay a layer down, with the shadow of something `lift` half extents thick."""
        left, top = self.corner(layer, x, y)
        outline = picture(layer.alpha)
        self._darken(outline, left, top, lift * layer.scale)
        self.image.paste(picture(layer.shaded(self.light)), (left, top), outline)

    def _darken(self, outline: Image.Image, left: int, top: int, thick: float) -> None:
        """The shadow: a narrow one where the thing touches the table, a wide one away from the light."""
        share = 0.45 * (1.25 - self.light.ambient)
        margin = round(2 * thick) + 2
        wider = ImageOps.expand(outline, margin)
        away_x, away_y = (round(-side * thick / self.light.z) for side in (self.light.x, self.light.y))
        for across, down, spread in ((0, 0, thick * 0.35 + 1), (away_x, away_y, thick * 0.9 + 1)):
            shadow = softened(wider, spread).point([round(share * value) for value in range(256)])
            self.image.paste((0, 0, 0), (left - margin + across, top - margin + down), shadow)


def _lay_about(scene: _Scene, rng: np.random.Generator, x: float, y: float, radius: float) -> None:
    """Put up to five small things around the food's place, none under more than its very rim."""
    taken = [(x, y, radius)]
    for _ in range(int(rng.integers(1, 6))):
        thing, least, most = THINGS[int(rng.integers(len(THINGS)))]
        half = rng.uniform(least, most)
        for _ in range(12):
            at_x, at_y = rng.uniform(-1.05, 1.05, 2).tolist()
            if all((at_x - px) ** 2 + (at_y - py) ** 2 > (pr + half * 0.95) ** 2 for px, py, pr in taken):
                layer = Layer(half * scene.camera.unit)
                thing(layer, rng)
                scene.put(layer, at_x, at_y, lift=0.12)
                taken.append((at_x, at_y, half))
                break


def _muted(table: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The table a little out of focus, paler and flatter, as behind food that a camera has focused on."""
    blurry = table.filter(ImageFilter.GaussianBlur(table.width / 512 * rng.uniform(1.0, 3.5)))
    pale = ImageEnhance.Color(blurry).enhance(rng.uniform(0.55, 0.9))
    return ImageEnhance.Contrast(pale).enhance(rng.uniform(0.55, 0.9))
