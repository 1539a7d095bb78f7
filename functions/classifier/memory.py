"""The memory that decoding photos may take: what one photo may cost, and all that are decoded at the same time."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from classifier.errors import Overloaded
from classifier.metadata import PhotoFile

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
BITS_PER_SAMPLE, TIFF_COMPRESSION, TIFF_COLOURS, SAMPLES = 258, 259, 262, 277
JPEG_IN_TIFF, YCBCR_TIFF = (6, 7), 6
M_MMAP_THRESHOLD = -3
MAPPED_FROM = 1 << 20
"""Bytes; well below the 16 MiB blocks in which Pillow keeps an image."""
SMALL = 32
"""A photo that costs at most 1/32 of all never waits: eight of them, a function's concurrency, cost a quarter."""


class Memory:
    """At most ``total`` bytes, lent to whoever decodes a large photo. Any thread may call any method.

    Args:
        total: bytes.
        wait: seconds to wait until enough of it is free.
    """

    def __init__(self, total: int, *, wait: float) -> None:
        self.total = total
        self._wait = wait
        self._lent = 0
        self._changed = threading.Condition()
        _give_back_what_is_freed()

    @contextmanager
    def lend(self, cost: int) -> Iterator[None]:
        """Lend ``cost`` bytes, which are at most ``total``.

        Raises:
            Overloaded: they did not become free within ``wait`` seconds.
        """
        if cost <= self.total // SMALL:
            yield
            return
        with self._changed:
            if not self._changed.wait_for(lambda: self._lent + cost <= self.total, self._wait):
                raise Overloaded(
                    f"Other large photos were being decoded for {self._wait:g} s. Try again in a second.",
                    retry_after=1,
                )
            self._lent += cost
        try:
            yield
        finally:
            with self._changed:
                self._lent -= cost
                self._changed.notify_all()


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


def _give_back_what_is_freed() -> None:
    """Make glibc return large blocks to the system at once.

    By itself it learns from the first large block to keep later ones, in one arena for each thread: eight threads that
    decoded one after another held 650 MB, where each needed 100.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and keeps nothing
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, MAPPED_FROM)


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
