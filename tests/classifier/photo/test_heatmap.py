"""`photo.heatmap`: the colour map's evenness, what an overlay changes and leaves, and the files it becomes."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from bench.preprocessing import rendered_scene
from classifier.errors import InvalidRequest
from classifier.photo import heatmap

PHOTO = rendered_scene((120, 90), seed=2)


def cie_lightness(rgb):
    """CIE L*, 0..100, of sRGB values 0..255 (IEC 61966-2-1, CIE 15)."""
    value = rgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126729, 0.7151522, 0.0721750])
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27)


def spot(row, column, size=10):
    heat = np.zeros((size, size), np.float32)
    heat[row, column] = 3.5
    return heat


def test_colour_map_lightness_rises_strictly_and_evenly():
    table = heatmap.colour_map()
    assert (table.shape, table.dtype) == ((256, 3), np.uint8)
    lightness = cie_lightness(table.astype(float))
    assert (np.diff(lightness) > 0).all()
    assert lightness[0] < 25 and lightness[-1] > 90
    sixteenths = np.diff(lightness[::15])
    assert (np.abs(sixteenths / sixteenths.mean() - 1) < 0.15).all()


def test_colour_map_goes_from_blue_over_magenta_and_orange_to_yellow_without_jumps():
    table = heatmap.colour_map().astype(int)
    (red, green, blue), (r1, g1, b1), (r2, g2, b2), (r3, g3, b3) = table[[0, 110, 180, 255]]
    assert blue > 2 * max(red, green)
    assert r1 > b1 > g1
    assert r2 > g2 > b2
    assert r3 > 240 and g3 > 220 and b3 < 180
    assert np.abs(np.diff(table, axis=0)).max() <= 4


def test_colour_map_is_made_once_and_cannot_be_changed():
    assert heatmap.colour_map() is heatmap.colour_map()
    with pytest.raises(ValueError, match="read-only"):
        heatmap.colour_map()[0, 0] = 1


def test_overlay_colours_what_is_hot_and_leaves_the_rest():
    before = np.asarray(PHOTO).copy()
    result = heatmap.overlay(PHOTO, spot(2, 7))
    assert (result.size, result.mode) == (PHOTO.size, "RGB")
    assert np.array_equal(PHOTO, before)
    changed = (np.asarray(result) != before).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert abs(rows.mean() - 2.5 * 9) < 2 and abs(columns.mean() - 7.5 * 12) < 2
    assert not changed[45:].any() and not changed[:, :60].any()
    expected = before[22, 90] * (1 - heatmap.OPACITY) + heatmap.colour_map()[-1] * heatmap.OPACITY
    assert np.abs(np.asarray(result)[22, 90] - expected).max() < 12


def test_overlay_grows_with_heat():
    heat = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (30, 1))
    grey = Image.new("RGB", (400, 300), (128, 128, 128))
    row = np.asarray(heatmap.overlay(grey, heat)).astype(int)[150]
    assert (row[:30] == 128).all()
    lightness = cie_lightness(row[200:].astype(float))
    assert (np.diff(lightness[::10]) > 0).all()


def test_overlay_depends_on_the_shape_of_the_heat_only():
    heat = np.random.default_rng(0).random((7, 7)).astype(np.float32)
    assert np.array_equal(heatmap.overlay(PHOTO, heat), heatmap.overlay(PHOTO, heat * np.float32(2**-130)))


@pytest.mark.parametrize("heat", [np.zeros((7, 7)), np.full((7, 7), np.nan), np.full((7, 7), np.inf)])
def test_overlay_of_no_heat_is_the_photo(heat):
    assert np.array_equal(heatmap.overlay(PHOTO, heat.astype(np.float32)), PHOTO)


def test_overlay_stays_within_the_region():
    everywhere = np.ones((10, 10), np.float32)
    changed = (np.asarray(heatmap.overlay(PHOTO, everywhere, region=(0.25, 0.1, 0.75, 0.9))) != PHOTO).any(axis=-1)
    expected = np.zeros((90, 120), bool)
    expected[9:81, 30:90] = True
    assert np.array_equal(changed, expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (512, 2)])
def test_overlay_of_the_smallest_photos(size):
    photo = Image.new("RGB", size, "black")
    assert heatmap.overlay(photo, spot(0, 0)).size == size
    assert heatmap.overlay(photo, np.ones((1, 1), np.float32), region=(0.999, 0.999, 1, 1)).getbbox() is not None


def test_bare_is_the_heat_in_grey():
    heat = np.array([[0, 1, 2], [4, 3, 0]], np.float32)
    image = heatmap.bare(heat)
    assert (image.mode, image.size) == ("L", (3, 2))
    assert np.asarray(image).tolist() == [[0, 64, 128], [255, 191, 0]]
    assert np.asarray(heatmap.bare(np.zeros((2, 2), np.float32))).tolist() == [[0, 0], [0, 0]]


def test_heat_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\[1, 2, 3\]"):
        heatmap.bare(np.zeros((1, 2, 3), np.float32))


@pytest.mark.parametrize(("media_type", "name"), [("image/jpeg", "JPEG"), ("image/png", "PNG"), ("image/webp", "WEBP")])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_encode(media_type, name, mode):
    picture = PHOTO.convert(mode)
    decoded = Image.open(BytesIO(heatmap.encode(picture, media_type)))
    assert (decoded.format, decoded.size) == (name, PHOTO.size)
    assert np.abs(np.asarray(decoded.convert(mode)).astype(int) - picture).mean() < (8 if name != "PNG" else 1e-9)


def test_encode_names_what_it_offers():
    with pytest.raises(InvalidRequest, match="image/jpeg, image/png, image/webp; received 'image/gif'"):
        heatmap.encode(PHOTO, "image/gif")
