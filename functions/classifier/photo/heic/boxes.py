"""The boxes that a HEIC file is made of: ISO base media file format, ISO/IEC 14496-12, 4.2."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

from classifier.errors import InvalidImage

MAX_BOXES = 20_000
"""In one file; a phone's photo has some hundreds."""
MAX_NUMBERS = 200_000
"""Read from one file's boxes; a photo of a thousand tiles has twenty thousand. Lists may announce billions of entries,
of which some take no bytes at all."""


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of each box between ``start`` and ``end``.

    Raises:
        InvalidImage: a box reaches past the end, or there are too many.
    """
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        length, kind = struct.unpack_from(">L4s", data, start)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        stop = start + length if length else end
        if 0 < length < head or stop > end:
            raise damaged(f"its box {kind.decode('latin-1')!r} reaches past its end")
        yield kind, start + head, stop
        start = stop
    raise damaged(f"it has more than {MAX_BOXES:,} boxes")


class Reader:
    """Reads whole numbers, big-endian, one after another, from the bytes between ``at`` and ``end``.

    ``count`` is shared by all readers of a file: they read at most `MAX_NUMBERS` together.
    """

    def __init__(self, data: bytes, at: int, end: int, count: itertools.count[int]) -> None:
        self.data, self.at, self.end, self._count = data, at, end, count

    def number(self, size: int) -> int:
        """Return the number in the next ``size`` bytes."""
        if next(self._count) >= MAX_NUMBERS:
            raise damaged(f"its boxes have more than {MAX_NUMBERS:,} entries")
        self.at += size
        if self.at > self.end:
            raise damaged("one of its boxes is too short")
        return int.from_bytes(self.data[self.at - size : self.at], "big")


def damaged(problem: str) -> InvalidImage:
    """Return the error of a HEIC photo whose parts contradict each other."""
    return InvalidImage(f"The HEIC photo is damaged: {problem}. Send the whole file again.")
