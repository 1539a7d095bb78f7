"""What a JPEG's segments and a PNG's chunks tell of the pixels: orientation and profile, the first of each kind."""

from __future__ import annotations

import zlib

from classifier.photo.orientation import EXIF_HEADER, MAX_XMP, raw_profile, stated
from classifier.photo.profiles import MAX_PROFILE

XMP_HEADER, PROFILE_HEADER = b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
PNG_XMP, PNG_EXIF = b"XML:com.adobe.xmp", (b"Raw profile type exif", b"Raw profile type APP1")
PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt")
MAX_KEYWORD = 79
MAX_TEXT = 2 * MAX_XMP
"""Bytes of a PNG's text that is read."""
DAMAGED = b"\0"
"""In place of what could not be read, so that no second one is inflated."""


class Notes:
    """Orientation and profile, as far as they were met."""

    def __init__(self) -> None:
        self._exif = self._raw_exif = self._xmp = b""
        self._profile: dict[int, bytes] = {}
        self._parts = self._bytes = 0

    @property
    def orientation(self) -> int:
        """As EXIF counts, 1..8."""
        return stated(exif=self._exif or self._raw_exif, xmp=self._xmp)

    @property
    def profile(self) -> bytes | None:
        """The whole ICC profile; None where there is none, a part is missing, or it is too large."""
        parts = [self._profile.get(number, b"") for number in range(1, self._parts + 1)]
        return b"".join(parts) if parts and all(parts) and self._bytes <= MAX_PROFILE else None

    def segment(self, body: memoryview) -> None:
        """Note what a JPEG's application segment tells."""
        head = bytes(body[: len(XMP_HEADER)])
        if head.startswith(EXIF_HEADER):
            self._exif = self._exif or bytes(body)
        elif head == XMP_HEADER:
            self._xmp = self._xmp or bytes(body[len(XMP_HEADER) :])
        elif head.startswith(PROFILE_HEADER) and len(body) > len(PROFILE_HEADER) + 2:
            content = body[len(PROFILE_HEADER) + 2 :]
            number, self._parts = body[len(PROFILE_HEADER)], body[len(PROFILE_HEADER) + 1]
            self._bytes += len(content)
            if self._bytes <= MAX_PROFILE:
                self._profile.setdefault(number, bytes(content))

    def chunk(self, name: bytes, body: memoryview) -> None:
        """Note what a PNG's chunk tells."""
        if name == b"eXIf":
            self._exif = self._exif or bytes(body)
        elif name == b"iCCP":
            if not self._parts:
                head = bytes(body[: MAX_KEYWORD + 1]).partition(b"\0")[0]
                content = inflated(bytes(body[len(head) + 2 :]), MAX_PROFILE)  # one byte says that zlib packed it
                self._profile, self._parts, self._bytes = {1: content}, 1, len(content)
        elif name in PNG_TEXT:
            keyword = bytes(body[: MAX_KEYWORD + 1]).partition(b"\0")[0]
            if keyword == PNG_XMP:
                self._xmp = self._xmp or _text(name, bytes(body[len(keyword) + 1 :])) or DAMAGED
            elif keyword in PNG_EXIF:
                self._raw_exif = self._raw_exif or raw_profile(_text(name, bytes(body[len(keyword) + 1 :]))) or DAMAGED


def inflated(packed: bytes, limit: int) -> bytes:
    """Inflate zlib's data; nothing where they are damaged, cut short or become more than ``limit`` bytes."""
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(packed, limit)
    except zlib.error:
        return b""
    return content if inflate.eof else b""


def _text(name: bytes, body: bytes) -> bytes:
    """Return the text of a PNG's chunk, behind whose keyword ``body`` begins."""
    packed = name == b"zTXt"
    if packed:
        body = body[1:]
    elif name == b"iTXt":
        packed = body[:1] == b"\1"
        body = body[2:].partition(b"\0")[2].partition(b"\0")[2]  # language, translated keyword
    return inflated(body, MAX_TEXT) if packed else body[:MAX_TEXT]
