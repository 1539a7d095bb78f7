"""Decodes HEIC photos with libheif, a tile at a time; imported, as pillow-heif is, with the first photo of the kind."""

from __future__ import annotations

import struct

from PIL import Image
from pillow_heif import open_heif, options

from classifier.photo.colours import rgb_reduced
from classifier.photo.heic.boxes import damaged
from classifier.photo.heic.container import Picture, Tile
from classifier.photo.heic.hevc import first_picture

# Requests are the threads here. The rest is never in the files that are decoded.
options.DECODE_THREADS = 1
options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False


def decode(data: bytes, picture: Picture, drafted: int) -> Image.Image:
    """Decode a picture of the photo ``data`` at 1/drafted, cropped and not turned: RGB, RGBA or RGBa.

    Args:
        data: the whole file.
        picture: what `read_picture` found in it.
        drafted: of `heif.drafted`.
    """
    image = _composed(data, picture, drafted)
    if picture.alpha is None:
        return image
    alpha = _composed(data, picture.alpha, drafted).getchannel(0)
    if alpha.size != image.size:
        raise damaged("its transparency has another size")
    return Image.merge("RGBa" if picture.premultiplied else "RGBA", (*image.split(), alpha))


def _composed(data: bytes, picture: Picture, drafted: int) -> Image.Image:
    """Lay the tiles side by side, each reduced before the next one is decoded; only what the crop leaves of them."""
    left, top, right, bottom = picture.crop
    width, height = picture.tile_size
    whole = Image.new("RGB", (-(-(right - left) // drafted), -(-(bottom - top) // drafted)))
    for index, tile in enumerate(picture.tiles):
        x, y = index % picture.columns * width, index // picture.columns * height
        box = max(x, left), max(y, top), min(x + width, right), min(y + height, bottom)
        if box[0] >= box[2] or box[1] >= box[3]:
            continue
        part = _decoded(_file_of(data, tile), tile.size)
        if box != (x, y, x + width, y + height):
            part = part.crop((box[0] - x, box[1] - y, box[2] - x, box[3] - y))
        whole.paste(rgb_reduced(part, drafted), ((box[0] - left) // drafted, (box[1] - top) // drafted))
    return whole


def _decoded(file: bytes, size: tuple[int, int]) -> Image.Image:
    image = open_heif(file).to_pillow()
    if image.size != size:
        raise damaged(f"a tile of {size[0]} x {size[1]} is {image.width} x {image.height}")
    image.info = {}
    return image


def _file_of(data: bytes, tile: Tile) -> bytes:
    """Return one tile of the photo ``data`` as a file of its own that holds the coded picture and nothing else."""
    coded = first_picture(b"".join(data[start:end] for start, end in tile.extents), tile.configuration)
    properties = [
        _box(b"hvcC", tile.configuration),
        _box(b"ispe", struct.pack(">LLL", 0, *tile.size)),
        *([_box(b"colr", tile.colours)] if tile.colours else []),
    ]
    associations = struct.pack(">LLHB", 0, 1, 1, len(properties)) + bytes(
        0x80 * (index == 1) + index for index in range(1, len(properties) + 1)
    )

    def head(at: int) -> bytes:
        return _box(b"ftyp", b"heic\0\0\0\0mif1heic") + _box(
            b"meta",
            bytes(4)
            + _box(b"hdlr", bytes(8) + b"pict" + bytes(13))
            + _box(b"pitm", bytes(4) + b"\0\1")
            + _box(b"iloc", struct.pack(">LBBHHHHLL", 0, 0x44, 0, 1, 1, 0, 1, at, len(coded)))
            + _box(b"iinf", bytes(4) + b"\0\1" + _box(b"infe", b"\2\0\0\0\0\1\0\0hvc1\0"))
            + _box(b"iprp", _box(b"ipco", b"".join(properties)) + _box(b"ipma", associations)),
        )

    return head(len(head(0)) + 8) + _box(b"mdat", coded)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", 8 + len(body)) + kind + body
