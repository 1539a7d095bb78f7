"""Photos by their row: bytes to pixels, with the limits of training."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier.photo.limits import Limits
from classifier.photo.preprocessing import Photo, decode, load_array
from classifier.registry.manifest import InputSpec

TRAINING_LIMITS = Limits(max_bytes=100 * 2**20, max_pixels=200_000_000)


class PhotoSource:
    """Photos by row number, as uint8 arrays [H, W, 3] made by the same code that serves them.

    Args:
        paths: the photos, absolute.
        spec: the model's input size and resize rule.
        cache_bytes: how many bytes of decoded pixels are kept; photos beyond are decoded each time. The default is
            a quarter of the memory that this process may use.

    Safe to use from several threads.
    """

    def __init__(self, paths: list[Path], spec: InputSpec, *, cache_bytes: int | None = None) -> None:
        self.paths = paths
        self.spec = spec
        self._room = usable_memory() // 4 if cache_bytes is None else cache_bytes
        self._pixels: dict[int, NDArray[np.uint8]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.paths)

    def array(self, row: int) -> NDArray[np.uint8]:
        """Return the pixels of one photo.

        Raises:
            InvalidImage, TooLarge, OSError: the photo cannot be read.
        """
        pixels = self._pixels.get(row)
        if pixels is None:
            pixels = self.decode(row, self.paths[row].read_bytes())
        return pixels

    def photo(self, row: int) -> Photo:
        """Decode one photo to be looked at in parts; it is not kept.

        Raises what `array` raises.
        """
        data = self.paths[row].read_bytes()
        return decode(data, width=self.spec.width, height=self.spec.height, limits=TRAINING_LIMITS)

    def decode(self, row: int, data: bytes) -> NDArray[np.uint8]:
        """Decode a photo whose bytes are at hand, and keep its pixels if there is room."""
        pixels = load_array(data, self.spec, TRAINING_LIMITS)
        with self._lock:
            if row not in self._pixels and self._room >= pixels.nbytes:
                self._room -= pixels.nbytes
                self._pixels[row] = pixels
        return pixels

    @property
    def room(self) -> int:
        """Return how many bytes of pixels may still be kept."""
        return self._room

    def joined(self, others: PhotoSource) -> PhotoSource:
        """Return a source of these photos and, behind them, others of the same size, with the pixels decoded so far.

        The room for more is that of the others.
        """
        both = PhotoSource([*self.paths, *others.paths], self.spec, cache_bytes=others._room)
        both._pixels = self._pixels | {len(self) + row: pixels for row, pixels in others._pixels.items()}
        return both

    def select(self, rows: NDArray[np.intp]) -> PhotoSource:
        """Return a source of these rows only, renumbered from 0, which keeps the pixels decoded so far.

        The room of the other rows' pixels is free again.
        """
        chosen = PhotoSource([self.paths[row] for row in rows], self.spec, cache_bytes=0)
        chosen._pixels = {new: self._pixels[old] for new, old in enumerate(rows.tolist()) if old in self._pixels}
        kept = sum(pixels.nbytes for pixels in chosen._pixels.values())
        chosen._room = self._room + sum(pixels.nbytes for pixels in self._pixels.values()) - kept
        return chosen


def usable_memory(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory of the machine, or of the container where its limit (cgroup v2 or v1) is lower."""
    usable = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            usable = min(usable, int((cgroups / name).read_text()))
        except (OSError, ValueError):
            continue  # not this version of cgroups, or "max": no limit
    return usable
