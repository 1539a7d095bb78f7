"""Profiles of primaries and one curve: bit by bit as lcms has them, or left to lcms."""

import random
import struct

import numpy as np
import pytest
from PIL import Image

from classifier.photo import matrix_profiles, profiles
from classifier.photo.matrix_profiles import matrix_conversion
from tests.support.colour_profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    by_lcms,
    curve,
    display,
    gamma,
    matrix,
    parametric,
    profile,
    table,
    xyz,
)

ADOBE, P3 = ADOBE_RGB[0], DISPLAY_P3[0]
PRO_PHOTO = (0.79767, 0.28804, 0.0), (0.13518, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)
SRGB = 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045
RAMP = np.linspace(0, 1, 1024)


def colours():
    """A grid whose edges most spaces have outside sRGB, every grey, dark ones of all kinds, and any."""
    steps = np.linspace(0, 255, 18).round()
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    dark = np.stack(np.meshgrid(*[np.arange(16)] * 3), -1).reshape(-1, 3)
    rows = np.concatenate([grid, dark, np.repeat(np.arange(256)[:, None], 3, 1)])
    any_ = np.random.default_rng(0).integers(0, 256, (30_000 - len(rows), 3))
    return Image.fromarray(np.concatenate([rows, any_]).astype(np.uint8).reshape(150, 200, 3))


COLOURS = colours()


def made(given):
    kept = profiles.believed(given, b"RGB ")
    return None if kept is None else matrix_conversion(kept)


@pytest.mark.parametrize(
    "given",
    [
        display(*ADOBE_RGB),
        display(*DISPLAY_P3),
        matrix(P3, parametric(3, *SRGB), version=4),  # an iPhone's
        matrix(P3, parametric(3, *SRGB)),
        matrix(PRO_PHOTO, gamma(1.8)),
        matrix(P3, curve(np.zeros(0))),
        matrix(ADOBE, curve((RAMP**2.2 * 65535).round())),
        matrix(ADOBE, curve((RAMP[:17] * 65535).round())),
        matrix(ADOBE, curve(np.array([0, 65535]))),
        matrix(ADOBE, curve(np.array([0, 60000, 3, 30000]))),  # it decreases
        matrix(ADOBE, curve(np.zeros(9))),
        matrix(ADOBE, parametric(0, 2.2), version=4),
        matrix(ADOBE, parametric(1, 2.4, 1.1, -0.1), version=4),
        matrix(ADOBE, parametric(1, 2.4, 0, -0.1), version=4),  # nothing but black
        matrix(ADOBE, parametric(2, 2.4, 1.1, -0.1, 0), version=4),
        matrix(ADOBE, parametric(4, *SRGB, 0, 0), version=4),
        matrix(ADOBE, parametric(4, 2.0, 0.9, 0.05, 0.2, 0.1, 0.02, 0), version=4),
        matrix(((0.9, 0.1, -0.2), (-0.3, 0.8, 0.1), (0.2, 0.1, -0.4)), gamma(2.2)),
    ],
)
def test_pixels_are_those_of_lcms(given):
    convert = made(given)
    assert convert is not None
    assert np.array_equal(convert(COLOURS), by_lcms(COLOURS, given))


@pytest.mark.parametrize(
    "given",
    [
        matrix(ADOBE, gamma(2.2), gamma(2.2), gamma(2.1)),
        matrix(ADOBE, gamma(0)),
        matrix(ADOBE, curve(np.array([9000, 65535]))),  # black is not black
        matrix(ADOBE, curve(np.zeros(0x8000))),  # more points than lcms takes
        matrix(ADOBE, parametric(0, -2.2), version=4),
        matrix(ADOBE, parametric(0, 0), version=4),
        matrix(ADOBE, parametric(1, 2.4, 30000, 0), version=4),
        matrix(ADOBE, parametric(3, 30000, 30000, 1, 1, 0), version=4),
        matrix(ADOBE, parametric(4, *SRGB, 0, 0.3), version=4),
        matrix(((30000, 1, 0), (0, -30000, 1), (1, 0, 30000)), gamma(2.2)),
        matrix(ADOBE, gamma(2.2), version=5),
        profile(b"RGB ", {b"A2B0": table(3, np.zeros((8, 3)))}, connection=b"Lab "),
        display(*ADOBE_RGB).replace(b"RGB XYZ ", b"RGB Lab "),
        profile(b"RGB ", {b"rXYZ": xyz((0.3, 0.3, 0.3)), b"rTRC": gamma(2.2)}),
        profile(b"RGB ", {name: gamma(2.2) for name in matrix_profiles.PRIMARIES + matrix_profiles.CURVES}),
    ],
)
def test_what_is_not_plain_is_left_to_lcms(given):
    assert profiles.believed(given, b"RGB ") is not None
    assert made(given) is None


def test_whatever_is_taken_gives_what_lcms_gives():
    chance, image, taken = random.Random(2), COLOURS.crop((0, 0, 200, 30)), 0
    given = matrix(P3, parametric(3, *SRGB), version=4)
    first = 132 + 12 * 6
    for _ in range(150):
        numbers = bytearray(given)
        for _ in range(chance.randrange(1, 4)):
            at = first + 20 * chance.randrange(3) + 8 + 4 * chance.randrange(3)
            numbers[at : at + 4] = struct.pack(">l", round(65536 * chance.uniform(-1, 1.5)))
        convert = made(bytes(numbers))
        taken += convert is not None
        assert convert is None or np.array_equal(convert(image), by_lcms(image, bytes(numbers)))
    assert taken > 50


@pytest.mark.parametrize("size", [(700, 900), (300_000, 2), (2, 300_000)])
def test_large_images_go_by_strips(size):
    assert size[0] * size[1] > 2 * matrix_profiles.STRIP_PIXELS
    image = Image.effect_noise(size, 90).convert("RGB")
    image.paste(COLOURS, (size[0] - 200, size[1] - 150))
    given = display(*DISPLAY_P3)
    assert np.array_equal(made(given)(image), by_lcms(image, given))
