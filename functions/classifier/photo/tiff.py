"""TIFF and BigTIFF: the first page's directory, shortened to what its pixels need."""

from __future__ import annotations

import ctypes
import struct
from functools import cache
from pathlib import Path
from typing import NamedTuple

from classifier.errors import InvalidImage
from classifier.photo.orientation import (
    BIG_ORDERS,
    BYTE_ORDERS,
    MAX_XMP,
    ORIENTATION,
    Entry,
    directory,
    number,
    valid,
    xmp_orientation,
)
from classifier.photo.profiles import MAX_PROFILE

SAMPLES, SAMPLE_FORMAT = 277, 339
WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH = 256, 257, 322, 323
XMP, PROFILE = 700, 34675
FLOATING_POINT = 3
TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8,
}  # fmt: skip
BYTE_STRINGS = (1, 2, 7)
_LAYOUT = {*range(256, 260), 262, 266, 273, *range(277, 280), 284, 292, 293, 317, 320, *range(322, 326), 332, 338, 339}
_JPEG_IN_TIFF = {347, *range(512, 516), 519, 520, 521, *range(529, 533)}
PIXEL_TAGS = _LAYOUT | _JPEG_IN_TIFF


class Page(NamedTuple):
    """A TIFF file whose first page has its pixels only, and what its metadata told of them."""

    data: bytes
    orientation: int
    size: tuple[int, int]
    """Width and height, or those of a tile where they are more: a decoder takes memory for a whole tile."""
    profile: bytes | None


def read_tiff(data: bytes) -> Page:
    """Overwrite the first page's directory with a shorter one that has its pixel tags only.

    Raises:
        InvalidImage, struct.error: it is damaged, or has pixels that are no colours.
    """
    from PIL import TiffTags

    order = BYTE_ORDERS[data[:4]]
    kept, orientation, xmp, profile, out_of_line = [], 0, b"", None, 0
    numbers: dict[int, int] = {}
    for entry in directory(data, order):
        size = entry.values * TYPE_BYTES.get(entry.type, 0)
        if entry.tag == ORIENTATION:
            orientation = valid(number(entry, order))
        elif entry.tag == XMP:
            xmp = _content(data, entry, order, size, MAX_XMP) or b""
        elif entry.tag == PROFILE:
            profile = _content(data, entry, order, size, MAX_PROFILE)
        elif entry.tag in PIXEL_TAGS and size:
            if entry.type not in BYTE_STRINGS and entry.values > 1 == TiffTags.lookup(entry.tag).length:
                raise _damaged(f"tag {entry.tag} has {entry.values:,} values, where 1 was expected")
            if size > entry.room:
                out_of_line += size
                if max(_offset(entry, order) + size, out_of_line) > len(data):
                    raise _damaged(f"tag {entry.tag} points past its end")
            numbers[entry.tag] = _first(data, entry, order, size)
            kept.append(entry.raw)
    _check_kind(numbers)
    _silence_libtiff()
    sides = [max(numbers.get(side, 0) for side in pair) for pair in ((WIDTH, TILE_WIDTH), (LENGTH, TILE_LENGTH))]
    return Page(
        _with_directory(data, order, kept), orientation or xmp_orientation(xmp) or 1, (sides[0], sides[1]), profile
    )


def _with_directory(data: bytes, order: str, entries: list[bytes]) -> bytes:
    big = data[:4] in BIG_ORDERS
    (at,) = struct.unpack_from(f"{order}Q" if big else f"{order}L", data, 8 if big else 4)
    count = struct.pack(f"{order}Q" if big else f"{order}H", len(entries))
    written = count + b"".join(entries) + bytes(8 if big else 4)
    view = memoryview(data)
    return b"".join([view[:at], written, view[at + len(written) :]])


def _check_kind(numbers: dict[int, int]) -> None:
    if numbers.get(SAMPLE_FORMAT) == FLOATING_POINT and numbers.get(SAMPLES, 1) > 1:
        raise InvalidImage(
            "Expected colours of 8 or 16 bits; received a TIFF of floating-point numbers, whose range is not known. "
            "Save the photo with 8 bits a channel."
        )


@cache
def _silence_libtiff() -> None:
    """Keep libtiff, as Pillow's wheels bring it, from writing on standard error, as of each damaged row of a fax."""
    from PIL import Image  # which loads the library that is found below

    package = Path(Image.__file__).parent
    for library in (*package.parent.glob("pillow.libs/libtiff*.so*"), *package.glob(".dylibs/libtiff*.dylib")):
        handler = ctypes.CDLL(str(library)).TIFFSetErrorHandler
        handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        handler(None)


def _offset(entry: Entry, order: str) -> int:
    (offset,) = struct.unpack_from(
        f"{order}Q" if entry.room == 8 else f"{order}L", entry.raw, len(entry.raw) - entry.room
    )
    return int(offset)


def _content(data: bytes, entry: Entry, order: str, size: int, limit: int) -> bytes | None:
    """Return the bytes of an entry that the pixels do not need; None where it is damaged or too large."""
    if not entry.room < size <= limit:
        return None
    at = _offset(entry, order)
    return data[at : at + size] if at + size <= len(data) else None


def _first(data: bytes, entry: Entry, order: str, size: int) -> int:
    """Return the first of an entry's values, where they are whole numbers."""
    if size <= entry.room:
        return number(entry, order)
    code = {1: "B", 3: "H", 4: "L", 16: "Q"}.get(entry.type)
    return int(struct.unpack_from(order + code, data, _offset(entry, order))[0]) if code else 0


def _damaged(problem: str) -> InvalidImage:
    return InvalidImage(f"The TIFF photo is damaged: {problem}. Send the whole file again.")
