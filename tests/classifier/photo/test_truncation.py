"""JPEGs without an end marker: whole where nothing but the marker is missing, `truncated` where pixels are."""

from __future__ import annotations

import numpy as np
import pytest

from bench.preprocessing import rendered_scene
from classifier.errors import InvalidImage
from classifier.photo.preprocessing import decode
from tests.support.encoded_photos import saved

SCENE = rendered_scene((160, 120), seed=3)
KINDS = {
    "baseline": {},
    "grey": {},
    "subsampled": {"subsampling": 2},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True},
    "restart markers": {"restart_marker_rows": 1},
    "progressive with restart markers": {"progressive": True, "restart_marker_blocks": 7},
}


def encoded(kind):
    image = SCENE.convert("L") if kind == "grey" else SCENE
    return saved("JPEG", image, quality=90, **KINDS[kind])


def pixels(data):
    return decode(data, width=160, height=120).array(160, 120)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_the_marker_is_missing(kind):
    data = encoded(kind)
    assert data.endswith(b"\xff\xd9")
    whole = pixels(data)
    assert np.array_equal(pixels(data[:-2]), whole)
    assert np.array_equal(pixels(data[:-1]), whole)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [10, 100, 0.5, 0.9])
def test_missing_pixels_are_told(kind, missing):
    data = encoded(kind)
    cut = data[: -missing if missing >= 1 else int(len(data) * (1 - missing))]
    with pytest.raises(InvalidImage, match=r"truncated|damaged or cut short"):
        pixels(cut)


@pytest.mark.parametrize("kind", ["baseline", "progressive"])
def test_half_of_the_pixels_is_truncated_and_said_so(kind):
    data = encoded(kind)
    with pytest.raises(InvalidImage, match="is truncated: its last pixels are missing"):
        pixels(data[: len(data) * 2 // 3])


def test_what_follows_the_marker_changes_nothing():
    data = encoded("baseline")
    assert np.array_equal(pixels(data + bytes(1000)), pixels(data))
