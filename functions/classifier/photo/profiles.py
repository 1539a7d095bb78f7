"""ICC profiles: what is believed of an embedded one, and the conversions to sRGB that are made of it.

A profile reaches lcms, or `classifier.photo.matrix_profiles`, as photos reach Pillow: rebuilt from the parts that
decide colours, each checked against the bytes that are there, so that none makes it take more memory or time than the
profile's size explains.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image

MAX_PROFILE = 4 * 2**20
"""Bytes; a display's profile has 0.5 to 10 kB, a press's up to 3 MB. Larger ones are ignored."""
MAX_TAGS = 100
KEPT_CONVERSIONS = 8
"""One of a press takes up to 2 MB."""
PROBE_STEPS, SAME_COLOURS = 9, 2
"""A profile by which no colour of a grid changes by more than this many grey levels is sRGB, whatever it is called."""

SIGNATURE = b"acsp"
DEVICES = (b"scnr", b"mntr", b"prtr", b"spac")
CHANNELS = {b"RGB ": 3, b"GRAY": 1, b"CMYK": 4}
TAKEN_AS = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
CONNECTION_SPACES = (b"XYZ ", b"Lab ")
TAGS = (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"A2B0")
"""Primaries, tone curves, and the table for the perceptual intent; without a table lcms takes the curves."""
PARAMETERS = (1, 3, 4, 5, 7)
"""Of a parametric curve, by its kind."""
HEADER_PARTS = (slice(8, 24), slice(36, 40), slice(64, 80))
"""Version, class, colour spaces; signature; intent and illuminant. The rest says who made it, when and of what."""
_RGB_MODES = ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "YCbCr")
_GREY_MODES = ("L", "LA", "La", "I", "I;16", "I;16B")
SPACES = {**dict.fromkeys(_RGB_MODES, b"RGB "), **dict.fromkeys(_GREY_MODES, b"GRAY"), "CMYK": b"CMYK", "LAB": b"Lab "}
"""Of a decoded image's mode. A profile of another space is ignored: it says nothing about these numbers. Nor
does one of black and white alone, whose average is what is seen."""


class Conversion:
    """From a profile's colours to sRGB, perceptual intent. Any thread may use it.

    Attributes:
        mode: of the images that it takes: "RGB", "L", "CMYK" or "LAB".
    """

    def __init__(self, mode: str, convert: Callable[[Image.Image], Image.Image]) -> None:
        self.mode = mode
        self._convert = convert

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return an image in sRGB; of one in RGB for a grey profile, all of whose channels are the same, as well."""
        if self.mode == "L" and image.mode == "RGB":
            image = image.getchannel(0)
        return self._convert(image)


class _Known(NamedTuple):
    conversion: Conversion | None


_Key = tuple[bytes, bytes]
_known: OrderedDict[_Key, _Known] = OrderedDict()
_lock = Lock()
_making = Lock()
"""One at a time is made, so that the memory that it takes is not that of many; those that are known do not wait."""


def conversion(profile: bytes | None, mode: str) -> Conversion | None:
    """Return how an image of one of Pillow's modes becomes sRGB.

    None where nothing is to be done: there is no profile, it is sRGB, of another colour space, damaged or larger than
    `MAX_PROFILE`. Lab needs no profile, and an embedded one is ignored.
    """
    space = SPACES.get(mode)
    if space is None or (space != b"Lab " and not (profile and len(profile) <= MAX_PROFILE)):
        return None
    if space == b"Lab " or profile is None:
        profile = b""
    key = space, hashlib.sha256(profile).digest()
    known = _recalled(key)
    if known is None:
        with _making:
            known = _recalled(key) or _kept(key, _Known(_made(profile, space)))
    return known.conversion


def believed(profile: bytes, space: bytes) -> bytes | None:
    """Return a profile of nothing but the parts that decide colours; None where it is damaged or of another space."""
    try:
        return _rebuilt(profile, space)
    except (struct.error, IndexError):
        return None


def lcms_conversion(profile: bytes, space: bytes) -> Conversion | None:
    """Return lcms's conversion of a profile as `believed` makes it; None where lcms does not make sense of it."""
    from PIL import Image, ImageCms

    try:
        if space == b"Lab ":
            source, mode = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB"
        else:
            source, mode = ImageCms.ImageCmsProfile(BytesIO(profile)), TAKEN_AS[space]
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.ImageCmsTransform(source, target, mode, "RGB").transform
    except (OSError, ValueError, ImageCms.PyCMSError):
        return None

    def convert(image: Image.Image) -> Image.Image:
        converted = Image.new("RGB", image.size)
        transform.apply(image.getim(), converted.getim())
        return converted

    return Conversion(mode, convert)


def _recalled(key: _Key) -> _Known | None:
    with _lock:
        if key in _known:
            _known.move_to_end(key)
        return _known.get(key)


def _kept(key: _Key, known: _Known) -> _Known:
    with _lock:
        _known[key] = known
        if len(_known) > KEPT_CONVERSIONS:
            _known.popitem(last=False)
    return known


def _made(profile: bytes, space: bytes) -> Conversion | None:
    from classifier.photo.matrix_profiles import matrix_conversion  # with the first profile, as lcms

    kept = profile if space == b"Lab " else believed(profile, space)
    if kept is None:
        return None
    by_matrix = matrix_conversion(kept) if space == b"RGB " else None
    made = Conversion("RGB", by_matrix) if by_matrix else lcms_conversion(kept, space)
    return None if made is None or _changes_nothing(made) else made


def _changes_nothing(made: Conversion) -> bool:
    import numpy as np
    from PIL import Image

    if made.mode not in ("RGB", "L"):
        return False
    steps = np.linspace(0, 255, PROBE_STEPS).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(PROBE_STEPS, -1, 3)
    if made.mode == "L":
        grid = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    seen = np.asarray(made(Image.fromarray(grid)))
    return bool(np.abs(seen.astype(int) - grid).max() <= SAME_COLOURS)


def _rebuilt(profile: bytes, space: bytes) -> bytes | None:
    device, colours, connection, signature = profile[12:16], profile[16:20], profile[20:24], profile[36:40]
    if signature != SIGNATURE or colours != space or device not in DEVICES or connection not in CONNECTION_SPACES:
        return None
    (count,) = struct.unpack_from(">L", profile, 128)
    parts: dict[bytes, bytes] = {}
    for index in range(min(count, MAX_TAGS)):
        name, at, size = struct.unpack_from(">4sLL", profile, 132 + 12 * index)
        if name in TAGS and name not in parts:
            parts[name] = profile[at : at + size]
            if len(parts[name]) < size or not _whole(parts[name], CHANNELS[space]):
                return None
    if sum(map(len, parts.values())) > MAX_PROFILE:  # they may share their bytes
        return None
    at, table, bodies = 132 + 12 * len(parts), b"", b""
    for name, body in parts.items():
        table += struct.pack(">4sLL", name, at + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    header = bytearray(128)
    for part in HEADER_PARTS:
        header[part] = profile[part]
    header[:4] = struct.pack(">L", at + len(bodies))
    return b"".join((header, struct.pack(">L", len(parts)), table, bodies))


def _whole(body: bytes, channels: int) -> bool:
    """Say whether a part is of a known kind and has the bytes that it announces, before lcms takes memory for them."""
    kind = body[:4]
    if kind == b"XYZ ":
        return len(body) >= 20
    if kind == b"curv":
        return len(body) >= 12 + 2 * int.from_bytes(body[8:12], "big")
    if kind == b"para":
        number = int.from_bytes(body[8:10], "big")
        return number < len(PARAMETERS) and len(body) >= 12 + 4 * PARAMETERS[number]
    if kind in (b"mft1", b"mft2", b"mAB "):
        return (body[8], body[9]) == (channels, 3) and len(body) >= _table_bytes(body, kind)
    return False


def _table_bytes(body: bytes, kind: bytes) -> int:
    channels, colours, grid = body[8:11]
    if kind == b"mft1":
        return 48 + 256 * (channels + colours) + colours * math.prod([grid] * channels)
    if kind == b"mft2":
        before, after = struct.unpack_from(">HH", body, 48)
        return 52 + 2 * (channels * int(before) + colours * int(after) + colours * math.prod([grid] * channels))
    table = int.from_bytes(body[24:28], "big")
    return table + colours * body[table + 16] * math.prod(body[table : table + channels]) if table else 0
