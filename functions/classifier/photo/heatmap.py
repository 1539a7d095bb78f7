"""Grad-CAM heatmap to picture: the colour map, the overlay on a photo, and the bytes of an image file."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifier.errors import InvalidRequest

LIGHTNESS = (0.34, 0.95)
"""Oklab L of the coldest and the hottest colour; it rises evenly between them."""
HUE = (274.0, 460.0)
"""Oklab hue in degrees: blue, violet, magenta, orange, yellow."""
CHROMA = 0.22
"""Oklab chroma, less where sRGB does not reach as far."""
VISIBLE = (0.08, 0.45)
"""Heat below the first value leaves the photo as it is; from the second on, the colour has its full opacity."""
OPACITY = 0.62
OVERLAY_BYTES = 12
"""For each pixel, what it takes to make an overlay and to encode it, besides the photo: the measured peak is 11.1."""

ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "image/jpeg": ("JPEG", {"quality": 85}),
    "image/png": ("PNG", {"compress_level": 1}),
    "image/webp": ("WEBP", {"quality": 85, "method": 0}),
}

# sRGB, linear, from the cubes of Oklab's cone responses, and these from Oklab. Ottosson, "A perceptual color space for
# image processing" (2020).
CONES_FROM_OKLAB = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
RGB_FROM_CONES = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def overlay(
    image: Image.Image,
    heatmap: NDArray[np.float32],
    *,
    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
) -> Image.Image:
    """Lay a heatmap over a photo: colour where it is hot, the photo untouched where it is cold.

    Args:
        image: the photo, RGB. It is not changed.
        heatmap: shape [h, w], never negative; shown relative to its maximum. Nothing is laid over where all is 0.
        region: the part of the photo that the heatmap is about: left, top, right, bottom in 0..1.

    Returns:
        An RGB image of the photo's size.
    """
    heat = _scaled(heatmap)
    if heat is None:
        return image
    left, top, right, bottom = (round(part * side) for part, side in zip(region, image.size * 2, strict=True))
    left, top = min(left, image.width - 1), min(top, image.height - 1)
    size = max(1, right - left), max(1, bottom - top)
    grown = Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC)
    colours = Image.frombytes("P", size, grown.tobytes())
    colours.putpalette(colour_map().tobytes())
    result = image.copy()
    result.paste(colours.convert("RGB"), (left, top), grown.point(_opacities()))
    return result


def bare(heatmap: NDArray[np.float32]) -> Image.Image:
    """Return the heatmap alone, [h, w], as an 8-bit grey image of w x h pixels whose maximum is 255."""
    heat = _scaled(heatmap)
    return Image.fromarray(np.zeros(heatmap.shape, np.uint8) if heat is None else heat)


def encode(image: Image.Image, media_type: str) -> bytes:
    """Write an image as "image/jpeg", "image/png" or "image/webp", with settings that favour speed.

    Raises:
        InvalidRequest: another media type.
    """
    if media_type not in ENCODERS:
        raise InvalidRequest(f"Expected one of {', '.join(ENCODERS)}; received {media_type!r}.")
    name, options = ENCODERS[media_type]
    file = BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


@cache
def colour_map() -> NDArray[np.uint8]:
    """Return the colours from cold to hot, uint8 [256, 3] sRGB: evenly rising lightness, hue from blue to yellow."""
    heat = np.linspace(0, 1, 256)
    lightness = LIGHTNESS[0] + (LIGHTNESS[1] - LIGHTNESS[0]) * heat
    hue = np.radians(HUE[0] + (HUE[1] - HUE[0]) * heat)
    inside, outside = np.zeros(256), np.full(256, CHROMA)
    for _ in range(20):  # bisect for the largest chroma that sRGB can show
        chroma = (inside + outside) / 2
        rgb = _linear_rgb(lightness, chroma, hue)
        fits = ((rgb >= 0) & (rgb <= 1)).all(axis=-1)
        inside, outside = np.where(fits, chroma, inside), np.where(fits, outside, chroma)
    rgb = _linear_rgb(lightness, inside, hue)
    encoded = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * np.maximum(rgb, 0.0031308) ** (1 / 2.4) - 0.055)
    table = np.round(encoded * 255).astype(np.uint8)
    table.flags.writeable = False  # cached: one table for all callers
    return table


def _linear_rgb(
    lightness: NDArray[np.float64], chroma: NDArray[np.float64], hue: NDArray[np.float64]
) -> NDArray[np.float64]:
    oklab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    rgb: NDArray[np.float64] = (oklab @ CONES_FROM_OKLAB.T) ** 3 @ RGB_FROM_CONES.T
    return rgb


@cache
def _opacities() -> tuple[int, ...]:
    """Return the opacity 0..255 of each heat 0..255: a smooth step, so that no edge is seen where colour begins."""
    heat = np.linspace(0, 1, 256)
    step = np.clip((heat - VISIBLE[0]) / (VISIBLE[1] - VISIBLE[0]), 0, 1)
    return tuple(int(value) for value in np.round(255 * OPACITY * step * step * (3 - 2 * step)))


def _scaled(heatmap: NDArray[np.float32]) -> NDArray[np.uint8] | None:
    """Scale to 0..255 by the maximum; None where there is none above 0."""
    if heatmap.ndim != 2:
        raise ValueError(f"Expected a heatmap of shape [h, w]; received {list(heatmap.shape)}.")
    maximum = float(heatmap.max())
    if not 0 < maximum < np.inf:
        return None
    return np.round(heatmap / np.float32(maximum) * 255).astype(np.uint8)
