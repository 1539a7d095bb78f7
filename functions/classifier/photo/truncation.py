"""JPEGs that have no end marker: whether anything but the marker is missing."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

from PIL import Image

from classifier.errors import InvalidImage
from classifier.photo.costs import STRIP_PIXELS
from classifier.photo.formats import FRAMES, PROGRESSIVE, START_OF_SCAN

END_MARKER = b"\xff\xd9"
FILLER = b"\xaa" * 64
"""Begins with a one, where a decoder that finds the end too early goes on with zeros."""
BLOCK = frozenset(range(64))
"""The coefficients of 8 x 8 pixels."""
RESTART_INTERVAL, RESTART = 0xDD, 0xD0
_SEGMENT = re.compile(rb"\xff([\x02-\xcf\xda-\xfe])")
"""Not what stands between the bits of a scan: a byte 255, restart markers."""
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")


def lacks_end(jpeg: bytes) -> bool:
    """Say whether a JPEG ends without its marker."""
    return END_MARKER not in jpeg


def ended(jpeg: bytes) -> bytes:
    """Return a JPEG that lacks its end marker with one.

    Whether its pixels are all there is found by decoding it whole, with two or three continuations: a pixel for which
    bits are missing comes out differently. That takes the memory of one decode.

    Raises:
        InvalidImage: pixels are missing.
    """
    content = jpeg.removesuffix(END_MARKER[:1])  # half of the marker
    if not _has_all_scans(content) or len({_pixels(content + more) for more in _continuations(content)}) > 1:
        raise InvalidImage("The JPEG photo is truncated: its last pixels are missing. Send the whole file again.")
    return content + END_MARKER


class _Segment(NamedTuple):
    marker: int
    body: bytes
    end: int


def _segments(jpeg: bytes) -> Iterator[_Segment]:
    at = 2
    while found := _SEGMENT.search(jpeg, at):
        (length,) = struct.unpack_from(">H", jpeg, found.end())
        at = found.end() + length
        yield _Segment(found[1][0], jpeg[found.end() + 2 : at], at)


def _has_all_scans(jpeg: bytes) -> bool:
    """Say whether scans have begun for every coefficient of every component, down to its last bit."""
    missing: dict[int, set[int]] = {}
    progressive = False
    for marker, body, _ in _segments(jpeg):
        if marker in FRAMES:
            progressive = marker in PROGRESSIVE
            missing = {component: set(BLOCK) for component in body[6 : 6 + 3 * body[5] : 3]}
        elif marker == START_OF_SCAN:
            first, last, bits = body[-3:] if progressive else (0, 63, 0)
            if not bits & 0x0F:  # how many of the lowest are left to later scans
                for component in body[1 : 1 + 2 * body[0] : 2]:
                    missing.get(component, set()).difference_update(range(first, last + 1))
    return not any(missing.values())


def _continuations(jpeg: bytes) -> list[bytes]:
    """Return what may follow the bytes, so that decoders make something else of each where bits are missing."""
    more = [END_MARKER, FILLER + END_MARKER]
    restarts, scan = False, 0
    for marker, body, end in _segments(jpeg):
        if marker == RESTART_INTERVAL:
            restarts = any(body)
        elif marker == START_OF_SCAN:
            scan = end
    if restarts:  # a decoder that waits for the next restart marker skips everything else
        numbers = [found[1][0] for found in _RESTART.finditer(jpeg, scan)]
        expected = RESTART + (numbers[-1] - RESTART + 1) % 8 if numbers else RESTART
        more.append(bytes((0xFF, expected)) + FILLER + END_MARKER)
    return more


def _pixels(jpeg: bytes) -> bytes:
    digest = hashlib.sha256()
    with Image.open(BytesIO(jpeg), formats=["JPEG"]) as image:
        image.load()
        rows = max(1, STRIP_PIXELS // image.width)
        for top in range(0, image.height, rows):
            digest.update(image.crop((0, top, image.width, min(top + rows, image.height))).tobytes())
    return digest.digest()
