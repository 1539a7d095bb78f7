"""Conversion to sRGB of RGB profiles that are primaries and one tone curve: Display P3, Adobe RGB, most of displays.

It gives bit by bit what lcms gives (the "matrix shaper" of cmsopt.c in Little CMS 2.19), in steps of 1/16384, in 0.6 of
its time and without importing it. What is not plainly such a profile is left to lcms.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PRIMARIES, CURVES = (b"rXYZ", b"gXYZ", b"bXYZ"), (b"rTRC", b"gTRC", b"bTRC")
VERSIONS = (2, 4)
ONE = 1 << 14
"""The light of white."""
FROM_XYZ = (
    (3.13418636423682, -1.6172089589982754, -0.49069406400638405),
    (-0.9787485041906937, 1.9161300967735857, 0.03343339915999551),
    (0.07196392780224675, -0.22899387345320316, 1.4057537328964438),
)
"""To sRGB's light from XYZ as profiles have it (white is D50): the inverse of the primaries that lcms gives sRGB."""
MOST_WEIGHT = 8
"""Of a row in sum: lcms computes with 32 bits."""
MOST_POINTS = 0x7FFF
"""Of a curve that lcms takes."""
BLOCK_PIXELS = 1 << 13
"""At once: they stay in a processor's cache, and OpenBLAS starts no threads for them."""
STRIP_PIXELS = 1 << 18
"""At once, so that little stands beside a large photo; a network's input is one strip."""


class MatrixConversion:
    """From the colours of a profile to sRGB. Any thread may use it."""

    def __init__(self, light: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        """Take light [256] of a channel's values, 0 to `ONE`, and weights [3, 3] of the channels in each of sRGB's."""
        self._light = light
        self._weights = 2 * weights.T.copy()
        self._encoded = _encoded()

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return an RGB image in sRGB."""
        rows = max(1, STRIP_PIXELS // image.width)
        if image.height <= rows:
            return self._strip(image)
        converted = Image.new("RGB", image.size)
        for top in range(0, image.height, rows):
            box = 0, top, image.width, min(top + rows, image.height)
            converted.paste(self._strip(image.crop(box)), box)
        return converted

    def _strip(self, image: Image.Image) -> Image.Image:
        pixels = np.asarray(image).reshape(-1, 3)
        converted = np.empty_like(pixels)
        for start in range(0, len(pixels), BLOCK_PIXELS):
            block = slice(start, start + BLOCK_PIXELS)
            light = np.take(self._light, pixels[block], mode="clip") @ self._weights
            np.take(self._encoded, light.astype(np.int32), mode="clip", out=converted[block])
        return Image.fromarray(converted.reshape(image.height, image.width, 3))


def matrix_conversion(profile: bytes) -> MatrixConversion | None:
    """Return the conversion of a profile as `classifier.photo.profiles.believed` makes it; None: lcms is to do it."""
    entries = struct.iter_unpack(">4sLL", profile[132 : 132 + 12 * int.from_bytes(profile[128:132], "big")])
    parts = {name: profile[at : at + size] for name, at, size in entries}
    if profile[8] not in VERSIONS or profile[16:24] != b"RGB XYZ " or parts.keys() != {*PRIMARIES, *CURVES}:
        return None
    curve = parts[CURVES[0]]
    if any(parts[name][:4] != b"XYZ " for name in PRIMARIES) or any(parts[name] != curve for name in CURVES):
        return None
    primaries = np.array([struct.unpack_from(">3l", parts[name], 8) for name in PRIMARIES]).T / 65536
    weights = np.floor(np.array(FROM_XYZ) @ primaries * ONE + 0.5) / ONE
    with np.errstate(all="ignore"):  # what is no number is not sane
        light = np.floor(_curve(curve).astype(np.float32).astype(np.float64) * ONE + 0.5)
    # Where black is not black, lcms makes it black; what is beyond white, it does not cut.
    sane = np.all((light >= 0) & (light <= ONE)) and light[0] == 0
    return MatrixConversion(light, weights) if sane and abs(weights).sum(axis=1).max() < MOST_WEIGHT else None


def _curve(body: bytes) -> NDArray[np.float64]:
    """Return light [256] of a channel's values, where white has 1; NaN where that is for lcms to say."""
    light: NDArray[np.float64]
    values = (np.arange(256) / 255).astype(np.float32).astype(np.float64)
    count = int.from_bytes(body[8:12], "big")
    if body[:4] == b"para":
        return _parametric(values, body)
    if body[:4] != b"curv" or count > MOST_POINTS:
        return np.full(256, np.nan)
    points = np.frombuffer(body, ">u2", count, 12).astype(np.int64)
    if count < 2:  # a gamma in steps of 1/256, or none
        light = np.power(values, points[0] / 256 if count else 1.0)
        return light
    at = 257 * np.arange(256) * (count - 1)
    at += (at + 0x7FFF) // 0xFFFF  # in steps of 1/65536 between two points
    cell = np.minimum(at >> 16, count - 2)
    low, high = points[cell], points[cell + 1]
    light = (low + ((high - low) * (at - (cell << 16)) + 0x8000 >> 16)) / 0xFFFF
    return light


def _parametric(x: NDArray[np.float64], body: bytes) -> NDArray[np.float64]:
    """Return the curve of ICC.1:2022, 10.18; its kinds 0 to 3 are cases of kind 4."""
    kind, numbers = body[9], np.frombuffer(body, ">i4", min(7, (len(body) - 12) // 4), 12) / 65536
    gamma, a, b, c, d, e, f = np.pad(numbers, (0, 7 - len(numbers)))
    if kind == 0:
        a, b, c, d, e, f = 1, 0, 0, 0, 0, 0
    elif kind < 3:
        level = c if kind == 2 else 0
        c, d, e, f = 0, -b / a, level, level
    elif kind == 3:
        e = f = 0
    if gamma <= 0:
        return np.full(256, np.nan)
    light: NDArray[np.float64] = np.where(x >= d, np.maximum(a * x + b, 0) ** gamma + e, c * x + f)
    return light


def _encoded() -> NDArray[np.uint8]:
    """Return sRGB's values (IEC 61966-2-1) of light in half steps, 0 to 2 `ONE`: of the step that each rounds to."""
    light = (np.arange(2 * ONE + 1) + 1) // 2 / ONE
    values = np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)
    return (255 * values).round().astype(np.uint8)
