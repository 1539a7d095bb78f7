"""Any of Pillow's modes to RGB: transparent over white, 16 bits scaled to 8, reduced in strips."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from classifier.errors import InvalidImage
from classifier.photo.costs import STRIP_PIXELS


def reduced(image: Image.Image, factor: int, kept: str | None = None) -> Image.Image:
    """Average blocks of factor x factor pixels, in RGB, or in the image's own mode where that is ``kept``."""
    if image.mode != kept or kept == "L":
        return rgb_reduced(image, factor)
    return image if factor == 1 else image.reduce(factor)


def rgb_reduced(
    image: Image.Image, factor: int, convert: Callable[[Image.Image], Image.Image] | None = None
) -> Image.Image:
    """Convert to RGB, by default with `rgb`, and average blocks of factor x factor pixels."""
    convert = convert or rgb
    width, height = image.size
    if width * height <= STRIP_PIXELS or (image.mode == "RGB" and "transparency" not in image.info):
        image = convert(image)
        return image if factor == 1 else image.reduce(factor)
    reduced = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = factor * max(1, STRIP_PIXELS // (width * factor))
    for top in range(0, height, rows):
        strip = convert(image.crop((0, top, width, min(top + rows, height))))
        reduced.paste(strip if factor == 1 else strip.reduce(factor), (0, top // factor))
    return reduced


def rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: transparent over white, 16 bits scaled to 8."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _rgb_from_numbers(image)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _rgb_from_numbers(image: Image.Image) -> Image.Image:
    """Scale 0..65535 to 0..255; Pillow's own conversion would clip at 255."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F" or low < 0 or high > 65535:
        raise InvalidImage(
            f"Expected grey values of 8 or 16 bits; received {values.dtype.name} values from {low:g} to {high:g}. "
            "Save the photo with 8 bits a channel."
        )
    grey = ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")
