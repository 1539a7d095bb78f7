"""HEIC photos made on the spot with pillow-heif's encoder (x265): one in one piece, one in tiles."""

import pytest

from bench.preprocessing import rendered_scene
from tests.support.encoded_photos import saved

LARGE = rendered_scene((330, 251), seed=5)


@pytest.fixture(name="plain", scope="module")
def plain_fixture():
    return saved("HEIC", LARGE, quality=60)


@pytest.fixture(name="grid", scope="module")
def grid_fixture():
    return saved("HEIC", LARGE, quality=60, tile_size=64)
