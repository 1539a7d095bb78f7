"""How much memory a photo takes to open and to decode, told from its header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from classifier.photo.formats import PhotoFile
from classifier.photo.heic.container import Picture
from classifier.photo.heic.hevc import PADDING

if TYPE_CHECKING:
    from PIL import Image


STRIP_PIXELS = 1 << 20
"""Large photos are converted to RGB in strips of about this many pixels, so that few full-size copies exist at once."""
STRIP_BYTES = 24
"""For each of a strip's pixels: as it was, in RGBA, on white, and reduced."""
STORED_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2}
"""For each pixel, in Pillow's memory; 4 in every other mode."""
OPENED_BYTES = {"WebP": 17, "GIF": 6}
"""For each pixel, where the decoder may take all that it needs when a file is opened: the measured peak."""
DECODER_BYTES = {"AVIF": 11, "BMP": 3}
"""For each pixel, besides Pillow's own."""
TILE_BYTES, FINE_TILE_BYTES = 9, 17
"""For each pixel of a HEIC photo's tile: the measured peak with 8 bits and 4:2:0, and with 10 bits and 4:4:4."""
BITS_PER_SAMPLE, TIFF_COMPRESSION, TIFF_COLOURS, SAMPLES = 258, 259, 262, 277
JPEG_IN_TIFF, YCBCR_TIFF = (6, 7), 6


def cost_to_open(file: PhotoFile) -> int:
    """Return about how many bytes a photo takes once it is opened; 0 for the formats that only look at the header."""
    each = OPENED_BYTES.get(file.format, 0)
    if not each or file.size is None:
        return 0
    pixels = file.size[0] * file.size[1]
    return max(each * pixels, STRIP_BYTES * min(pixels, STRIP_PIXELS))


def cost_to_load(file: PhotoFile, image: Image.Image, factor: int, drafted: int) -> int:
    """Return about how many bytes it takes to decode an opened photo at 1/factor, of which the decoder does 1/drafted.

    0 for the formats of `cost_to_open`. Figures are peaks measured on Linux with the pinned Pillow.
    """
    if file.format in OPENED_BYTES:
        return 0
    full = image.width * image.height
    pixels = full // drafted**2
    cost = (STORED_BYTES.get(image.mode, 4) + DECODER_BYTES.get(file.format, 0)) * pixels
    if image.mode != "RGB" or factor > drafted:
        cost += 4 * pixels // (factor // drafted) ** 2
    if image.mode != "RGB":
        cost += STRIP_BYTES * min(pixels, STRIP_PIXELS)
    if file.buffered:
        cost += _coefficients(image)
    if file.format == "TIFF" and file.size is not None:
        cost += _strip(image, file.size[0] * file.size[1])
    return cost


def cost_of_tiles(picture: Picture, factor: int, drafted: int) -> int:
    """Return about how many bytes it takes to decode a HEIC photo at 1/factor, of which each tile does 1/drafted."""
    pixels = picture.size[0] * picture.size[1] // drafted**2
    cost = _tile(picture) + 4 * pixels
    if factor > drafted:
        cost += 4 * pixels // (factor // drafted) ** 2
    if picture.alpha:
        # While it is decoded, its own copy beside the colours; then all channels, alone and together, and strips.
        together = 13 * pixels + STRIP_BYTES * min(pixels, STRIP_PIXELS)
        cost = max(cost, 8 * pixels + _tile(picture.alpha), together)
    return cost


def _tile(picture: Picture) -> int:
    """Return the bytes that it takes to decode one tile, or to reduce it then."""
    tile = picture.tiles[0]
    width, height = tile.size
    decoded = (FINE_TILE_BYTES if tile.fine else TILE_BYTES) * (width + PADDING) * (height + PADDING)
    return max(decoded, 4 * width * height + STRIP_BYTES * min(width * height, STRIP_PIXELS))


def _coefficients(image: Image.Image) -> int:
    """Return the bytes of a JPEG's coefficients: two for each sample of each component."""
    sampling = [(across, down) for _, across, down, _ in getattr(image, "layer", [])]
    most = max((across for across, _ in sampling), default=1) * max((down for _, down in sampling), default=1)
    samples = sum(across * down for across, down in sampling) / most
    return int(2 * image.width * image.height * samples)


def _strip(image: Image.Image, pixels: int) -> int:
    """Return the bytes of a TIFF's strip or tile, which may be the whole image."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(BITS_PER_SAMPLE, (1,))
    cost = int(pixels * max(sum(bits), bits[0] * tags.get(SAMPLES, 1)) // 8)
    if tags.get(TIFF_COMPRESSION) in JPEG_IN_TIFF or tags.get(TIFF_COLOURS) == YCBCR_TIFF:
        cost += 8 * pixels  # its coefficients, or an RGBA copy
    return cost
