"""What a photo file says about itself, read without Pillow: format, orientation, profile, the bytes without metadata.

Pillow reads EXIF, XMP, comments and text chunks while it opens a file. Damaged ones make it warn or give up though the
pixels are fine, and some can be made to inflate to gigabytes. Here only what the pixels need is passed on. A profile of
the colours goes another way, which `classifier.photo.profiles` guards.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

from classifier.errors import InvalidImage
from classifier.photo.heic.container import Picture, is_heic, read_picture
from classifier.photo.metadata import Notes
from classifier.photo.orientation import BYTE_ORDERS
from classifier.photo.tiff import read_tiff

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
    profile: bytes | None = None
    """The embedded ICC profile, as it was found; WebP and AVIF leave it to their decoder."""


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
            orientation, profile = picture.orientation, picture.profile
            return PhotoFile("HEIC", data, orientation, picture.canvas, picture=picture, profile=profile)
        if heic is False:
            return PhotoFile("AVIF", _without_avif_exif(data))
        if data.startswith(b"BM"):
            return PhotoFile("BMP", data)
        if data[:4] in BYTE_ORDERS:
            tiff = read_tiff(data)
            return PhotoFile("TIFF", tiff.data, tiff.orientation, tiff.size, profile=tiff.profile)
    except (struct.error, IndexError) as error:
        raise InvalidImage(
            f"The photo is damaged or cut short; received {len(data):,} bytes. Send the whole file again."
        ) from error
    expected = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    raise InvalidImage(f"Expected a photo as {expected}; received something else ({len(data):,} bytes).")


def _read_jpeg(data: bytes) -> PhotoFile:
    """Keep the tables, the frame and the scans; of the application segments only JFIF's and Adobe's (colour space)."""
    view, kept, at = memoryview(data), [memoryview(data)[:2]], 2
    notes = Notes()
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
            content = b"".join([*kept, view[at:]])
            return PhotoFile("JPEG", content, notes.orientation, buffered=buffered, profile=notes.profile)
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            end = at + 2 + max(2, length)
            if marker in FRAMES:
                progressive, components = marker in PROGRESSIVE, data[at + 9]
            if marker in (0xE1, 0xE2):
                notes.segment(view[at + 4 : end])
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
    view, kept, at = memoryview(data), [memoryview(data)[:8]], 8
    notes = Notes()
    depth, colour = data[24], data[25]
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            return PhotoFile("PNG", b"".join(kept), notes.orientation, profile=notes.profile)
        (length,) = struct.unpack_from(">L", data, at)
        name, end = data[at + 4 : at + 8], at + 12 + length
        if name == b"tRNS":
            kept.append(memoryview(_png_transparency(data[at + 8 : end - 4], depth, colour)))
        elif name in PNG_PIXEL_CHUNKS:
            kept.append(view[at:end])
        else:
            notes.chunk(name, view[at + 8 : end - 4])
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


def _damaged(kind: str, problem: str) -> InvalidImage:
    return InvalidImage(f"The {kind} photo is damaged: {problem}. Send the whole file again.")
