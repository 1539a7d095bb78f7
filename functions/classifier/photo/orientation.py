"""How a photo is to be turned, as its EXIF says, or its XMP where EXIF says nothing."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

ORIENTATION = 0x0112
UPRIGHT, UNKNOWN = 1, 0
EXIF_HEADER = b"Exif\0\0"
BIG_ORDERS = {b"II+\0": "<", b"MM\0+": ">"}
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">", **BIG_ORDERS}
"""By the first bytes of TIFF, BigTIFF and EXIF; "<" has the low byte first."""
MAX_XMP = 1 << 20
"""Bytes of an XMP packet that are looked at; Lightroom writes some tens of kilobytes."""
_XMP_ORIENTATION = re.compile(rb"\btiff:Orientation(?:\s*=\s*[\"']|>)\s*([1-8])\b")
MAX_ENTRIES = 0xFFFF
"""Of a directory, as TIFF counts them; BigTIFF would allow as many as a file has room for."""


class Entry(NamedTuple):
    """An entry of a TIFF's directory."""

    tag: int
    type: int
    values: int  # how many
    raw: bytes  # all 12 bytes, the value or its offset in the last 4; of BigTIFF all 20 and the last 8

    @property
    def room(self) -> int:
        """Bytes of a value that is in the entry itself."""
        return 4 if len(self.raw) == 12 else 8


def stated(*, exif: bytes = b"", xmp: bytes = b"") -> int:
    """Return the orientation, 1..8, that EXIF states, else XMP; 1 (upright) where neither does."""
    return exif_orientation(exif) or xmp_orientation(xmp) or UPRIGHT


def exif_orientation(exif: bytes) -> int:
    """Return EXIF's orientation, 1..8; 0 where it is missing or the block is damaged."""
    tiff = exif.removeprefix(EXIF_HEADER)
    order = BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return UNKNOWN
    with suppress(struct.error):  # a damaged block says nothing about the pixels
        for entry in directory(tiff, order):
            if entry.tag == ORIENTATION:
                return valid(number(entry, order))
    return UNKNOWN


def xmp_orientation(xmp: bytes) -> int:
    """Return the orientation, 1..8, of an XMP packet in UTF-8; 0 where it is missing. The XML is not parsed."""
    found = _XMP_ORIENTATION.search(xmp, 0, MAX_XMP)
    return int(found[1]) if found else UNKNOWN


def raw_profile(text: bytes) -> bytes:
    """Return the bytes of a PNG's text "Raw profile type exif"; none where it is damaged.

    That is how ImageMagick writes binary data as text: a name, the number of bytes, the bytes in hexadecimal.
    """
    with suppress(ValueError):  # a part is missing, not ASCII, no digits or an odd number of them
        _, _, digits = text.split(maxsplit=2)
        return bytes.fromhex(digits.decode("ascii"))
    return b""


def valid(value: int) -> int:
    """Return an orientation as it was stated, or 1 where it is none."""
    return value if 1 <= value <= 8 else UPRIGHT


def number(entry: Entry, order: str) -> int:
    """Return the value of an entry that holds it."""
    code = {1: "B", 4: "L", 16: "Q"}.get(entry.type, "H")
    (value,) = struct.unpack_from(order + code, entry.raw, len(entry.raw) - entry.room)
    return int(value)


def directory(tiff: bytes, order: str) -> Iterator[Entry]:
    """Yield the entries of a TIFF's first directory; struct.error where the bytes end before it, or it has too many."""
    if tiff[:4] in BIG_ORDERS:
        first, head, length, layout = "8xQ", "Q", 20, "HHQ8x"
    else:
        first, head, length, layout = "4xL", "H", 12, "HHL4x"
    (at,) = struct.unpack_from(order + first, tiff)
    (count,) = struct.unpack_from(order + head, tiff, at)
    if count > MAX_ENTRIES:
        raise struct.error(f"{count:,} entries")
    for index in range(count):
        start = at + struct.calcsize(order + head) + length * index
        tag, kind, values = struct.unpack_from(order + layout, tiff, start)
        yield Entry(tag, kind, values, tiff[start : start + length])
