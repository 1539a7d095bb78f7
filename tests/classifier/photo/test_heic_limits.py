"""HEIC files that are damaged, lie about what they hold or hold too much: refused early, decoded within the memory."""

import re
import struct
import subprocess
import sys
from dataclasses import replace
from io import BytesIO

import numpy as np
import pillow_heif
import pytest

from bench.preprocessing import rendered_scene
from classifier.errors import InvalidImage, TooLarge
from classifier.photo import formats
from classifier.photo.costs import cost_of_tiles
from classifier.photo.heic import container, decoder, hevc
from classifier.photo.limits import Limits
from classifier.photo.memory import Memory
from classifier.photo.preprocessing import decode
from tests.support.encoded_photos import SCENE, saved
from tests.support.heic_photos import grid_fixture, plain_fixture  # noqa: F401  # fixtures
from tests.support.processes import FUNCTIONS


def box(kind, body):
    return struct.pack(">L", 8 + len(body)) + kind + body


def test_a_film_without_a_still_picture_is_named():
    data = box(b"ftyp", b"hevc\0\0\0\0hevcmsf1") + box(b"moov", bytes(100)) + box(b"mdat", bytes(100))
    with pytest.raises(InvalidImage, match="no still picture"):
        decode(data, width=9, height=9)


@pytest.mark.parametrize("name", ["plain", "grid"])
def test_a_file_that_is_cut_short_is_damaged(name, request):
    data = request.getfixturevalue(name)
    for length in (*range(4, 1500, 7), len(data) // 2, len(data) - 200):
        with pytest.raises(InvalidImage):
            decode(data[:length], width=64, height=64)


def with_size(data, width, height):
    return re.sub(
        rb"(ispe\0{4}).{8}", lambda match: match[1] + struct.pack(">LL", width, height), data, flags=re.DOTALL
    )


def test_a_large_size_is_refused_by_its_header(plain, grid):
    with pytest.raises(TooLarge, match="60,000 x 50,000, 3,000,000,000 pixels"):
        decode(with_size(plain, 60_000, 50_000), width=64, height=64)
    with pytest.raises(InvalidImage, match="100,000 x 100,000"):
        decode(with_size(plain, 100_000, 100_000), width=64, height=64)
    at = grid.index(b"idat") + 4  # the grid: version, flags, rows - 1, columns - 1, width, height
    with pytest.raises(InvalidImage, match="do not cover it"):
        decode(grid[: at + 4] + struct.pack(">HH", 20_000, 20_000) + grid[at + 8 :], width=64, height=64)
    with pytest.raises(TooLarge, match="330 x 251"):
        decode(grid, width=64, height=64, limits=Limits(max_pixels=330 * 251 - 1))


def test_a_picture_that_is_larger_than_it_says_is_refused(plain):
    """Memory is lent for the size that is announced; what is decoded is that of the parameter sets."""
    tile = container.read_picture(plain).tiles[0]
    small = with_size(decoder._file_of(plain, tile), 64, 64)
    with pytest.raises(InvalidImage, match=r"announces 64 x 64 and is coded as 3\d\d x 2\d\d"):
        decode(small, width=64, height=64)
    with pytest.raises(InvalidImage):
        decode(with_size(decoder._file_of(plain, tile), 340, 251), width=64, height=64)


def test_pictures_and_parameter_sets_among_the_coded_parts_are_dropped(plain):
    """A decoder would take memory for each, and for whatever size they have."""
    picture = container.read_picture(plain)
    (start, end), configuration = picture.tiles[0].extents[0], picture.tiles[0].configuration
    coded = plain[start:end]
    sets = struct.pack(">LBB", 40, 33 << 1, 1) + bytes(38)
    more = sets + coded + sets + coded * 3
    tile = replace_extents(picture.tiles[0], (len(plain), len(plain) + len(more)))
    assert decoder._file_of(plain + more, tile) == decoder._file_of(plain, picture.tiles[0])
    assert configuration[21] & 3 == 3  # lengths of 4 bytes


def replace_extents(tile, *extents):
    return tile._replace(extents=extents)


def test_tiles_that_share_their_bytes_are_refused(grid):
    """A thousand tiles of twenty megabytes each would fit into one file."""
    picture = container.read_picture(grid)
    references = struct.pack(">HH", 1, len(picture.tiles))
    at = grid.index(b"dimg") + 4
    assert grid[at : at + 4] == references
    # Only the first tile, and nothing in the file beside it.
    end = at + 4 + 2 * len(picture.tiles)
    same = grid[: at + 4] + grid[at + 4 : at + 6] * len(picture.tiles) + grid[end:]
    with pytest.raises(InvalidImage, match="share their bytes"):
        container.read_picture(same[: picture.tiles[0].extents[0][1]])


def file_of(*parts):
    """A file with nothing but a meta box."""
    return box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", bytes(4) + b"".join(parts))


def places(items):
    """Each item in 65,535 parts that are at the end of the file, where they take no bytes, nor does their length."""
    at = len(file_of(box(b"iloc", bytes(8 + 10 * items))))
    return box(b"iloc", struct.pack(">LHH", 0, 0x40, items) + struct.pack(">HHLH", 1, 0, at, 65535) * items)


LISTS = {
    "places": places(4),
    "properties": box(
        b"iprp",
        box(b"ipma", struct.pack(">LL", 1 << 24, 110_000) + b"".join(struct.pack(">LB", i, 0) for i in range(110_000))),
    ),
    "references": box(b"iref", bytes(4) + box(b"dimg", struct.pack(">HH", 1, 65535) + bytes(2 * 65535)) * 4),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_too_many_entries_are_refused(name):
    """As Python's numbers, lists and tuples they would take gigabytes: those of places from a kilobyte."""
    with pytest.raises(InvalidImage, match="more than 200,000 entries"):
        formats.read(file_of(LISTS[name]))


def thousand_tiles(configuration):
    """A grid of a thousand tiles with the same configuration; each is a byte of the file."""
    count, grid = 1000, struct.pack(">4BHH", 0, 0, 19, 49, 64 * 50, 64 * 20)
    items = range(2, count + 2)
    kinds = (
        struct.pack(">LHH4sB", 2 << 24, 1, 0, b"grid", 0),
        *(struct.pack(">LHH4sB", 2 << 24, item, 0, b"hvc1", 0) for item in items),
    )
    locations = struct.pack(">HHHHLL", 1, 1, 0, 1, 0, len(grid)) + b"".join(
        struct.pack(">HHHHLL", item, 0, 0, 1, item, 1) for item in items
    )
    return file_of(
        box(b"pitm", struct.pack(">LH", 0, 1)),
        box(b"iinf", struct.pack(">LH", 0, len(kinds)) + b"".join(box(b"infe", kind) for kind in kinds)),
        box(b"iref", bytes(4) + box(b"dimg", struct.pack(f">HH{count}H", 1, count, *items))),
        box(
            b"iprp",
            box(b"ipco", box(b"hvcC", configuration) + box(b"ispe", struct.pack(">LLL", 0, 64, 64)))
            + box(b"ipma", struct.pack(">LL", 0, count) + b"".join(struct.pack(">HBBB", i, 2, 1, 2) for i in items)),
        ),
        box(b"iloc", struct.pack(">LHH", 1 << 24, 0x4400, count + 1) + locations),
        box(b"idat", grid),
    )


def test_each_of_a_thousand_tiles_has_a_small_configuration(plain):
    """They are not shared: a photo of ten megabytes would have ten gigabytes of them."""
    configuration = container.read_picture(saved("HEIC", SCENE.crop((0, 0, 64, 64)))).tiles[0].configuration
    assert len(container.read_picture(thousand_tiles(configuration)).tiles) == 1000

    def with_units(kind, unit, count):
        more = bytes([kind]) + struct.pack(">H", count) + (struct.pack(">H", len(unit)) + unit) * count
        return configuration[:22] + bytes([configuration[22] + 1]) + configuration[23:] + more

    for kind, unit, count, problem in (
        (hevc.VPS, bytes([hevc.VPS << 1, 1]) + bytes(9_000), 1, r"configuration has 9,\d\d\d bytes"),
        (hevc.SPS, sequence_set(configuration), 16, "more than 16 sequence parameter sets"),
    ):
        with pytest.raises(InvalidImage, match=problem):
            container.read_picture(thousand_tiles(with_units(kind, unit, count)))


def sequence_set(configuration):
    at = configuration.index(bytes([hevc.SPS << 1, 1]))
    (length,) = struct.unpack_from(">H", configuration, at - 2)
    return configuration[at : at + length]


def test_a_picture_has_few_units(plain):
    """Twenty million of no bytes would take a CPU for seconds."""
    unit = struct.pack(">LBBB", 3, 2, 1, 0)
    assert hevc.first_picture(unit * 600, bytes(21) + b"\3") == unit * 600
    assert len(hevc.first_picture(unit * 5000, bytes(21) + b"\3")) == len(unit) * hevc.MAX_UNITS


def test_a_file_of_no_picture_that_is_read_is_named(plain):
    with pytest.raises(InvalidImage, match="'hvc9'"):
        decode(plain.replace(b"hvc1", b"hvc9"), width=9, height=9)
    with pytest.raises(InvalidImage, match="a part of its picture is missing"):
        decode(plain.replace(b"hvcC", b"hvcX", 1) + b"hvcC", width=9, height=9)


MEASURE = """
import re, sys
from pathlib import Path
from classifier.photo.preprocessing import decode

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

decode(Path(sys.argv[2]).read_bytes(), width=64, height=64)
data = Path(sys.argv[1]).read_bytes()
before = status("VmRSS")
size = decode(data, width=int(sys.argv[3]), height=int(sys.argv[3])).image.size
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("mode", "options", "side"),
    [
        ("RGB", {}, 1500),
        ("RGB;16", {"chroma": 444}, 99),
        ("RGBA", {}, 99),
        ("RGB", {"tile_size": 256}, 99),
    ],
)
def test_decoding_stays_within_what_is_lent_for_it(tmp_path, mode, options, side):
    size = 2000, 1500
    image = rendered_scene((200, 150)).resize(size)
    file = BytesIO()
    if mode == "RGB;16":
        pillow_heif.from_bytes(mode, size, (np.asarray(image).astype(np.uint16) * 257).tobytes()).save(
            file, quality=40, enc_params={"preset": "ultrafast"}, **options
        )
    else:
        file.write(saved("HEIC", image.convert(mode), quality=40, **options))
    (tmp_path / "large").write_bytes(file.getvalue())
    (tmp_path / "small").write_bytes(saved("HEIC", quality=40))
    command = [sys.executable, "-c", MEASURE, tmp_path / "large", tmp_path / "small", str(side)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(FUNCTIONS)})
    picture = container.read_picture(file.getvalue())
    factor = max(1, int(1500 / (side * 1.25)))
    cost = cost_of_tiles(picture, factor, container.drafted(picture, factor))
    assert int(result.stdout) < cost + 4e6
    assert cost < (10e6 if "tile_size" in options else 65e6)


def test_a_phones_largest_photo_fits_the_default_memory(grid):
    """48 megapixels in tiles of 512, at the scale that a 299 x 299 input needs."""
    picture = container.read_picture(grid)
    tile = picture.tiles[0]._replace(size=(512, 512))
    largest = replace(picture, canvas=(8064, 6048), columns=16, tiles=(tile,) * 192, crop=(0, 0, 8064, 6048))
    factor = int(6048 / (299 * 1.25))
    assert cost_of_tiles(largest, factor, container.drafted(largest, factor)) < 20e6


def test_memory_over_the_limit_is_refused(plain):
    with pytest.raises(TooLarge, match=r"HEIC photo is 330 x 251; to decode it takes about \d+ MB"):
        decode(plain, width=99, height=99, limits=Limits(memory=Memory(1_000_000, wait=0)))


def test_libheif_is_imported_with_the_first_heic_photo_and_has_one_thread(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(saved("JPEG"))
    (tmp_path / "photo.heic").write_bytes(saved("HEIC"))
    program = """
import sys
from pathlib import Path
from classifier.photo.preprocessing import decode
found = []
for name in ("photo.jpg", "photo.heic"):
    decode(Path(sys.argv[1], name).read_bytes(), width=9, height=9)
    found.append("pillow_heif" in sys.modules)
from pillow_heif import options
print(found, options.DECODE_THREADS)
"""
    command = [sys.executable, "-c", program, tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(FUNCTIONS)})
    assert result.stdout.strip() == "[False, True] 1"
