"""ICC profiles written on the spot: of displays by primaries and a gamma, of grey, and of a press by a table."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)), 2.19921875
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)), 2.4
"""Primaries in XYZ as profiles have them (white is D50), and a gamma; P3 has sRGB's curve, which 2.4 stands for."""


def profile(space: bytes, parts: dict[bytes, bytes], *, connection: bytes = b"XYZ ", kind: bytes = b"mntr") -> bytes:
    """Lay out a profile of version 2.4."""
    head = bytearray(128)
    head[8:12], head[12:16], head[16:20], head[20:24] = b"\2\x40\0\0", kind, space, connection
    head[36:40], head[48:52], head[68:80] = b"acsp", b"ABCD", struct.pack(">lll", 63190, 65536, 54061)
    at, table, bodies = 132 + 12 * len(parts), b"", b""
    for name, body in parts.items():
        table += struct.pack(">4sLL", name, at + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    head[:4] = struct.pack(">L", at + len(bodies))
    return bytes(head) + struct.pack(">L", len(parts)) + table + bodies


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">lll", *(round(65536 * value) for value in values))


def gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">LH", 1, round(256 * value))


def curve(values: np.ndarray) -> bytes:
    """Of as many points as there are, 0..65535."""
    return b"curv" + bytes(4) + struct.pack(">L", len(values)) + values.astype(">u2").tobytes()


def parametric(kind: int, *values: float) -> bytes:
    return b"para" + bytes(4) + struct.pack(f">HH{len(values)}l", kind, 0, *(round(65536 * value) for value in values))


def matrix(primaries: tuple[tuple[float, ...], ...], *curves: bytes, version: int = 2) -> bytes:
    """Return a profile of primaries and a curve, or three."""
    parts = {name: xyz(values) for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    parts |= zip((b"rTRC", b"gTRC", b"bTRC"), curves if len(curves) == 3 else 3 * curves, strict=True)
    made = profile(b"RGB ", parts)
    return made[:8] + bytes([version]) + made[9:]


def display(primaries: tuple[tuple[float, ...], ...], exponent: float) -> bytes:
    parts = {name: xyz(values) for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    return profile(b"RGB ", {**parts, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(exponent))})


def grey(exponent: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": gamma(exponent), b"wtpt": xyz((0.9642, 1.0, 0.8249))})


def table(channels: int, nodes: np.ndarray) -> bytes:
    """Write a table of 8 bits, nodes [grid ** channels, 3] in Lab as profiles have it, with straight curves."""
    grid = round(len(nodes) ** (1 / channels))
    straight = bytes(range(256))
    identity = struct.pack(">9l", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    head = b"mft1" + bytes(4) + bytes((channels, 3, grid, 0)) + identity
    return head + straight * channels + nodes.astype(np.uint8).tobytes() + straight * 3


def press(grid: int = 5) -> bytes:
    """Return the profile of a press whose inks are weaker than those that Pillow's own conversion has in mind."""
    steps = np.linspace(0, 1, grid)
    inks = np.stack(np.meshgrid(*[steps] * 4, indexing="ij"), -1).reshape(-1, 4)
    light = (1 - 0.8 * inks[:, :3]) * (1 - 0.9 * inks[:, 3:])
    image = Image.fromarray((255 * light).round().astype(np.uint8)[None])
    lab = ImageCms.profileToProfile(image, srgb(), ImageCms.createProfile("LAB"), outputMode="LAB")
    # Pillow has a and b as profiles have them: 128 is grey.
    return profile(b"CMYK", {b"A2B0": table(4, np.asarray(lab)[0])}, connection=b"Lab ", kind=b"prtr")


def srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def by_lcms(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert a whole image to sRGB as any other program would."""
    converted = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(BytesIO(profile)), srgb(), outputMode="RGB")
    assert converted is not None, "only of a conversion in place"
    return converted
