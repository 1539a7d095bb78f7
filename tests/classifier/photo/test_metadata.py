"""What a file says of itself beside EXIF: orientation in XMP and in a PNG's text; and TIFFs of uncommon kinds."""

import struct
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from bench.preprocessing import rendered_scene
from classifier.errors import InvalidImage
from classifier.photo import formats
from classifier.photo.preprocessing import decode
from tests.support import encoded_photos

SCENE = rendered_scene((64, 48))
ATTRIBUTE = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><r:D r:about="" tiff:Orientation="6"/></x:xmpmeta>'
ELEMENT = ATTRIBUTE.replace(b' tiff:Orientation="6"/>', b"><tiff:Orientation>6</tiff:Orientation></r:D>")
saved = partial(encoded_photos.saved, image=SCENE)


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def size(data):
    return decode(data, width=64, height=48).size


def with_text(keyword, text, *, packed=False, international=False):
    info = PngImagePlugin.PngInfo()
    if international:
        info.add_itxt(keyword, text, zip=packed)
    else:
        info.add_text(keyword, text, zip=packed)
    return saved("PNG", pnginfo=info)


@pytest.mark.parametrize("xmp", [ATTRIBUTE, ELEMENT], ids=["attribute", "element"])
@pytest.mark.parametrize("name", ["JPEG", "WebP", "PNG", "TIFF"])
def test_orientation_in_xmp(name, xmp):
    if name == "PNG":
        data = with_text("XML:com.adobe.xmp", xmp.decode(), packed=True, international=True)
    elif name == "TIFF":
        data = saved(name, tiffinfo={700: xmp})
    else:
        data = saved(name, xmp=xmp)
    assert size(data) == (48, 64)
    assert np.array_equal(decode(data, width=48, height=64).array(48, 64), turned(name))


def turned(name):
    plain = decode(saved(name), width=64, height=48).array(64, 48)
    return np.rot90(plain, k=-1)


def test_exif_goes_before_xmp():
    assert size(saved("JPEG", xmp=ATTRIBUTE, exif=exif(3))) == (64, 48)
    assert formats.read(saved("JPEG", xmp=ATTRIBUTE, exif=exif(3))).orientation == 3


@pytest.mark.parametrize(
    "xmp", [b"", b"<x", ATTRIBUTE.replace(b'"6"', b'"9"'), ATTRIBUTE.replace(b'"6"', b'"66"'), bytes(70_000)[:60_000]]
)
def test_xmp_that_states_nothing_means_upright(xmp):
    assert size(saved("JPEG", xmp=xmp)) == (64, 48)


@pytest.mark.parametrize("keyword", ["Raw profile type exif", "Raw profile type APP1"])
@pytest.mark.parametrize("packed", [False, True])
def test_orientation_in_the_text_that_imagemagick_writes(keyword, packed):
    block = b"Exif\0\0" + exif(6).tobytes().removeprefix(b"Exif\0\0")
    digits = block.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = f"\nexif\n{len(block):8d}\n{lines}\n"
    assert size(with_text(keyword, text, packed=packed)) == (48, 64)
    for damaged in (text[:30], text.replace("4", "x"), "", "exif"):
        assert size(with_text(keyword, damaged, packed=packed)) == (64, 48)


def test_text_that_would_inflate_without_end_is_left_packed():
    data = with_text("Raw profile type exif", "0" * 50_000_000, packed=True)
    assert len(data) < 100_000
    assert size(data) == (64, 48)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_fax_is_read_and_damaged_rows_are_not_written_about(compression, capfd):
    bilevel = SCENE.convert("1")
    data = saved("TIFF", image=bilevel, compression=compression)
    expected = np.asarray(bilevel.convert("RGB"))
    assert np.array_equal(decode(data, width=64, height=48).array(64, 48), expected)
    for at in range(100, len(data) - 200, 37):
        damaged = bytearray(data)
        damaged[at] ^= 0xFF
        try:
            decode(bytes(damaged), width=64, height=48)
        except InvalidImage as error:
            assert str(error).endswith(".")
    assert capfd.readouterr().err == ""


def big_tiff(image):
    """Write an 8-bit RGB image as BigTIFF, uncompressed."""
    entries = [
        (256, 3, 1, image.width), (257, 3, 1, image.height), (258, 3, 3, 0x8_0008_0008),
        (262, 3, 1, 2), (273, 16, 1, 0), (274, 3, 1, 6), (277, 3, 1, 3), (278, 3, 1, image.height),
        (279, 4, 1, image.width * image.height * 3),
    ]  # fmt: skip
    start = 16 + 8 + 20 * len(entries) + 8
    rows = [
        struct.pack("<HHQQ", tag, kind, count, start if tag == 273 else value) for tag, kind, count, value in entries
    ]
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + struct.pack("<Q", len(entries))
    return head + b"".join(rows) + bytes(8) + image.tobytes()


def test_a_big_tiff_is_read():
    data = big_tiff(SCENE)
    photo = decode(data, width=48, height=64)
    assert (photo.format, photo.size) == ("TIFF", (48, 64))
    assert np.array_equal(photo.array(48, 64), np.rot90(np.asarray(SCENE), k=-1))
    for end in (9, 20, 60, 200, len(data) - 300):
        with pytest.raises(InvalidImage):
            decode(data[:end], width=48, height=64)


def test_a_tiff_of_floating_point_numbers_is_refused_with_the_reason():
    """What range they have, and so what is white, is not in the file."""
    grey = Image.fromarray(np.linspace(-3.5, 12.25, 64 * 48, dtype=np.float32).reshape(48, 64))
    with pytest.raises(InvalidImage, match=r"float32 values from -3\.5 to 12\.25. Save the photo with 8 bits"):
        decode(saved("TIFF", image=grey), width=64, height=48)


def test_colours_of_floating_point_numbers_are_refused_with_the_reason():
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[339] = (3, 3, 3)
    data = BytesIO()
    SCENE.save(data, "TIFF", tiffinfo=info)
    with pytest.raises(InvalidImage, match="floating-point numbers, whose range is not known"):
        formats.read(data.getvalue())
