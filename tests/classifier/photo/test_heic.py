"""HEIC: the picture and nothing else of a file reaches the decoder, is turned once, and is what libheif makes of it."""

from io import BytesIO

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from bench.preprocessing import rendered_scene
from classifier.photo import formats
from classifier.photo.heic import container, decoder
from classifier.photo.preprocessing import ORIENTATIONS, decode
from classifier.registry.manifest import InputSpec
from tests.support.commands import process
from tests.support.encoded_photos import SCENE, saved
from tests.support.heic_photos import LARGE, grid_fixture, plain_fixture  # noqa: F401  # fixtures
from tests.support.serving import publish
from trainer.data.loaders import load
from trainer.data.source import PhotoSource
from trainer.run.sections import DataConfig


def array(data, size=None, **options):
    size = size or container.read_picture(data).size
    return decode(data, width=size[0], height=size[1], **options).array(*size)


def by_libheif(data):
    """What pillow-heif makes of a whole file, with all its parts."""
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def difference(one, other):
    return float(np.abs(np.asarray(one).astype(int) - np.asarray(other)).mean())


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("options", [{}, {"tile_size": 64}])
def test_a_photo_is_turned_once(orientation, options):
    """The encoder writes irot and imir, and EXIF that says the same, as a phone does."""
    image = SCENE.copy()
    image.info["exif"] = exif_of(orientation)
    data = saved("HEIC", image, quality=95, subsampling="4:4:4", **options)
    upright = SCENE if orientation == 1 else SCENE.transpose(ORIENTATIONS[orientation])
    assert formats.read(data).orientation == orientation
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
    assert container.read_picture(data).tiles[0].fine
    expected = SCENE.convert("L").convert("RGB") if mode == "I;16" else SCENE
    assert difference(array(data), expected) < 3


def test_premultiplied_transparency():
    image = Image.new("RGBA", (64, 64), (200, 100, 50, 128))
    data = saved("HEIC", image.convert("RGBa"), quality=-1, subsampling="4:4:4")
    assert container.read_picture(data).premultiplied
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
    picture = container.read_picture(data)
    files = [decoder._file_of(data, tile) for tile in picture.tiles]
    assert sum(map(len, files)) < len(grid) + 1000 * len(files)
    assert not any(word in file for file in files for word in (b"secret", b"thmb", b"Exif", b"mime", b"prof"))
    assert np.array_equal(array(data), array(grid))


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
