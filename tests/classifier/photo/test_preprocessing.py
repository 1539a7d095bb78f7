"""`classifier.photo.preprocessing`: any format and mode to one upright RGB array, at any scale."""

import struct
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageOps

from bench.preprocessing import jpeg, plain_array, rendered_scene, with_noise
from classifier.errors import InvalidImage, TooLarge
from classifier.photo.limits import Limits
from classifier.photo.preprocessing import decode, load_array
from tests.support.encoded_photos import ENCODINGS, SCENE, saved


def array(data, width=160, height=120, resize="stretch"):
    return decode(data, width=width, height=height).array(width, height, resize)


def difference(one, other):
    return float(np.abs(np.asarray(one).astype(int) - np.asarray(other)).mean())


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_format_gives_the_picture(name):
    photo = decode(saved(name, **ENCODINGS[name]), width=160, height=120)
    pixels = photo.array(160, 120)
    assert (photo.format, photo.size, photo.image.mode) == (name, (160, 120), "RGB")
    assert (pixels.shape, pixels.dtype) == ((120, 160, 3), np.uint8)
    assert difference(pixels, SCENE) < {"GIF": 15, "JPEG": 3, "AVIF": 3, "HEIC": 3}.get(name, 1e-9)


def test_mpo_gives_its_first_picture():
    data = saved("MPO", quality=95, save_all=True, append_images=[SCENE.rotate(180)])
    assert difference(array(data), SCENE) < 4
    assert decode(data, width=1, height=1).format == "JPEG"


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 2}])
def test_jpeg_variants(options):
    assert difference(array(saved("JPEG", quality=95, **options)), SCENE) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WebP", "AVIF", "TIFF"])
def test_exif_orientation(name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(name, exif=exif, **ENCODINGS[name])
    upright = ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB")
    photo = decode(data, width=upright.width, height=upright.height)
    assert photo.size == photo.image.size == upright.size
    assert upright.size == ((120, 160) if orientation >= 5 else (160, 120))
    assert np.array_equal(photo.image, upright)
    assert np.array_equal(photo.array(*upright.size), upright)
    assert photo.display(512).size == upright.size


@pytest.mark.parametrize("orientation", [3, 6, 7])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_exif_orientation_with_a_reduced_decode(orientation, resize):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved("JPEG", rendered_scene((1203, 805)), quality=95, exif=exif)
    photo = decode(data, width=90, height=120)
    upright = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    left, top, right, bottom = photo.region(90, 120, resize)
    box = (left * upright.width, top * upright.height, right * upright.width, bottom * upright.height)
    assert max(photo.image.size) < 700
    assert difference(photo.array(90, 120, resize), upright.resize((90, 120), Image.Resampling.BILINEAR, box)) < 2


def white_where_transparent(rgb, transparent):
    expected = np.asarray(rgb).copy()
    expected[transparent] = 255
    return expected


def test_alpha_lies_over_white():
    alpha = np.tile(np.linspace(0, 255, 160).astype(np.uint8), (120, 1))
    expected = np.asarray(SCENE) * (alpha[..., None] / 255) + 255 * (1 - alpha[..., None] / 255)
    for mode in ("RGBA", "LA"):
        image = SCENE.convert("L").convert("RGB") if mode == "LA" else SCENE
        image = image.convert(mode)
        image.putalpha(Image.fromarray(alpha))
        wanted = expected if mode == "RGBA" else np.asarray(Image.merge("RGB", [SCENE.convert("L")] * 3))
        if mode == "LA":
            wanted = wanted * (alpha[..., None] / 255) + 255 * (1 - alpha[..., None] / 255)
        for name in ("PNG", "TIFF"):
            assert np.abs(array(saved(name, image)) - wanted).max() <= 1


def test_alpha_over_white_does_not_depend_on_strips():
    image = rendered_scene((1500, 1001)).convert("RGBA")
    image.putalpha(rendered_scene((1500, 1001), seed=1).convert("L"))
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    data = saved("PNG", image, compress_level=1)
    assert difference(array(data, 1500, 1001), white) == 0
    whole = white.resize((150, 100), Image.Resampling.BILINEAR)
    assert difference(array(data, 150, 100), whole) < 1


def test_palettes_with_and_without_transparency():
    palette = SCENE.quantize(16)
    rgb, indices = palette.convert("RGB"), np.asarray(palette)
    assert np.array_equal(array(saved("PNG", palette)), rgb)
    assert np.array_equal(array(saved("GIF", palette)), rgb)
    assert np.array_equal(array(saved("PNG", palette, transparency=5)), white_where_transparent(rgb, indices == 5))
    partly = bytes([0, 255, 0] + [255] * 13)
    expected = white_where_transparent(rgb, (indices == 0) | (indices == 2))
    assert np.array_equal(array(saved("PNG", palette, transparency=partly)), expected)
    gif = saved("GIF", palette, transparency=5)
    seen = np.asarray(Image.open(BytesIO(gif)).convert("RGBA"))
    assert (seen[..., 3] == 0).any()
    assert np.array_equal(array(gif), white_where_transparent(seen[..., :3], seen[..., 3] == 0))


def test_one_transparent_colour():
    grey = SCENE.convert("L")
    value, colour = int(np.asarray(grey)[50, 50]), tuple(int(v) for v in np.asarray(SCENE)[50, 50])
    expected = white_where_transparent(grey.convert("RGB"), np.asarray(grey) == value)
    assert np.array_equal(array(saved("PNG", grey, transparency=value)), expected)
    expected = white_where_transparent(SCENE, (np.asarray(SCENE) == colour).all(axis=-1))
    assert np.array_equal(array(saved("PNG", SCENE, transparency=colour)), expected)


def test_one_bit_and_grey():
    for image in (SCENE.convert("1"), SCENE.convert("L")):
        for name in ("PNG", "BMP", "TIFF"):
            assert np.array_equal(array(saved(name, image)), image.convert("RGB"))


def test_cmyk():
    for name, options in (("JPEG", {"quality": 98, "subsampling": 0}), ("TIFF", {})):
        assert difference(array(saved(name, SCENE.convert("CMYK"), **options)), SCENE) < 4


@pytest.mark.parametrize("mode", ["LAB", "YCbCr"])
def test_other_colour_spaces(mode):
    assert difference(array(saved("TIFF", SCENE.convert(mode))), SCENE) < 4


def tiff_of(values, kind):
    """An uncompressed TIFF of one sample a pixel: kind is 1 unsigned, 2 signed, 3 float, in the array's byte order."""
    order = ">" if values.dtype.str[0] == ">" else "<"
    shape = values.shape
    tags = [
        (256, shape[1]),
        (257, shape[0]),
        (258, 8 * values.itemsize),
        (259, 1),
        (262, 1),
        (273, 8 + 2 + 96 + 12 + 4),
    ]
    tags += [(277, 1), (278, shape[0]), (339, kind)]
    entries = b"".join(
        struct.pack(f"{order}HHL", tag, 4 if tag == 273 else 3, 1)
        + (struct.pack(f"{order}L", value) if tag == 273 else struct.pack(f"{order}HH", value, 0))
        for tag, value in tags
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}LH", 8, len(tags))
    return head + entries + bytes(4) + values.tobytes()


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4", ">i4"])
def test_16_bits_are_scaled_and_not_clipped(dtype):
    values = np.linspace(0, 65535, 160 * 120).reshape(120, 160).round().astype(dtype)
    pixels = array(tiff_of(values, 2 if "i" in dtype else 1))
    assert np.array_equal(pixels[..., 0], np.round(values / 257).astype(np.uint8))
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_16_bit_png_with_and_without_transparency():
    values = (np.asarray(SCENE.convert("L")).astype(np.uint16) * 200) + 77
    image = Image.fromarray(values)
    expected = np.round(values / 257)
    assert np.array_equal(array(saved("PNG", image))[..., 1], expected)
    expected[values == values[3, 3]] = 255
    assert np.array_equal(array(saved("PNG", image, transparency=int(values[3, 3])))[..., 1], expected)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (np.full((4, 4), 0.5, "<f4"), 3, "float32 values from 0.5 to 0.5"),
        (np.full((4, 4), 70000, "<i4"), 2, "int32 values from 70000 to 70000"),
        (np.full((4, 4), -1, "<i4"), 2, "int32 values from -1 to -1"),
    ],
)
def test_numbers_that_are_not_colours_are_refused(values, kind, message):
    with pytest.raises(InvalidImage, match=message):
        array(tiff_of(values, kind))


@pytest.fixture(scope="module")
def large_jpeg():
    return jpeg(with_noise(rendered_scene((4000, 3000)), 3))


@pytest.mark.parametrize("side", [224, 299])
def test_drafted_array_is_within_4_grey_levels_of_a_full_decode(large_jpeg, side):
    photo = decode(large_jpeg, width=side, height=side)
    assert photo.image.size == (500, 375)
    assert photo.size == (4000, 3000)
    assert difference(photo.array(side, side), plain_array(large_jpeg, side)) < 4


@pytest.mark.parametrize("size", [(2001, 1499), (1237, 2777), (801, 803), (757, 749), (300, 299)])
@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_reduction_of_odd_sizes_stays_in_place(size, name):
    data = saved(name, rendered_scene(size), **({"quality": 90} if name == "JPEG" else {"compress_level": 1}))
    assert difference(array(data, 299, 299), plain_array(data, 299)) < 4
    shift = np.roll(plain_array(data, 299), 1, axis=1)
    assert difference(array(data, 299, 299), plain_array(data, 299)) < difference(array(data, 299, 299), shift) / 3


def test_crop_takes_the_centre(large_jpeg):
    photo = decode(large_jpeg, width=299, height=299)
    assert photo.region(299, 299, "crop") == (0.125, 0.0, 0.875, 1.0)
    assert photo.region(299, 299) == (0.0, 0.0, 1.0, 1.0)
    full = Image.open(BytesIO(large_jpeg)).crop((500, 0, 3500, 3000)).resize((299, 299), Image.Resampling.BILINEAR)
    assert difference(photo.array(299, 299, "crop"), full) < 4
    assert photo.region(400, 100, "crop") == (0.0, 0.5 - 1 / 6, 1.0, 0.5 + 1 / 6)
    with pytest.raises(ValueError, match="pad"):
        photo.array(299, 299, "pad")


def test_load_array_follows_the_specification(large_jpeg):
    spec = SimpleNamespace(width=200, height=100, resize="crop")
    assert np.array_equal(load_array(large_jpeg, spec), array(large_jpeg, 200, 100, "crop"))
    with pytest.raises(TooLarge):
        load_array(large_jpeg, spec, Limits(max_pixels=100))


def test_larger_array_than_announced_is_decoded_again(large_jpeg):
    photo = decode(large_jpeg, width=32, height=32)
    assert np.array_equal(photo.array(600, 600), array(large_jpeg, 600, 600))


def test_display_never_changes_the_array(large_jpeg):
    photo = decode(large_jpeg, width=299, height=299)
    before = photo.array(299, 299)
    assert photo.display(512) is photo.image  # 500 pixels are near enough to 512
    assert photo.display(1024).size == (1024, 768)
    assert photo.display(100).size == (100, 75)
    assert photo.display(100_000).size == (4000, 3000)
    assert np.array_equal(photo.array(299, 299), before)


@pytest.mark.parametrize("name", ENCODINGS)
def test_display_of_a_photo_decoded_small_is_decoded_again(name):
    original = rendered_scene((900, 600))
    data = saved(name, original, **ENCODINGS[name])
    photo = decode(data, width=32, height=32)
    shown = photo.display(450)
    assert (shown.size, shown.mode) == ((450, 300), "RGB")
    assert difference(shown, original.resize((450, 300), Image.Resampling.BICUBIC)) < (15 if name == "GIF" else 4)
    assert photo.display(512).size == (512, 341)


@pytest.mark.parametrize("name", ["PNG", "WebP", "JPEG"])
def test_nothing_of_the_file_but_its_pixels_is_passed_on(name):
    photo = decode(saved(name, icc_profile=b"a profile", dpi=(72, 72)), width=10, height=10)
    assert photo.display(512).info == photo.display(20).info == {}


def test_display_does_not_enlarge():
    assert decode(saved("PNG"), width=299, height=299).display(512).size == (160, 120)


@pytest.mark.parametrize(
    "name", [name for name in ENCODINGS if name != "HEIC"]
)  # x265 makes no such shapes; see test_heic.py
@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (3, 700)])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_extreme_shapes(name, size, resize):
    photo = decode(saved(name, Image.new("RGB", size, (200, 100, 50))), width=299, height=224)
    pixels = photo.array(299, 224, resize)
    assert pixels.shape == (224, 299, 3)
    assert np.abs(pixels - np.array([200, 100, 50])).max() <= 6
    shown = photo.display(512)
    assert max(shown.size) == min(512, max(size)) and min(shown.size) >= 1
