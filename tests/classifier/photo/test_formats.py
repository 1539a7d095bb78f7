"""`photo.formats`: what is kept of a photo file, and that damaged or hostile metadata never reaches Pillow."""

import struct
import warnings
import zlib
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from bench.preprocessing import rendered_scene
from classifier.errors import InvalidImage, TooLarge
from classifier.photo import formats
from classifier.photo.orientation import exif_orientation, stated
from classifier.photo.preprocessing import decode
from tests.support import encoded_photos

SCENE = rendered_scene((64, 48))
saved = partial(encoded_photos.saved, image=SCENE)


def png_chunk(name, data):
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


def array(data):
    """Decode with every warning recorded: Pillow must have nothing to complain about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pixels = decode(data, width=64, height=48).array(64, 48)
    assert [str(warning.message) for warning in caught] == []
    return pixels


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_orientation_is_read_in_both_byte_orders(order, kind):
    head = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(f"{order}HH" if kind == 3 else f"{order}L", *((6, 0) if kind == 3 else (6,)))
    exif = head + struct.pack(f"{order}LHHHL", 8, 1, 0x0112, kind, 1) + value + bytes(4)
    assert exif_orientation(exif) == 6
    assert exif_orientation(b"Exif\0\0" + exif) == 6


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"nonsense",
        b"II*\0\xff\xff\xff\xff",  # the directory is past the end
        b"II*\0\x08\0\0\0\xff\xff" + bytes(20),  # 65,535 entries announced, one there
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0",  # orientation 9
    ],
)
def test_damaged_exif_means_upright(exif):
    assert stated(exif=exif) == 1


BROKEN_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x1a\x01\x05\0\x01\0\0\0\xf0\xff\xff\x7f" * 3


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_broken_exif_is_ignored_without_a_warning(name):
    lossless = {"lossless": True} if name == "WEBP" else {}
    plain = array(saved(name, **lossless))
    if name == "AVIF":  # Pillow refuses to write broken EXIF here, so it is broken afterwards
        exif = Image.Exif()
        exif[0x010F] = "maker of cameras"
        data = saved(name, exif=exif)
        assert b"II*\0" in data or b"MM\0*" in data
        data = data.replace(b"MM\0*", b"XXXX").replace(b"II*\0", b"XXXX")
    else:
        data = saved(name, exif=BROKEN_EXIF, **lossless)
    assert b"exif" in data.lower()
    assert np.array_equal(array(data), plain)


def test_jpeg_keeps_its_pixels_and_loses_its_metadata():
    exif = Image.Exif()
    exif[0x010F] = "maker of cameras"
    data = saved("JPEG", exif=exif, comment=b"a comment", icc_profile=b"a profile")
    kept = formats.read(data)
    assert b"maker of cameras" in data and b"a comment" in data and b"a profile" in data
    assert b"maker of cameras" not in kept.data and b"a comment" not in kept.data and b"a profile" not in kept.data
    assert np.array_equal(np.asarray(Image.open(BytesIO(kept.data))), np.asarray(Image.open(BytesIO(data))))


def test_jpeg_may_have_padding_and_junk_between_its_segments():
    data = saved("JPEG")
    assert np.array_equal(array(data[:20] + b"junk" + b"\xff\xff" + data[20:]), array(data))


def test_malformed_mpo_index_is_ignored():
    data = saved("MPO", save_all=True, append_images=[SCENE.rotate(180)])
    broken = data.replace(b"MPF\0", b"MPF\0XX", 1)
    assert np.array_equal(array(broken[: len(data)]), array(saved("JPEG")))


def test_png_text_bomb_is_never_inflated():
    bomb = b"Comment\0\0" + zlib.compress(bytes(80_000_000))
    data = saved("PNG")
    data = data[:33] + png_chunk(b"zTXt", bomb) + png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(9**8))) + data[33:]
    with pytest.raises(ValueError, match="too large"):  # what Pillow does with it
        Image.open(BytesIO(data))
    assert np.array_equal(array(data), np.asarray(SCENE))


def test_png_animation_gives_its_default_image_even_when_announced_wrongly():
    data = saved("PNG")
    assert np.array_equal(array(data[:33] + png_chunk(b"acTL", bytes(8)) + data[33:]), np.asarray(SCENE))
    animated = saved("PNG", save_all=True, append_images=[SCENE.rotate(180)])
    assert np.array_equal(array(animated), np.asarray(SCENE))


@pytest.mark.parametrize(("mode", "bits", "grey"), [("L", 2, 1), ("L", 4, 5)])
def test_png_transparency_of_few_bits(mode, bits, grey):
    row = bytes([0, grey << (8 - bits)])  # one pixel of the transparent grey
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">LLBBBBB", 1, 1, bits, 0, 0, 0, 0))
    data += png_chunk(b"tRNS", struct.pack(">H", grey)) + png_chunk(b"IDAT", zlib.compress(row))
    assert decode(data + png_chunk(b"IEND", b""), width=1, height=1).array(1, 1).tolist() == [[[255, 255, 255]]]


def test_png_transparency_of_16_bit_colour():
    pixel = struct.pack(">B3H", 0, 0x1234, 0x5678, 0x9ABC)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">LLBBBBB", 1, 1, 16, 2, 0, 0, 0))
    data += png_chunk(b"tRNS", pixel[1:]) + png_chunk(b"IDAT", zlib.compress(pixel))
    assert decode(data + png_chunk(b"IEND", b""), width=1, height=1).array(1, 1).tolist() == [[[255, 255, 255]]]


def test_gif_is_its_first_frame():
    first = SCENE.quantize(64)
    data = saved("GIF", image=first, save_all=True, append_images=[first.rotate(180)], disposal=2, comment=b"hello")
    expected = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
    assert np.array_equal(array(data), expected)
    assert b"hello" not in formats.read(data).data


def gif_frame(screen, frame):
    """A GIF whose frame asks for a disposal, for which Pillow would take memory while opening it."""
    control = b"!\xf9\x04\x08\0\0\0\0"
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0, 0, 0) + control + b"," + struct.pack("<4HB", 0, 0, *frame, 0)


def webp(chunk, body):
    return b"RIFF" + struct.pack("<L", 100) + b"WEBP" + chunk + struct.pack("<L", len(body)) + body + bytes(60)


@pytest.mark.parametrize(
    "data",
    [
        gif_frame((60000, 60000), (1, 1)),
        gif_frame((1, 1), (60000, 60000)) + b"\x08\x01\0\0",
        webp(b"VP8X", bytes(4) + (59999).to_bytes(3, "little") * 2),
        webp(b"VP8L", b"\x2f" + (16382 | 16382 << 14).to_bytes(4, "little")),
        webp(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 16000, 16000)),
    ],
)
def test_size_is_checked_before_a_decoder_takes_memory(data):
    with pytest.raises(TooLarge, match="50,000,000"):
        decode(data, width=10, height=10)


def tiff(*entries, tail=b""):
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + b"".join(entries) + bytes(4) + tail


def entry(tag, kind, values, value):
    return struct.pack("<HHLL", tag, kind, values, value)


def grey_tiff(*more):
    entries = [entry(256, 3, 1, 1), entry(257, 3, 1, 1), entry(258, 3, 1, 8), entry(262, 3, 1, 1), *more]
    offset = 8 + 2 + 12 * (len(entries) + 1) + 4
    return tiff(*entries, entry(273, 4, 1, offset), tail=b"\x80")


def test_tiff_tiles_count_as_its_size():
    with pytest.raises(TooLarge, match="8,000 x 8,000, 64,000,000 pixels"):
        decode(grey_tiff(entry(322, 3, 1, 8000), entry(323, 3, 1, 8000)), width=10, height=10)
    assert formats.read(grey_tiff(entry(322, 3, 1, 16), entry(323, 4, 1, 32))).size == (16, 32)


def test_tiff_with_damaged_metadata_is_read_without_a_warning():
    plain = array(grey_tiff())
    broken = [entry(700, 1, 0x7FFFFFFF, 8), entry(34665, 4, 1, 0xFFFFFFFF), entry(271, 2, 99999, 1)]
    assert np.array_equal(array(grey_tiff(*broken)), plain)
    assert plain[0, 0].tolist() == [128, 128, 128]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(entry(256, 3, 2, 1)), "tag 256 has 2 values"),
        (tiff(entry(273, 4, 1000, 8)), "tag 273 points past its end"),
        (b"II*\0" + struct.pack("<LH", 8, 9), "damaged or cut short"),
        (grey_tiff()[: -1 - 4 - 2], "damaged or cut short"),  # in the directory's last value
        (b"MM\0*", "damaged or cut short"),
        (b"\xff\xd8\xff", "damaged or cut short"),
        (b"\xff\xd8\xff\xd9", "ends before its pixels begin"),
        (b"\xff\xd8" + b"\xff\xe5\0\2" * 100_001, "more than 100,000 segments"),
        (b"GIF89a" + bytes(7) + b";", "no frame was found"),
        (b"GIF89a", "damaged or cut short"),
        (b"\x89PNG\r\n\x1a\n", "damaged or cut short"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "damaged or cut short"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "no still picture"),
        (b"%PDF-1.7", "Expected a photo as JPEG, PNG, WebP, GIF, AVIF, HEIC, BMP or TIFF; received something else"),
        (b"\0\0\0\x18ftypisom" + bytes(40), "received something else"),
        (b"", "received 0 bytes"),
    ],
)
def test_what_cannot_be_read_is_named(data, message):
    with pytest.raises(InvalidImage, match=message):
        formats.read(data)


def test_png_info_written_by_pillow_is_dropped():
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "somebody")
    data = saved("PNG", pnginfo=info)
    assert b"somebody" in data and b"somebody" not in formats.read(data).data


def test_a_jpeg_of_very_many_scans_is_refused():
    """Each takes as long as the whole picture, and ten bytes."""
    data = saved("JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    usual = data.count(b"\xff\xda")
    assert formats.read(data[:-2] + scan * (formats.MAX_SCANS - usual) + data[-2:]).buffered
    for between in (b"", b"\xff\xfe\0\4\xff\xd9", b"\xff\xff\xff"):  # a comment that looks like the end, padding
        with pytest.raises(InvalidImage, match="more than 100 scans"):
            formats.read(data[:-2] + (between + scan) * (formats.MAX_SCANS + 1 - usual) + data[-2:])
    with pytest.raises(InvalidImage, match="more than 100,000 segments"):
        formats.read(data[:-2] + b"\xff\xfe\0\2" * 100_001 + data[-2:])


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_what_is_behind_a_jpeg_is_no_scan(options):
    """A film, in a photo that moves."""
    data = saved("JPEG", **options)
    assert np.array_equal(array(data + b"\xff\xda\0\2" * 1000), array(data))
