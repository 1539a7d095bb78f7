"""Whatever is sent: a photo, or an error that says so; never a crash, never too much memory, never too long."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from classifier.errors import InvalidImage, TooLarge
from classifier.photo.limits import Limits
from classifier.photo.memory import Memory
from classifier.photo.preprocessing import decode
from tests.support.encoded_photos import ENCODINGS, saved
from tests.support.fuzz import SETTINGS, Case, Watch, photo_case, request_case, served
from tests.support.mutations import bombs, every_mode, mutated, photos

REPEATABLE = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150
)
SEEDS = st.integers(0, 2**64)


@pytest.fixture(scope="module")
def watch(tiny_bundle_original: Path) -> Iterator[Watch]:
    with served(tiny_bundle_original) as serving:
        watch = Watch(serving)
        yield watch
        watch.check_memory()


def read(data: bytes, width: int = 64, height: int = 48) -> str:
    """Decode with every warning recorded; the kind of what came of it."""
    limits = Limits(max_pixels=1_000_000, memory=Memory(64 * 2**20, wait=0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            photo = decode(data, width=width, height=height, limits=limits)
            for resize in ("stretch", "crop"):
                assert photo.array(width, height, resize).shape == (height, width, 3)
            assert max(photo.display(100).size) <= 100
            kind = "read"
        except (InvalidImage, TooLarge) as error:
            assert str(error).endswith((".", "]")), str(error)
            kind = type(error).__name__
    assert [str(warning.message) for warning in caught] == []
    return kind


@REPEATABLE
@given(st.binary(max_size=300), st.sampled_from([b"", *(data[:12] for data in photos().values())]))
def test_random_bytes_are_no_photo(data: bytes, head: bytes) -> None:
    read(head + data)


@pytest.mark.parametrize("name", photos())
def test_mutated_photos_of_every_kind(name: str) -> None:
    others = list(photos().values())
    found = Counter(read(mutated(photos()[name], others, Random(f"{name}/{seed}"))) for seed in range(60))
    assert found["InvalidImage"] > 0, found


@REPEATABLE
@given(st.sampled_from(sorted(photos())), SEEDS, st.integers(1, 400), st.integers(1, 400))
def test_mutated_photos_at_any_scale(name: str, seed: int, width: int, height: int) -> None:
    read(mutated(photos()[name], list(photos().values()), Random(seed)), width, height)


def test_every_mode_of_pillow() -> None:
    photos_by_mode = every_mode()
    found = {name: read(data) for name, data in photos_by_mode.items()}
    assert len(found) > 60
    assert {name for name, kind in found.items() if kind != "read"} == {"TIFF F"}  # numbers, not colours


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 1), (1, 2000), (2000, 1), (2000, 3)])
@pytest.mark.parametrize("name", ENCODINGS)
def test_extreme_shapes(name: str, size: tuple[int, int]) -> None:
    assert read(saved(name, Image.new("RGB", size, "red")), 33, 700) == "read"


def test_bombs_in_metadata(watch: Watch) -> None:
    """Twenty times the size of a photo's pixels, or four hundred times where it is inflated."""
    for name, data in bombs(1).items():
        expected = "InvalidImage" if "thousand" in name else "read"
        assert read(data) == expected, name
        assert len(data) < int(SETTINGS["MAX_IMAGE_BYTES"])
        before = watch.statuses[200]
        watch.send(Case(data))
        assert (watch.statuses[200] > before) == (expected == "read"), name


@settings(REPEATABLE, max_examples=120)
@given(SEEDS)
def test_mutated_photos_are_answered(watch: Watch, seed: int) -> None:
    watch.send(photo_case(Random(seed)))


@settings(REPEATABLE, max_examples=150)
@given(SEEDS)
def test_any_request_is_answered(watch: Watch, seed: int) -> None:
    watch.send(request_case(Random(seed)))


def test_many_at_the_same_time_stay_within_the_memory(watch: Watch) -> None:
    """Photos that take much, from eight clients: each is read, refused for its size, or told to come again."""
    image = Image.new("RGB", (1500, 1200), "red")
    large = [saved(name, image) for name in ("WebP", "PNG", "HEIC", "AVIF", "GIF")]
    found: Counter[int] = Counter()

    def ask(data: bytes) -> None:
        for number in range(3):  # bytes at the end, so that none is known from before
            reply = requests.post(watch.serving.url, data=data + bytes(number), headers=JPEG, timeout=60)
            found[reply.status_code] += 1

    clients = [threading.Thread(target=ask, args=(large[index % 5] + bytes(index + 9),)) for index in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert set(found) <= {200, 503} and found[200] > 0, found
    watch.check_memory()


JPEG = {"Content-Type": "image/jpeg"}
