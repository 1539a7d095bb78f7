"""The result cache by itself: what goes for a new result, and how much memory it takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from classifier.serving.cache import ResultCache, key_of, size_of
from classifier.serving.prediction import Overlay, Prediction
from classifier.serving.query import Query

MIB = 2**20


def prediction(size: int = 0, labels: int = 1) -> Prediction:
    ranked = tuple((f"label {number} of {size}", 0.5 + number / 1e6) for number in range(labels))
    overlay = Overlay("label", 0.5, "image/jpeg", bytes(size)) if size else None
    return Prediction(ranked, 0, "ok", 0.5, "", overlay, 0.0, 0.0, 0.0, 0.0, (4000, 3000))


def key(number: int) -> Any:
    return key_of(f"photo {number}".encode(), "a" * 64, Query())


def test_those_that_were_not_asked_for_the_longest_go() -> None:
    each = size_of(prediction(1000))
    cache = ResultCache(3 * each)
    for number in range(3):
        assert cache.put(key(number), prediction(1000))
    assert cache.get(key(0)) is not None
    assert cache.put(key(3), prediction(1000))
    assert [cache.get(key(number)) is not None for number in range(4)] == [True, False, True, True]
    assert (len(cache), cache.bytes) == (3, 3 * each)
    cache.put(key(4), prediction(2500))  # two have to go for it
    assert [cache.get(key(number)) is not None for number in range(5)] == [False, False, False, True, True]
    assert cache.bytes <= cache.limit


def test_one_that_is_too_large_sends_no_other_away() -> None:
    cache = ResultCache(2 * size_of(prediction()))
    assert cache.put(key(0), prediction()) and not cache.put(key(1), prediction(10_000))
    assert cache.get(key(0)) is not None and cache.get(key(1)) is None


def test_the_same_key_counts_once() -> None:
    cache = ResultCache(10_000)
    cache.put(key(0), prediction(5000))
    cache.put(key(0), prediction(1000))
    assert (len(cache), cache.bytes) == (1, size_of(prediction(1000)))


@pytest.mark.parametrize(("size", "labels"), [(0, 5), (0, 100), (20_000, 5)])
def test_it_takes_no_more_memory_than_it_may(size: int, labels: int) -> None:
    cache = ResultCache(MIB)
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        for number in range(2 * MIB // size_of(prediction(size, labels))):
            cache.put(key(number), prediction(size, labels))
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    held = sum(difference.size_diff for difference in after.compare_to(before, "filename"))
    assert 0.4 * MIB < held < 1.05 * MIB


def test_threads_share_it() -> None:
    cache = ResultCache(20 * size_of(prediction(100)))

    def work(seed: int) -> Iterator[bool]:
        for number in range(500):
            name = (seed * 31 + number * 7) % 60
            found = cache.get(key(name))
            yield found is None or len(found.overlay.content) == 100 + name  # type: ignore[union-attr]
            cache.put(key(name), prediction(100 + name))

    with ThreadPoolExecutor(8) as pool:
        assert all(all(each) for each in pool.map(lambda seed: list(work(seed)), range(8)))
    assert cache.bytes == sum(map(size_of, cache._kept.values())) <= cache.limit
