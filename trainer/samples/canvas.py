"""What every drawing of the sample photos is made with: noise, small shapes, layers that have height, and light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array: TypeAlias = NDArray[np.floating[Any]]
Colour: TypeAlias = tuple[float, float, float]
Point: TypeAlias = tuple[float, float]

SPAN = 1.06
"""How far a layer's canvas reaches from its centre; what is drawn on it reaches 1."""

_ANGLES = 4096


@dataclass(frozen=True)
class Light:
    """A unit vector towards the light (x right, y down, z to the camera) and the share that comes from all around."""

    x: float
    y: float
    z: float
    ambient: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Light:
        """A lamp or window anywhere around, 33 to 58 degrees above the table, mostly from the far side."""
        azimuth = rng.normal(-np.pi / 2, 1.3)
        height = np.radians(rng.uniform(33, 58))
        return cls(
            float(np.cos(azimuth) * np.cos(height)),
            float(np.sin(azimuth) * np.cos(height)),
            float(np.sin(height)),
            rng.uniform(0.42, 0.65),
        )


def noise(rng: np.random.Generator, pixels: int, cells: float | tuple[float, float], octaves: int = 3) -> Array:
    """Smooth noise over 0 to 1, [pixels, pixels]: `cells` lumps a side (or down, across), halved by each octave."""
    down, across = cells if isinstance(cells, tuple) else (cells, cells)
    small = max(1, pixels // 3)  # wide enough for the coarse octaves, which take the longest to enlarge
    coarse, total = np.zeros((small, small), np.float32), np.zeros((pixels, pixels), np.float32)
    for octave in range(octaves):
        shape = (_cells(down, octave, pixels), _cells(across, octave, pixels))
        grid = rng.random(shape, np.float32) * np.float32(0.5**octave)
        if max(shape) * 3 <= small:
            coarse += _enlarged(grid, small)
        else:
            total += _enlarged(grid, pixels)
    total += _enlarged(coarse, pixels)
    total -= total.min()
    total /= max(float(total.max()), 1e-6)
    return total


def smoothstep(low: float, high: float, x: Array) -> Array:
    """0 up to `low`, 1 from `high`, a smooth ramp between (falling, when `low` is the greater)."""
    t = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    ramp: Array = t * t * (3 - 2 * t)
    return ramp


def mix(a: Colour | Array, b: Colour | Array, share: Array | float) -> Array:
    """`a` where `share` [h, w] is 0, `b` where it is 1, as colours [3, h, w]."""
    first, second = planes(a), planes(b)
    mixed = second - first
    if mixed.size == 3:
        return first + mixed * np.asarray(share, np.float32)
    mixed *= np.asarray(share, np.float32)  # in place: new large arrays are what takes time here
    mixed += first
    return mixed


def lit(colours: Colour | Array, brightness: Array) -> Array:
    """Colours times a brightness [h, w], as colours [3, h, w]."""
    shown: Array = planes(colours) * brightness.astype(np.float32)
    return shown


def planes(colour: Colour | Image.Image | Array) -> Array:
    """Colours with the channels first, [3, h, w] of 0 to 1, in which NumPy is far faster; one colour is [3, 1, 1]."""
    if isinstance(colour, Image.Image):
        return np.stack([np.asarray(channel) for channel in colour.split()]).astype(np.float32) / 255
    array = np.asarray(colour, np.float32)
    return array.reshape(3, 1, 1) if array.ndim == 1 else array


def picture(array: Array) -> Image.Image:
    """Values of 0 to 1 as an 8-bit image: grey from [h, w], RGB from [3, h, w]."""
    bytes_ = (np.clip(array, 0, 1) * np.float32(255)).astype(np.uint8)
    if bytes_.ndim == 2:
        return Image.fromarray(bytes_)
    return Image.merge("RGB", [Image.fromarray(channel) for channel in bytes_])


def softened(mask: Image.Image, radius: float) -> Image.Image:
    """A grey image after a Gaussian blur, made smaller for it where the blur is wide."""
    coarse = max(1, min(6, int(radius / 1.5)))
    small = mask.reduce(coarse).filter(ImageFilter.GaussianBlur(radius / coarse))
    box = (0, 0, mask.width / coarse, mask.height / coarse)
    return small.resize(mask.size, Image.Resampling.BILINEAR, box) if coarse > 1 else small


def jitter(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    """Nearly the same colour: lightness and each channel moved by up to `amount`."""
    shift = rng.uniform(-amount, amount) + rng.uniform(-amount, amount, 3) * 0.4
    red, green, blue = np.clip(np.asarray(colour) + shift, 0, 1).tolist()
    return red, green, blue


def pick(rng: np.random.Generator, colours: Sequence[Colour]) -> Colour:
    """One of the colours."""
    return colours[int(rng.integers(len(colours)))]


def turned(points: Sequence[Point], angle: float, x: float, y: float, scale: float = 1.0) -> list[Point]:
    """Points scaled and turned about the origin, then moved to (x, y)."""
    cos, sin = scale * float(np.cos(angle)), scale * float(np.sin(angle))
    return [(x + px * cos - py * sin, y + px * sin + py * cos) for px, py in points]


def scattered(rng: np.random.Generator, count: int, reach: float, gap: float, inner: float = 0.0) -> list[Point]:
    """Up to `count` places between `inner` and `reach` from the centre, no two nearer than `gap`."""
    places: list[Point] = []
    for _ in range(count * 6):
        radius = float(np.sqrt(rng.uniform(inner**2, reach**2)))
        angle = rng.uniform(0, 2 * np.pi)
        x, y = radius * float(np.cos(angle)), radius * float(np.sin(angle))
        if all((x - px) ** 2 + (y - py) ** 2 >= gap * gap for px, py in places):
            places.append((x, y))
            if len(places) == count:
                break
    return places


class Stamps:
    """Small flat shapes in a layer's coordinates, gathered so that a layer takes them all at once."""

    def __init__(self, pixels: int) -> None:
        self._scale = pixels / (2 * SPAN)
        self._colour = Image.new("RGB", (pixels, pixels))
        self._mask = Image.new("L", (pixels, pixels))
        self._draw_colour = ImageDraw.Draw(self._colour)
        self._draw_mask = ImageDraw.Draw(self._mask)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon."""
        at = [self._at(point) for point in points]
        self._draw_colour.polygon(at, fill=_ink(colour))
        self._draw_mask.polygon(at, fill=255)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle."""
        left, top = self._at((x - radius, y - radius))
        right, bottom = self._at((x + radius, y + radius))
        self._draw_colour.ellipse((left, top, right, bottom), fill=_ink(colour))
        self._draw_mask.ellipse((left, top, right, bottom), fill=255)

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """A line with round ends and joints."""
        at = [self._at(point) for point in points]
        thick = max(1, round(width * self._scale))
        self._draw_colour.line(at, fill=_ink(colour), width=thick, joint="curve")
        self._draw_mask.line(at, fill=255, width=thick, joint="curve")
        for x, y in (points[0], points[-1]):
            self.disc(x, y, width / 2, colour)

    def blob(
        self,
        rng: np.random.Generator,
        x: float,
        y: float,
        radius: float,
        colour: Colour,
        wobble: float = 0.15,
    ) -> None:
        """An irregular round patch."""
        angles = np.linspace(0, 2 * np.pi, 18, endpoint=False)
        phases = rng.uniform(0, 2 * np.pi, 3)
        radii = radius * (1 + wobble * sum(np.cos((k + 2) * angles + phases[k]) / (k + 1.5) for k in range(3)))
        self.polygon(
            list(zip((x + radii * np.cos(angles)).tolist(), (y + radii * np.sin(angles)).tolist(), strict=True)),
            colour,
        )

    def colours(self) -> Array:
        """The shapes' colours [3, n, n]."""
        return planes(self._colour)

    def mask(self, soft: float = 0.0) -> Array:
        """Where the shapes are [n, n], 0 to 1, blurred over `soft`."""
        mask = softened(self._mask, max(0.6, soft * self._scale)) if soft else self._mask
        return np.asarray(mask, np.float32) / 255

    def _at(self, point: Point) -> Point:
        return (point[0] + SPAN) * self._scale, (point[1] + SPAN) * self._scale


class Layer:
    """One thing seen from above: colour [3, n, n], alpha, height and gloss [n, n]; lengths in its half extents."""

    def __init__(self, radius: float) -> None:
        """`radius` is the half extent of what will be drawn, in pixels."""
        self.pixels = max(8, round(2 * SPAN * radius))
        self.scale = self.pixels / (2 * SPAN)
        axis = ((np.arange(self.pixels) + 0.5) / self.scale - SPAN).astype(np.float32)
        self.x, self.y = axis[None, :], axis[:, None]
        self.colour: Array = np.zeros((3, self.pixels, self.pixels), np.float32)
        self.alpha: Array = np.zeros((self.pixels, self.pixels), np.float32)
        self.height: Array = np.zeros((self.pixels, self.pixels), np.float32)
        self.gloss: Array = np.zeros((self.pixels, self.pixels), np.float32)

    def round_shape(self, rng: np.random.Generator, roughness: float, waves: int) -> tuple[Array, Array]:
        """Polar coordinates of an uneven disc whose longer side fills the layer: distance (1 at the rim), angle."""
        angles = np.linspace(-np.pi, np.pi, _ANGLES, endpoint=False)
        radii = np.ones(_ANGLES)
        for k in range(2, waves + 2):
            radii += roughness * rng.normal() / k**0.8 * np.cos(k * angles + rng.uniform(0, 2 * np.pi))
        xs, ys = radii * np.cos(angles), radii * np.sin(angles)
        half = max(float(np.ptp(xs)), float(np.ptp(ys))) / 2
        x = self.x * np.float32(half) + np.float32((xs.max() + xs.min()) / 2)
        y = self.y * np.float32(half) + np.float32((ys.max() + ys.min()) / 2)
        theta = np.arctan2(y, x)
        rim = radii.astype(np.float32)[((theta + np.pi) * (_ANGLES / (2 * np.pi))).astype(np.int32) % _ANGLES]
        return np.hypot(x, y) / rim, theta

    def edge(self, distance: Array) -> Array:
        """1 inside (distance < 0), 0 outside, one pixel of ramp; distance in half extents."""
        inside: Array = np.clip(np.float32(0.5) - distance * np.float32(self.scale), 0, 1)
        return inside

    def paint(self, mask: Array, colour: Colour | Array, gloss: float | None = None) -> None:
        """Lay a colour over what is there, where the mask is."""
        self.colour = mix(self.colour, colour, mask)
        if gloss is not None:
            self.gloss += (np.float32(gloss) - self.gloss) * mask

    def stick(
        self,
        stamps: Stamps,
        *,
        height: float,
        gloss: float = 0.0,
        soft: float = 0.02,
        within: Array | None = None,
    ) -> None:
        """Put stamps on top, as cushions of the given height with edges `soft` wide."""
        mask, cushion = stamps.mask(), stamps.mask(soft) * np.float32(height)
        if within is not None:
            mask, cushion = mask * within, cushion * within
        self.paint(mask, stamps.colours(), gloss)
        self.height = self.height + cushion

    def extrude(self, face: Array, mask: Array, depth: float, shade: float) -> None:
        """Lay down the side of something `depth` thick, seen below its upper face; darker than the face by `shade`."""
        side = Image.new("RGB", (self.pixels, self.pixels))
        alpha = Image.new("L", (self.pixels, self.pixels))
        top, stencil = picture(face * np.float32(shade)), picture(mask)
        for down in range(max(1, round(depth * self.scale)), -1, -1):
            side.paste(top, (0, down), stencil)
            alpha.paste(255, (0, down), stencil)
        self.colour = planes(side)
        self.alpha = np.asarray(alpha, np.float32) / 255

    def cut(self, mask: Array) -> None:
        """Take away what lies under the mask."""
        self.alpha = self.alpha * (1 - mask)

    def shaded(self, light: Light) -> Array:
        """The colours [3, n, n] under this light: Lambert's law, a highlight on what is glossy, darker hollows."""
        slope_x, slope_y = np.zeros_like(self.height), np.zeros_like(self.height)
        half = np.float32(self.scale / 2)
        slope_x[:, 1:-1] = (self.height[:, 2:] - self.height[:, :-2]) * half
        slope_y[1:-1] = (self.height[2:] - self.height[:-2]) * half
        length = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
        lambert = np.clip((light.z - slope_x * light.x - slope_y * light.y) * length, 0, None)
        hollow = np.clip((self._smooth_height() - self.height) * 4, -0.12, 0.3)
        colours = lit(self.colour, (light.ambient + (1 - light.ambient) / light.z * lambert) * (1 - hollow))
        norm = float(np.sqrt(2 + 2 * light.z))  # of the vector halfway between the light and the camera
        sheen = np.clip((light.z + 1 - slope_x * light.x - slope_y * light.y) * (length / norm), 0, 1)
        for _ in range(5):
            sheen *= sheen
        colours += self.gloss * (0.55 * sheen + 0.6 * sheen**6)
        return colours

    def _smooth_height(self) -> Array:
        small = max(4, self.pixels // 12)
        image = Image.fromarray(self.height).resize((small, small), Image.Resampling.BOX)
        return np.asarray(image.resize((self.pixels, self.pixels), Image.Resampling.BICUBIC))


def _cells(cells: float, octave: int, pixels: int) -> int:
    return int(min(pixels, max(2, round(cells * 2**octave))))


def _enlarged(grid: Array, pixels: int) -> Array:
    return np.asarray(Image.fromarray(grid).resize((pixels, pixels), Image.Resampling.BICUBIC))


def _ink(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (round(255 * min(1.0, max(0.0, channel))) for channel in colour)
    return red, green, blue
