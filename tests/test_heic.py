"""HEIC: the picture and nothing else of a file reaches the decoder, a tile at a time, turned once, within its memory.

The photos are made on the spot with pillow-heif's encoder (x265).
"""

import re
import struct
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from bench.preprocessing import rendered_scene
from classifier import heic, heif, hevc, metadata
from classifier.errors import InvalidImage, TooLarge
from classifier.manifest import InputSpec
from classifier.memory import Memory, cost_of_tiles
from classifier.preprocessing import ORIENTATIONS, Limits, decode
from tests.commands import process
from tests.encoded_photos import SCENE, saved
from tests.serving import publish
from trainer.config import DataConfig
from trainer.datasets import load
from trainer.photos import PhotoSource

LARGE = rendered_scene((330, 251), seed=5)
FUNCTIONS = Path(__file__).parent.parent / "functions"


def array(data, size=None, **options):
    size = size or heif.read_picture(data).size
    return decode(data, width=size[0], height=size[1], **options).array(*size)


def by_libheif(data):
    """What pillow-heif makes of a whole file, with all its parts."""
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def difference(one, other):
    return float(np.abs(np.asarray(one).astype(int) - np.asarray(other)).mean())


def box(kind, body):
    return struct.pack(">L", 8 + len(body)) + kind + body


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.fixture(scope="module")
def plain():
    return saved("HEIC", LARGE, quality=60)


@pytest.fixture(scope="module")
def grid():
    return saved("HEIC", LARGE, quality=60, tile_size=64)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("options", [{}, {"tile_size": 64}])
def test_a_photo_is_turned_once(orientation, options):
    """The encoder writes irot and imir, and EXIF that says the same, as a phone does."""
    image = SCENE.copy()
    image.info["exif"] = exif_of(orientation)
    data = saved("HEIC", image, quality=95, subsampling="4:4:4", **options)
    upright = SCENE if orientation == 1 else SCENE.transpose(ORIENTATIONS[orientation])
    assert metadata.read(data).orientation == orientation
    photo = decode(data, width=upright.width, height=upright.height)
    assert photo.size == photo.image.size == photo.display(512).size == upright.size
    assert np.array_equal(photo.image, by_libheif(data))
    assert difference(photo.array(*upright.size), upright) < 3


def test_exif_alone_turns_nothing():
    """EXIF only repeats what the picture's own properties say; libheif and phones look at these alone."""
    data = saved("HEIC", quality=95, exif=exif_of(6))
    assert b"irot" in data and exif_of(6) in data
    assert decode(data, width=10, height=10).size == (120, 160)
    data = data.replace(b"irot", b"none")
    assert decode(data, width=10, height=10).size == SCENE.size


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("options", [{}, {"subsampling": "4:4:4"}, {"tile_size": 64}, {"matrix_coefficients": 1}])
def test_every_kind_is_decoded_as_libheif_does(mode, options):
    image = LARGE.convert(mode)
    if mode == "RGBA":
        image.putalpha(LARGE.convert("L").point(lambda value: 255 if value > 120 else value))
    data = saved("HEIC", image, quality=70, **options)
    whole = Image.open(BytesIO(data)).convert("RGBA")
    white = Image.new("RGB", whole.size, "white")
    white.paste(whole, mask=whole)
    assert np.array_equal(array(data), white)


@pytest.mark.parametrize("mode", ["RGB;16", "RGBA;16", "I;16"])
def test_10_bits_are_scaled_to_8(mode):
    values = np.asarray(SCENE.convert({"RGB;16": "RGB", "RGBA;16": "RGBA", "I;16": "L"}[mode])).astype(np.uint16) * 257
    file = BytesIO()
    pillow_heif.from_bytes(mode, SCENE.size, values.tobytes()).save(file, quality=95, chroma=444)
    data = file.getvalue()
    assert Image.open(BytesIO(data)).info["bit_depth"] == 10
    assert heif.read_picture(data).tiles[0].fine
    expected = SCENE.convert("L").convert("RGB") if mode == "I;16" else SCENE
    assert difference(array(data), expected) < 3


def test_premultiplied_transparency():
    image = Image.new("RGBA", (64, 64), (200, 100, 50, 128))
    data = saved("HEIC", image.convert("RGBa"), quality=-1, subsampling="4:4:4")
    assert heif.read_picture(data).premultiplied
    expected = np.array([200, 100, 50]) * 128 / 255 + 255 * 127 / 255
    assert np.abs(array(data) - expected).max() <= 4


@pytest.mark.parametrize("size", [(1, 1), (101, 77), (1, 2000), (2000, 1), (4000, 8)])
def test_the_encoders_padding_is_cut_off(size):
    data = saved("HEIC", Image.new("RGB", size, (200, 100, 50)))
    photo = decode(data, width=299, height=224)
    assert photo.size == size
    for resize in ("stretch", "crop"):
        assert np.abs(photo.array(299, 224, resize) - np.array([200, 100, 50])).max() <= 6
    assert max(photo.display(512).size) == min(512, max(size))


@pytest.mark.parametrize("side", [32, 100, 299])
@pytest.mark.parametrize("name", ["plain", "grid"])
def test_a_reduced_decode_stays_in_place(name, side, request):
    data = request.getfixturevalue(name)
    expected = Image.fromarray(by_libheif(data)).resize((side, side), Image.Resampling.BILINEAR)
    found = array(data, (side, side))
    assert difference(found, expected) < 2
    assert difference(found, expected) < difference(found, np.roll(np.asarray(expected), 1, axis=1)) / 3


def test_the_primary_picture_is_taken_of_several():
    """As of a burst."""
    others = [Image.new("RGB", (500, 300), colour) for colour in ("red", "blue")]
    data = saved("HEIC", save_all=True, append_images=others, primary_index=2, quality=90)
    assert array(data)[150, 250].tolist() == pytest.approx([0, 0, 255], abs=6)
    assert decode(data, width=9, height=9).size == (500, 300)


def test_thumbnails_and_metadata_never_reach_the_decoder(grid):
    exif = b"Exif\0\0MM\0*" + bytes(300_000)
    xmp = b"<x:xmpmeta>" + b"secret" * 100_000
    data = saved("HEIC", LARGE, quality=60, tile_size=64, exif=exif, xmp=xmp, thumbnails=[100], icc_profile=b"x" * 9999)
    assert b"secret" in data and b"thmb" in data
    picture = heif.read_picture(data)
    files = [heic._file_of(data, tile) for tile in picture.tiles]
    assert sum(map(len, files)) < len(grid) + 1000 * len(files)
    assert not any(word in file for file in files for word in (b"secret", b"thmb", b"Exif", b"mime", b"prof"))
    assert np.array_equal(array(data), array(grid))


def test_a_film_without_a_still_picture_is_named():
    data = box(b"ftyp", b"hevc\0\0\0\0hevcmsf1") + box(b"moov", bytes(100)) + box(b"mdat", bytes(100))
    with pytest.raises(InvalidImage, match="no still picture"):
        decode(data, width=9, height=9)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1", b"hevc"])
def test_brands(plain, brand):
    data = plain.replace(b"ftypheic", b"ftyp" + brand)
    assert decode(data, width=9, height=9).format == "HEIC"
    only_mif1 = data.replace(b"mif1heic", b"mif1mif1")
    assert decode(only_mif1, width=9, height=9).format == "HEIC"


def test_avif_goes_on_through_pillow():
    data = saved("AVIF")
    for brand in (b"avif", b"mif1"):
        photo = decode(data.replace(b"ftypavif", b"ftyp" + brand), width=9, height=9)
        assert photo.format == "AVIF"


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
    tile = heif.read_picture(plain).tiles[0]
    small = with_size(heic._file_of(plain, tile), 64, 64)
    with pytest.raises(InvalidImage, match=r"announces 64 x 64 and is coded as 3\d\d x 2\d\d"):
        decode(small, width=64, height=64)
    with pytest.raises(InvalidImage):
        decode(with_size(heic._file_of(plain, tile), 340, 251), width=64, height=64)


def test_pictures_and_parameter_sets_among_the_coded_parts_are_dropped(plain):
    """A decoder would take memory for each, and for whatever size they have."""
    picture = heif.read_picture(plain)
    (start, end), configuration = picture.tiles[0].extents[0], picture.tiles[0].configuration
    coded = plain[start:end]
    sets = struct.pack(">LBB", 40, 33 << 1, 1) + bytes(38)
    more = sets + coded + sets + coded * 3
    tile = replace_extents(picture.tiles[0], (len(plain), len(plain) + len(more)))
    assert heic._file_of(plain + more, tile) == heic._file_of(plain, picture.tiles[0])
    assert configuration[21] & 3 == 3  # lengths of 4 bytes


def replace_extents(tile, *extents):
    return tile._replace(extents=extents)


def test_tiles_that_share_their_bytes_are_refused(grid):
    """A thousand tiles of twenty megabytes each would fit into one file."""
    picture = heif.read_picture(grid)
    references = struct.pack(">HH", 1, len(picture.tiles))
    at = grid.index(b"dimg") + 4
    assert grid[at : at + 4] == references
    # Only the first tile, and nothing in the file beside it.
    end = at + 4 + 2 * len(picture.tiles)
    same = grid[: at + 4] + grid[at + 4 : at + 6] * len(picture.tiles) + grid[end:]
    with pytest.raises(InvalidImage, match="share their bytes"):
        heif.read_picture(same[: picture.tiles[0].extents[0][1]])


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
        metadata.read(file_of(LISTS[name]))


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
    configuration = heif.read_picture(saved("HEIC", SCENE.crop((0, 0, 64, 64)))).tiles[0].configuration
    assert len(heif.read_picture(thousand_tiles(configuration)).tiles) == 1000

    def with_units(kind, unit, count):
        more = bytes([kind]) + struct.pack(">H", count) + (struct.pack(">H", len(unit)) + unit) * count
        return configuration[:22] + bytes([configuration[22] + 1]) + configuration[23:] + more

    for kind, unit, count, problem in (
        (hevc.VPS, bytes([hevc.VPS << 1, 1]) + bytes(9_000), 1, r"configuration has 9,\d\d\d bytes"),
        (hevc.SPS, sequence_set(configuration), 16, "more than 16 sequence parameter sets"),
    ):
        with pytest.raises(InvalidImage, match=problem):
            heif.read_picture(thousand_tiles(with_units(kind, unit, count)))


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
from classifier.manifest import InputSpec
from classifier.memory import cost_of_tiles
from classifier import heif
from classifier.preprocessing import decode

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
    picture = heif.read_picture(file.getvalue())
    factor = max(1, int(1500 / (side * 1.25)))
    cost = cost_of_tiles(picture, factor, heif.drafted(picture, factor))
    assert int(result.stdout) < cost + 4e6
    assert cost < (10e6 if "tile_size" in options else 65e6)


def test_a_phones_largest_photo_fits_the_default_memory(grid):
    """48 megapixels in tiles of 512, at the scale that a 299 x 299 input needs."""
    picture = heif.read_picture(grid)
    tile = picture.tiles[0]._replace(size=(512, 512))
    largest = replace(picture, canvas=(8064, 6048), columns=16, tiles=(tile,) * 192, crop=(0, 0, 8064, 6048))
    factor = int(6048 / (299 * 1.25))
    assert cost_of_tiles(largest, factor, heif.drafted(largest, factor)) < 20e6


def test_memory_over_the_limit_is_refused(plain):
    with pytest.raises(TooLarge, match=r"HEIC photo is 330 x 251; to decode it takes about \d+ MB"):
        decode(plain, width=99, height=99, limits=Limits(memory=Memory(1_000_000, wait=0)))


def test_libheif_is_imported_with_the_first_heic_photo_and_has_one_thread(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(saved("JPEG"))
    (tmp_path / "photo.heic").write_bytes(saved("HEIC"))
    program = """
import sys
from pathlib import Path
from classifier.preprocessing import decode
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


def test_training_reads_them(tmp_path):
    for number, label in enumerate(("apple", "sky")):
        (tmp_path / label).mkdir()
        for index in range(10):
            image = rendered_scene((64, 48), seed=10 * number + index)
            (tmp_path / label / f"{index}.{'HEIC' if index % 2 else 'heif'}").write_bytes(saved("HEIC", image))
    frame = load(DataConfig("folder", str(tmp_path)))
    assert len(frame) == 20
    path = tmp_path / frame["image_path"][0]
    assert np.array_equal(PhotoSource([path], InputSpec(32, 32)).array(0), array(path.read_bytes(), (32, 32)))


def test_admin_cli_predicts_them(tmp_path, tiny_bundle):
    publish(tmp_path / "store", tiny_bundle)
    (tmp_path / "photo.heic").write_bytes(saved("HEIC", Image.new("RGB", (320, 240), (220, 30, 20))))
    assert "red" in process("predict", tmp_path / "photo.heic", MODEL_STORE=tmp_path / "store").well()
