"""What a photo file says about itself, read without Pillow: format, orientation, and the bytes without metadata.

Pillow reads EXIF, XMP, comments and text chunks while it opens a file. Damaged ones make it warn or give up though the
pixels are fine, and some can be made to inflate to gigabytes. Here only what the pixels need is passed on.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from classifier.errors import InvalidImage
from classifier.photo.heic.container import Picture, is_heic, read_picture

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "AVIF", "HEIC", "BMP", "TIFF")
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
MAX_SCANS = 100
"""Of a JPEG; encoders write about ten. Each goes through the whole picture, however few bytes it has."""
_NEXT_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
"""Not what is in a scan: stuffed bytes, restart markers, padding."""
MAX_PARTS = 100_000
"""Segments or chunks in one file; a photo has dozens, the largest PNGs some thousands."""

ORIENTATION = 0x0112
COMPRESSION = 0x0103
WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH = 256, 257, 322, 323
FAX = (2, 3, 4)
EXIF_HEADER = b"Exif\0\0"
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
TIFF_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
TIFF_BYTE_STRINGS = (1, 2, 7)
_LAYOUT = {*range(256, 260), 262, 266, 273, *range(277, 280), 284, 317, 320, *range(322, 326), 332, 338, 339}
_JPEG_IN_TIFF = {347, *range(512, 516), 519, 520, 521, *range(529, 533)}
TIFF_PIXEL_TAGS = _LAYOUT | _JPEG_IN_TIFF
PNG_PIXEL_CHUNKS = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND"))
PNG_GREY, PNG_RGB = 0, 2


class PhotoFile(NamedTuple):
    """A photo file reduced to what its pixels need."""

    format: str
    """One of `FORMATS`."""
    data: bytes
    orientation: int = 1
    """EXIF's 1..8 where it was read here; WebP and AVIF leave it to their decoder."""
    size: tuple[int, int] | None = None
    """Width and height as stored, with a TIFF's tiles, where the decoder takes memory for more than Pillow tells."""
    buffered: bool = False
    """Whether it is a JPEG of several scans, whose coefficients the decoder keeps whole."""
    picture: Picture | None = None
    """What `classifier.photo.heic.decoder` is to decode; HEIC only."""


def read(data: bytes) -> PhotoFile:
    """Tell the format by the first bytes and drop the metadata.

    Raises:
        InvalidImage: no bytes, another format, or a structure too damaged to find the pixels.
    """
    if not data:
        raise InvalidImage("Expected a photo; received 0 bytes.")
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _read_jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _read_png(data)
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _read_gif(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return PhotoFile("WebP", data, size=_webp_size(data))
        heic = is_heic(data)
        if heic:
            picture = read_picture(data)
            return PhotoFile("HEIC", data, picture.orientation, picture.canvas, picture=picture)
        if heic is False:
            return PhotoFile("AVIF", _without_avif_exif(data))
        if data.startswith(b"BM"):
            return PhotoFile("BMP", data)
        if data[:4] in BYTE_ORDERS:
            return _read_tiff(data)
    except (struct.error, IndexError) as error:
        raise InvalidImage(
            f"The photo is damaged or cut short; received {len(data):,} bytes. Send the whole file again."
        ) from error
    expected = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    raise InvalidImage(f"Expected a photo as {expected}; received something else ({len(data):,} bytes).")


def exif_orientation(exif: bytes) -> int:
    """Return EXIF's orientation, 1..8; 1 (upright) where it is missing or the block is damaged."""
    tiff = exif.removeprefix(EXIF_HEADER)
    order = BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    with suppress(struct.error):  # a damaged block says nothing about the pixels
        for entry in _directory(tiff, order):
            if entry.tag == ORIENTATION:
                return _orientation(entry, order)
    return 1


class _Entry(NamedTuple):
    tag: int
    type: int
    values: int  # how many
    raw: bytes  # all 12 bytes, the value or its offset in the last 4


def _directory(tiff: bytes, order: str) -> Iterator[_Entry]:
    """Yield the entries of a TIFF's first directory; struct.error where the bytes end before it does."""
    (at,) = struct.unpack_from(f"{order}L", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    for index in range(count):
        start = at + 2 + 12 * index
        tag, kind, values = struct.unpack_from(f"{order}HHL4x", tiff, start)
        yield _Entry(tag, kind, values, tiff[start : start + 12])


def _orientation(entry: _Entry, order: str) -> int:
    value = _number(entry, order)
    return value if 1 <= value <= 8 else 1


def _number(entry: _Entry, order: str) -> int:
    (value,) = struct.unpack_from(f"{order}{'L' if entry.type == 4 else 'H'}", entry.raw, 8)
    return int(value)


def _read_jpeg(data: bytes) -> PhotoFile:
    """Keep the tables, the frame and the scans; of the application segments only JFIF's and Adobe's (colour space)."""
    view, kept, at, orientation = memoryview(data), [memoryview(data)[:2]], 2, 1
    progressive, components = False, 0
    for _ in range(MAX_PARTS):
        at = data.find(b"\xff", at)
        marker = data[at + 1] if at >= 0 else 0xD9
        if marker == 0xFF:  # padding
            at += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # markers without a segment
            at += 2
        elif marker == 0xD9:
            raise _damaged("JPEG", "it ends before its pixels begin")
        elif marker == 0xDA:
            buffered = progressive or data[at + 4] < components
            if buffered:
                _check_scans(data, at)
            return PhotoFile("JPEG", b"".join([*kept, view[at:]]), orientation, buffered=buffered)
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            end = at + 2 + max(2, length)
            if marker in FRAMES:
                progressive, components = marker in PROGRESSIVE, data[at + 9]
            if marker == 0xE1 and orientation == 1 and data.startswith(EXIF_HEADER, at + 4):
                orientation = exif_orientation(data[at + 4 : end])
            if not (0xE1 <= marker <= 0xED or marker in (0xEF, 0xFE)):
                kept.append(view[at:end])
            at = end
    raise _damaged("JPEG", f"it has more than {MAX_PARTS:,} segments")


def _check_scans(data: bytes, at: int) -> None:
    """Refuse a JPEG of too many scans; ``at`` is where the first begins."""
    scans = 0
    for _ in range(MAX_PARTS):
        scans += data[at + 1] == START_OF_SCAN
        if scans > MAX_SCANS:
            raise _damaged("JPEG", f"it has more than {MAX_SCANS} scans")
        (length,) = struct.unpack_from(">H", data, at + 2)
        found = _NEXT_MARKER.search(data, at + 2 + max(2, length))
        if found is None or data[found.start() + 1] == END_OF_IMAGE:
            return
        at = found.start()
    raise _damaged("JPEG", f"it has more than {MAX_PARTS:,} segments")


def _read_png(data: bytes) -> PhotoFile:
    """Keep the chunks that hold pixels: no text to inflate, no animation (the default image is decoded)."""
    view, kept, at, orientation = memoryview(data), [memoryview(data)[:8]], 8, 1
    depth, colour = data[24], data[25]
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            return PhotoFile("PNG", b"".join(kept), orientation)
        (length,) = struct.unpack_from(">L", data, at)
        name, end = data[at + 4 : at + 8], at + 12 + length
        if name == b"eXIf":
            orientation = exif_orientation(data[at + 8 : end - 4])
        elif name == b"tRNS":
            kept.append(memoryview(_png_transparency(data[at + 8 : end - 4], depth, colour)))
        elif name in PNG_PIXEL_CHUNKS:
            kept.append(view[at:end])
        at = end
    raise _damaged("PNG", f"it has more than {MAX_PARTS:,} chunks")


def _png_transparency(value: bytes, depth: int, colour: int) -> bytes:
    """Bring the transparent colour to the 8 bits that Pillow decodes to: it leaves it as it was written."""
    if colour == PNG_GREY and depth in (2, 4):
        value = struct.pack(">H", struct.unpack_from(">H", value)[0] * 255 // (2**depth - 1))
    elif colour == PNG_RGB and depth == 16:
        value = struct.pack(">3H", *(part >> 8 for part in struct.unpack_from(">3H", value)))
    chunk = b"tRNS" + value
    return struct.pack(">L", len(value)) + chunk + struct.pack(">L", zlib.crc32(chunk))


def _read_gif(data: bytes) -> PhotoFile:
    """Keep the screen, the palette and what belongs to the first frame."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    start = 13 + (6 << (flags & 7) if flags & 0x80 else 0)
    at, control = start, b""
    for _ in range(MAX_PARTS):
        if data[at] == 0x2C:
            left, top, frame_width, frame_height = struct.unpack_from("<4H", data, at + 1)
            size = max(width, left + frame_width), max(height, top + frame_height)
            return PhotoFile("GIF", data[:start] + control + data[at:], size=size)
        if data[at] != 0x21:
            raise _damaged("GIF", "no frame was found")
        if data[at + 1] == 0xF9 and data[at + 2] == 4:
            control = data[at : at + 8]
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    raise _damaged("GIF", f"it has more than {MAX_PARTS:,} blocks")


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<L", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _without_avif_exif(data: bytes) -> bytes:
    """Rename the EXIF item so that no reader looks for it; AVIF's orientation is in the image's own properties."""
    return re.sub(rb"(infe[\x02\x03].{7,9})Exif", rb"\1skip", data, flags=re.DOTALL) if b"Exif" in data else data


def _read_tiff(data: bytes) -> PhotoFile:
    """Overwrite the first page's directory with a shorter one that has its pixel tags only."""
    from PIL import TiffTags

    order = BYTE_ORDERS[data[:4]]
    kept, orientation, out_of_line = [], 1, 0
    sides: dict[int, int] = {}
    for entry in _directory(data, order):
        size = entry.values * TIFF_TYPE_BYTES.get(entry.type, 0)
        if entry.tag == ORIENTATION:
            orientation = _orientation(entry, order)
        elif entry.tag in TIFF_PIXEL_TAGS and size:
            if entry.tag == COMPRESSION and struct.unpack_from(f"{order}H", entry.raw, 8)[0] in FAX:
                # libtiff complains about damaged fax data on standard error, a line for each row of pixels.
                raise InvalidImage("A TIFF with fax compression is not read here. Save it with another compression.")
            if entry.type not in TIFF_BYTE_STRINGS and entry.values > 1 == TiffTags.lookup(entry.tag).length:
                raise _damaged("TIFF", f"tag {entry.tag} has {entry.values:,} values, where 1 was expected")
            if size > 4:
                (offset,) = struct.unpack_from(f"{order}L", entry.raw, 8)
                out_of_line += size
                if max(offset + size, out_of_line) > len(data):
                    raise _damaged("TIFF", f"tag {entry.tag} points past its end")
            if entry.tag in (WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH):
                sides[entry.tag] = _number(entry, order)
            kept.append(entry.raw)
    (at,) = struct.unpack_from(f"{order}L", data, 4)
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    view = memoryview(data)
    # A decoder takes memory for a whole tile, however little of it the image needs.
    across, down = (max(sides.get(side, 0) for side in pair) for pair in ((WIDTH, TILE_WIDTH), (LENGTH, TILE_LENGTH)))
    shortened = b"".join([view[:at], directory, view[at + len(directory) :]])
    return PhotoFile("TIFF", shortened, orientation, (across, down))


def _damaged(kind: str, problem: str) -> InvalidImage:
    return InvalidImage(f"The {kind} photo is damaged: {problem}. Send the whole file again.")
