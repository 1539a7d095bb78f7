"""The container of HEIC photos (ISO/IEC 23008-12): the primary picture as coded tiles, each of them a file of its own.

Phones store a photo as a grid of tiles. Decoded one at a time they take the memory of one, where the whole takes seven
bytes a pixel. What else a file holds (EXIF, depth, thumbnails, other pictures, films) never reaches the decoder, and
what a picture announces is compared with its HEVC parameter sets, which decide how much memory the decoder takes.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from classifier.errors import InvalidImage
from classifier.photo.heic.boxes import Reader, boxes, damaged
from classifier.photo.heic.hevc import checked_configuration

HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
AVIF_BRANDS = frozenset((b"avif", b"avis"))
ANY_BRANDS = frozenset((b"mif1", b"msf1", b"mif2"))
"""Of a HEIF file whatever its pictures are coded with."""
MAX_TILES = 1000
PROFILES = (b"prof", b"rICC")
NCLX_BYTES = 11
ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")

CORNERS = (
    (0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0),
    (0, 3, 2, 1), (3, 0, 1, 2), (2, 1, 0, 3), (1, 2, 3, 0),
)  # fmt: skip
"""A picture's corners, clockwise from the top left, after it was turned as EXIF's orientations 1 to 8 ask."""


class Tile(NamedTuple):
    """One coded picture: width and height, its decoder's configuration, colours, and where its bytes are."""

    size: tuple[int, int]
    configuration: bytes
    fine: bool
    """Whether it has more than 8 bits, or more colour samples than 4:2:0."""
    colours: bytes
    extents: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Picture:
    """The primary picture of a file: tiles in rows, of one size; the last ones may reach past the edge."""

    canvas: tuple[int, int]
    """Width and height of what the tiles make up, before it is cropped and turned."""
    columns: int
    tiles: tuple[Tile, ...]
    crop: tuple[int, int, int, int]
    """Left, top, right, bottom of what is shown of the canvas."""
    orientation: int = 1
    """As EXIF counts, 1..8, from the picture's own properties; the file's EXIF only repeats it."""
    alpha: Picture | None = None
    premultiplied: bool = False
    profile: bytes | None = None
    """The ICC profile of its colours, as it was found."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is shown, not turned."""
        left, top, right, bottom = self.crop
        return right - left, bottom - top

    @property
    def tile_size(self) -> tuple[int, int]:
        """Width and height of one tile."""
        return self.tiles[0].size


def is_heic(data: bytes) -> bool | None:
    """Say whether these are the bytes of a HEIC photo, True, of an AVIF one, False, or of neither, None."""
    if data[4:8] != b"ftyp":
        return None
    (length,) = struct.unpack_from(">L", data)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(length, len(data), 256), 4))]
    for brand in brands:
        if brand in HEIC_BRANDS or brand in AVIF_BRANDS:
            return brand in HEIC_BRANDS
    return b"hvcC" in data if ANY_BRANDS & set(brands) else None


def read_picture(data: bytes) -> Picture:
    """Find the primary picture.

    Raises:
        InvalidImage: there is none, its parts contradict each other, or it is made in a way that is not read here.
        struct.error, IndexError: the file is cut short.
    """
    items = _Items.of(data)
    picture = replace(items.picture(items.primary), profile=items.profile(items.primary))
    for item in items.referring(b"auxl", items.primary):
        if any(kind == b"auxC" and body[4:].startswith(ALPHA) for kind, body in items.properties.get(item, ())):
            alpha = items.picture(item)
            if alpha.canvas != picture.canvas:
                raise damaged("its transparency has another size than its colours")
            premultiplied = item in items.references.get((b"prem", items.primary), ())
            return replace(picture, alpha=alpha, premultiplied=premultiplied)
    return picture


def drafted(picture: Picture, factor: int) -> int:
    """Return the largest whole number up to ``factor`` by which each tile can be reduced alone.

    Transparency is laid over white before anything is reduced.
    """
    if picture.alpha:
        return 1
    sides = () if len(picture.tiles) == 1 else picture.tile_size
    return next(
        number for number in range(factor, 0, -1) if not any(side % number for side in (*sides, *picture.crop[:2]))
    )


@dataclass
class _Items:
    """What a file says of its items: pictures, tiles, transparency."""

    data: bytes
    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    extents: dict[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    references: dict[tuple[bytes, int], list[int]] = field(default_factory=dict)
    properties: dict[int, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @classmethod
    def of(cls, data: bytes) -> _Items:
        top = {kind: (start, end) for kind, start, end in _boxes_or_less(data)}
        if b"meta" not in top:
            raise damaged("it has no still picture")
        items, (start, end) = cls(data), top[b"meta"]
        parts = {kind: (start, end) for kind, start, end in boxes(data, start + 4, end)}
        idat = parts.get(b"idat", (0, 0))
        for kind, read in (
            (b"pitm", items._read_primary),
            (b"iinf", items._read_kinds),
            (b"iref", items._read_references),
            (b"iprp", items._read_properties),
        ):
            if kind in parts:
                read(*parts[kind])
        if b"iloc" in parts:
            items._read_locations(*parts[b"iloc"], idat)
        return items

    def referring(self, kind: bytes, item: int) -> list[int]:
        return [source for (name, source), targets in self.references.items() if name == kind and item in targets]

    def picture(self, item: int) -> Picture:
        kind = self.kinds.get(item, b"")
        properties = self.properties.get(item, [])
        if kind == b"hvc1":
            tile = self._tile(item, b"")
            return Picture(tile.size, 1, (tile,), *_transformations(properties, tile.size))
        if kind == b"grid":
            canvas, columns, tiles = self._grid(item)
            return Picture(canvas, columns, tiles, *_transformations(properties, canvas))
        raise InvalidImage(
            f"Expected a HEIC photo of one HEVC picture or a grid of them; received an item of the kind "
            f"{kind.decode('latin-1')!r}. Save it as JPEG."
        )

    def profile(self, item: int) -> bytes | None:
        """Return the ICC profile of a picture, or of its first tile."""
        for part in (item, *self.references.get((b"dimg", item), [])[:1]):
            for kind, body in self.properties.get(part, ()):
                if kind == b"colr" and body[:4] in PROFILES:
                    return body[4:]
        return None

    def _grid(self, item: int) -> tuple[tuple[int, int], int, tuple[Tile, ...]]:
        content = b"".join(self.data[start:end] for start, end in self.extents.get(item, ()))
        _, flags, rows, columns = struct.unpack_from(">4B", content)
        canvas = struct.unpack_from(">LL" if flags & 1 else ">HH", content, 4)
        rows, columns = rows + 1, columns + 1
        parts = self.references.get((b"dimg", item), [])
        if not len(parts) == rows * columns <= MAX_TILES:
            raise damaged(f"its grid of {rows} x {columns} has {len(parts):,} tiles; at most {MAX_TILES:,} are read")
        colours = _colours(self.properties.get(item, []))
        tiles = tuple(self._tile(part, colours) for part in parts)
        (width, height), (across, down) = canvas, tiles[0].size
        if any(tile.size != (across, down) for tile in tiles) or not (
            (columns - 1) * across < width <= columns * across and (rows - 1) * down < height <= rows * down
        ):
            raise damaged("its tiles do not cover it")
        if sum(end - start for tile in tiles for start, end in tile.extents) > len(self.data):
            raise damaged("its tiles share their bytes")
        return (width, height), columns, tiles

    def _tile(self, item: int, colours: bytes) -> Tile:
        properties = self.properties.get(item, [])
        announced = next((body for kind, body in properties if kind == b"ispe"), b"")
        configuration = next((body for kind, body in properties if kind == b"hvcC"), b"")
        if self.kinds.get(item) != b"hvc1" or not announced or not configuration or item not in self.extents:
            raise damaged("a part of its picture is missing")
        size = struct.unpack_from(">LL", announced, 4)
        if not (0 < size[0] < 2**16 and 0 < size[1] < 2**16):
            raise damaged(f"a part of it is {size[0]:,} x {size[1]:,}")
        configuration, fine = checked_configuration(configuration, size)
        return Tile(size, configuration, fine, _colours(properties) or colours, self.extents[item])

    def _reader(self, start: int, end: int) -> Reader:
        return Reader(self.data, start, end, self._numbers)

    def _read_primary(self, start: int, end: int) -> None:
        read = self._reader(start + 4, end)
        self.primary = read.number(4 if self.data[start] else 2)

    def _read_kinds(self, start: int, end: int) -> None:
        for kind, at, stop in boxes(self.data, start + (8 if self.data[start] else 6), end):
            if kind == b"infe" and self.data[at] in (2, 3):
                read = self._reader(at + 4, stop)
                item = read.number(2 if self.data[at] == 2 else 4)
                read.number(2)
                self.kinds[item] = read.number(4).to_bytes(4, "big")

    def _read_references(self, start: int, end: int) -> None:
        size = 4 if self.data[start] else 2
        for kind, at, stop in boxes(self.data, start + 4, end):
            read = self._reader(at, stop)
            source = read.number(size)
            self.references[kind, source] = [read.number(size) for _ in range(read.number(2))]

    def _read_properties(self, start: int, end: int) -> None:
        known: list[tuple[bytes, bytes]] = []
        for kind, at, stop in boxes(self.data, start, end):
            if kind == b"ipco":
                known = [(name, self.data[first:last]) for name, first, last in boxes(self.data, at, stop)]
            elif kind == b"ipma":
                self._associate(known, self._reader(at, stop))

    def _associate(self, known: Sequence[tuple[bytes, bytes]], read: Reader) -> None:
        version, flags = read.number(1), read.number(3)
        for _ in range(read.number(4)):
            item = read.number(4 if version else 2)
            size = 2 if flags & 1 else 1
            indices = [read.number(size) & (0x7FFF if flags & 1 else 0x7F) for _ in range(read.number(1))]
            self.properties[item] = [known[index - 1] for index in indices if 0 < index <= len(known)]

    def _read_locations(self, start: int, end: int, idat: tuple[int, int]) -> None:
        read = self._reader(start, end)
        version, _ = read.number(1), read.number(3)
        sizes = read.number(2)
        offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
        index_size = sizes & 15 if version else 0
        for _ in range(read.number(4 if version == 2 else 2)):
            item = read.number(4 if version == 2 else 2)
            method = read.number(2) & 15 if version else 0
            read.number(2)
            base = read.number(base_size)
            first, last = idat if method == 1 else (0, len(self.data))
            extents, total = [], 0
            for _ in range(read.number(2)):
                read.number(index_size)
                at = first + base + read.number(offset_size)
                length = read.number(length_size) or max(0, last - at)
                total += length
                extents.append((at, at + length))
                if at + length > last or total > len(self.data):
                    extents = []  # of no use; it may be of metadata that nobody needs
                    break
            if extents and method < 2:
                self.extents[item] = tuple(extents)


def _boxes_or_less(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the file's boxes; what is behind the last whole one may be the rest of a film."""
    try:
        yield from boxes(data, 0, len(data))
    except (InvalidImage, struct.error):
        return


def _colours(properties: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return how numbers become colours; not a profile, which is applied to the decoded ones."""
    return next((body[:NCLX_BYTES] for kind, body in properties if kind == b"colr" and body[:4] == b"nclx"), b"")


def _transformations(
    properties: Sequence[tuple[bytes, bytes]], canvas: tuple[int, int]
) -> tuple[tuple[int, int, int, int], int]:
    """Return what is shown of the canvas, and how it is to be turned: crop, rotations and mirrors in their order."""
    crop = (0, 0, *canvas)
    corners: tuple[int, ...] = CORNERS[0]
    for kind, body in properties:
        if kind == b"clap" and corners == CORNERS[0]:
            crop = _cropped(struct.unpack_from(">LLLLlLlL", body), canvas)
        elif kind == b"irot":
            steps = body[0] & 3  # a quarter anticlockwise each
            corners = corners[steps:] + corners[:steps]
        elif kind == b"imir":
            tl, tr, br, bl = corners
            corners = (tr, tl, bl, br) if body[0] & 1 else (bl, br, tr, tl)
    return crop, 1 + CORNERS.index(corners)


def _cropped(clap: Sequence[int], canvas: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom from a clean aperture: width, height and centre's distance as fractions."""
    if not all(clap[1::2]):
        raise damaged("its clean aperture is divided by zero")
    sides: list[tuple[int, int]] = []
    for side, (size, off) in zip(canvas, ((clap[0:2], clap[4:6]), (clap[2:4], clap[6:8])), strict=True):
        length = size[0] / size[1]
        start = round(off[0] / off[1] + (side - length) / 2)
        sides.append((max(0, start), min(side, start + round(length))))
    (left, right), (top, bottom) = sides
    if left >= right or top >= bottom:
        raise damaged("its clean aperture is empty")
    return left, top, right, bottom
