"""Photos that nobody should send: every format and mode, bombs in metadata, and files changed at random."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from io import BytesIO
from random import Random

import numpy as np
import pillow_heif
from PIL import Image

from bench.preprocessing import rendered_scene
from tests.support.encoded_photos import ENCODINGS, saved

SMALL = rendered_scene((64, 48), seed=7)
MODES = (
    "1", "L", "P", "RGB", "RGBA", "RGBX", "RGBa", "LA", "La", "PA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F",
    "I;16", "I;16B",
)  # fmt: skip
EXTREME = (
    0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 2**32 - 1,
)  # fmt: skip


@cache
def photos() -> Mapping[str, bytes]:
    """Small whole photos by name: each format in what is likely to take another way through the code."""
    found = {name: saved(name, SMALL, **options) for name, options in ENCODINGS.items()}
    alpha = SMALL.convert("RGBA")
    alpha.putalpha(SMALL.convert("L"))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    turned = SMALL.copy()
    turned.info["exif"] = exif.tobytes()
    found |= {
        "JPEG progressive": saved("JPEG", SMALL, progressive=True),
        "JPEG CMYK": saved("JPEG", SMALL.convert("CMYK")),
        "JPEG EXIF": saved("JPEG", SMALL, exif=exif, icc_profile=b"profile" * 99, comment=b"words"),
        "JPEG MPO": saved("MPO", SMALL, save_all=True, append_images=[SMALL]),
        "PNG palette": saved("PNG", SMALL.quantize(16), transparency=3),
        "PNG alpha EXIF": saved("PNG", alpha, exif=exif),
        "PNG 16": saved("PNG", Image.fromarray(np.asarray(SMALL.convert("L")).astype(np.uint16) * 257)),
        "PNG animated": saved("PNG", SMALL, save_all=True, append_images=[alpha]),
        "WebP alpha": saved("WebP", alpha, exif=exif, quality=50),
        "WebP animated": saved("WebP", SMALL, save_all=True, append_images=[alpha]),
        "GIF animated": saved("GIF", SMALL.quantize(8), save_all=True, append_images=[SMALL.rotate(90).quantize(8)]),
        "AVIF alpha EXIF": saved("AVIF", alpha, exif=exif, speed=10),
        "TIFF strips": saved("TIFF", alpha, compression="tiff_adobe_deflate"),
        "TIFF JPEG": saved("TIFF", SMALL, compression="jpeg"),
        "TIFF float": saved("TIFF", SMALL.convert("F")),
        "BMP palette": saved("BMP", SMALL.quantize(16)),
        "HEIC turned": saved("HEIC", turned),
        "HEIC grid": saved("HEIC", turned, tile_size=32),
        "HEIC alpha": saved("HEIC", alpha),
        "HEIC several": saved("HEIC", SMALL, save_all=True, append_images=[SMALL.rotate(180)], primary_index=1),
        "HEIC odd": saved("HEIC", SMALL.crop((0, 0, 33, 17)), thumbnails=[16]),
        "HEIC 10 bits": _ten_bits(),
    }
    return found


def every_mode() -> Mapping[str, bytes]:
    """A photo of each of Pillow's modes in each format that Pillow can write it in."""
    found = {}
    for mode in MODES:
        image = Image.new("PA", SMALL.size) if mode == "PA" else _in_mode(mode)
        for name in ENCODINGS:
            if (name, mode) == ("HEIC", "YCbCr"):  # its encoder uses what Pillow is about to drop
                continue
            try:
                found[f"{name} {mode}"] = saved(name, image)
            except (OSError, ValueError, KeyError):
                continue
    return found


def bombs(megabytes: int) -> Mapping[str, bytes]:
    """Small photos with metadata that is huge, or becomes huge where it is inflated."""
    size = megabytes * 2**20
    inflated, jpeg, png = zlib.compress(bytes(20 * size), 9), saved("JPEG", SMALL), saved("PNG", SMALL)
    tiff = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 5000) + bytes(60_000)

    def segments(marker: int, head: bytes) -> bytes:
        body = (head + bytes(65_533))[:65_533]
        return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, 65_535) + body + _many(marker, body, size) + jpeg[2:]

    def chunk(name: bytes, body: bytes) -> bytes:
        whole = struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))
        return png[:33] + whole + png[33:]

    webp, heic = saved("WebP", SMALL), saved("HEIC", SMALL)
    riff = webp[12:] + b"EXIF" + struct.pack("<L", size) + bytes(size) + b"XMP " + struct.pack("<L", size) + bytes(size)
    gif = saved("GIF", SMALL.quantize(8))
    comments = b"".join(b"!\xfe" + b"\xff" + bytes(255) + b"\0" for _ in range(size // 258))
    return {
        "EXIF in a JPEG": segments(0xE1, tiff),
        "a profile in a JPEG": segments(0xE2, b"ICC_PROFILE\0\1\1"),
        "XMP in a JPEG": segments(0xE1, b"http://ns.adobe.com/xap/1.0/\0"),
        "comments in a JPEG": segments(0xFE, b""),
        "a hundred thousand segments in a JPEG": jpeg[:2] + b"\xff\xe5\0\2" * 100_001 + jpeg[2:],
        "zTXt in a PNG": chunk(b"zTXt", b"Comment\0\0" + inflated),
        "iTXt in a PNG": chunk(b"iTXt", b"Comment\0\1\0\0\0" + inflated),
        "iCCP in a PNG": chunk(b"iCCP", b"x\0\0" + inflated),
        "eXIf in a PNG": chunk(b"eXIf", tiff[6:] + bytes(size)),
        "tEXt in a PNG": chunk(b"tEXt", b"Comment\0" + b"x" * size),
        "EXIF and XMP in a WebP": b"RIFF" + struct.pack("<L", len(riff) + 4) + b"WEBP" + riff,
        "comments in a GIF": gif[: 13 + (6 << (gif[10] & 7))] + comments + gif[13 + (6 << (gif[10] & 7)) :],
        "EXIF and XMP in a HEIC": saved("HEIC", SMALL, exif=b"Exif\0\0MM\0*" + bytes(size), xmp=b"x" * size),
        "boxes in a HEIC": heic + struct.pack(">L4s", 8, b"free") * (size // 8),
        "EXIF in an AVIF": saved("AVIF", SMALL, speed=10, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0" + bytes(size)),
        "a profile in a TIFF": saved("TIFF", SMALL, icc_profile=bytes(size)),
    }


def mutated(data: bytes, others: list[bytes], random: Random) -> bytes:
    """Change a file in one to eight ways: most of what is left of it stays as it was."""
    content = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3, 5, 8))):
        random.choice(_CHANGES)(content, others, random)
    return bytes(content)


def _flip(content: bytearray, _: list[bytes], random: Random) -> None:
    if content:
        content[_place(content, random)] ^= 1 << random.randrange(8)


def _number(content: bytearray, _: list[bytes], random: Random) -> None:
    size, order = random.choice((1, 2, 4, 8)), random.choice(("big", "little"))
    at = _place(content, random)
    content[at : at + size] = (random.choice(EXTREME) & (2 ** (8 * size) - 1)).to_bytes(size, order)


def _cut(content: bytearray, _: list[bytes], random: Random) -> None:
    del content[_place(content, random) :]


def _remove(content: bytearray, _: list[bytes], random: Random) -> None:
    at = _place(content, random)
    del content[at : at + random.randrange(1, 200)]


def _repeat(content: bytearray, _: list[bytes], random: Random) -> None:
    at = _place(content, random)
    content[at:at] = bytes(content[at : at + random.randrange(1, 200)]) * random.choice((1, 1, 2, 50))


def _splice(content: bytearray, others: list[bytes], random: Random) -> None:
    other = random.choice(others)
    start = random.randrange(len(other))
    at = _place(content, random)
    content[at : at + random.choice((0, 20, 200))] = other[start : start + random.randrange(1, 400)]


def _noise(content: bytearray, _: list[bytes], random: Random) -> None:
    at = _place(content, random)
    content[at : at + random.choice((0, 4, 60))] = random.randbytes(random.randrange(1, 60))


_CHANGES: tuple[Callable[[bytearray, list[bytes], Random], None], ...] = (
    _flip, _flip, _number, _number, _cut, _remove, _repeat, _splice, _noise,
)  # fmt: skip


def _place(content: bytearray, random: Random) -> int:
    """Any place, but the first kilobyte, where the headers are, as often as all others."""
    return random.randrange(1 + (min(len(content), 1000) if random.random() < 0.5 else len(content)) - bool(content))


def _many(marker: int, body: bytes, size: int) -> bytes:
    return (struct.pack(">BBH", 0xFF, marker, 65_535) + body) * (size // 65_537)


def _in_mode(mode: str) -> Image.Image:
    if mode.startswith("I;16"):
        return SMALL.convert("L").convert("I").convert("I;16") if mode == "I;16" else Image.new(mode, SMALL.size, 999)
    if mode in ("RGBa", "La"):
        return SMALL.convert(mode[:-1] + "A").convert(mode)
    if mode == "LAB":
        return Image.merge("LAB", SMALL.split())
    return SMALL.convert(mode)


def _ten_bits() -> bytes:
    file = BytesIO()
    values = np.asarray(SMALL).astype(np.uint16) * 257
    heif = pillow_heif.from_bytes("RGB;16", SMALL.size, values.tobytes())
    heif.save(file, chroma=444, enc_params={"preset": "ultrafast"})
    return file.getvalue()
