"""Tells a photo by its first bytes, where nothing else says what was sent."""

from __future__ import annotations

from classifier.photo.heic.container import is_heic

BEGINNINGS = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+",
)  # fmt: skip
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
"""The sizes that the header after a BMP's first 14 bytes has in one of its versions."""


def begins_like_photo(data: bytes) -> bool:
    """Say whether ``data`` begins as a photo does, in a format that is read here; text never does.

    A BMP begins with two letters, with which a text may begin too: its header's size is looked at as well.
    """
    if data.startswith(BEGINNINGS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return True
    if data[:2] == b"BM":
        return int.from_bytes(data[14:18], "little") in BMP_HEADERS
    return is_heic(data) is not None
