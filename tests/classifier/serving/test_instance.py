"""What an instance serves: one load however many wait, a bounded pool, and promotions that reach it while it runs."""

from __future__ import annotations

import dataclasses
import gc
import json
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from classifier.errors import Corrupt, NotReady, Overloaded, PointerError
from classifier.registry.manifest import Manifest
from classifier.registry.rules import Registry
from classifier.serving.instance import Instance
from classifier.serving.loader import Fallback, Loaded
from classifier.serving.pool import Pool
from classifier.settings import Settings
from classifier.storage.local import LocalStore
from tests.support.serving import MODEL, damage, publish

RIVALS = 16


def settings_for(store: Path | str, **changes: object) -> Settings:
    return dataclasses.replace(Settings(model_store=str(store), model_name=MODEL), **changes)


@pytest.fixture
def store(tmp_path: Path, tiny_bundle: Path) -> Path:
    publish(tmp_path / "store", tiny_bundle)
    return tmp_path / "store"


def together(work: Callable[[], Loaded]) -> list[Loaded | PointerError]:
    """Run the same work in many threads that start at the same moment."""
    barrier = threading.Barrier(RIVALS)

    def one() -> Loaded | PointerError:
        barrier.wait()
        try:
            return work()
        except PointerError as error:
            return error

    with ThreadPoolExecutor(RIVALS) as rivals:
        return [future.result() for future in [rivals.submit(one) for _ in range(RIVALS)]]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_making_a_server_reads_nothing(tmp_path: Path) -> None:
    server = Instance(settings_for(tmp_path / "no store"))
    assert server.loads == 0
    assert not (tmp_path / "no store").exists()


def test_many_first_requests_share_one_load(store: Path) -> None:
    server = Instance(settings_for(store))
    served = together(server.current)
    assert server.loads == 1
    assert {id(one) for one in served} == {id(server.current())}
    assert isinstance(served[0], Loaded)
    assert (served[0].pointer.version, served[0].channel) == ("v1", "production")


def test_many_first_requests_share_one_error_and_the_next_tries_again(tmp_path: Path, tiny_bundle: Path) -> None:
    server = Instance(settings_for(tmp_path / "store"))
    for error in together(server.current):
        assert isinstance(error, NotReady)
        assert "admin_cli publish RUN" in str(error) and "admin_cli promote v1" in str(error)
    publish(tmp_path / "store", tiny_bundle)
    assert server.current().pointer.version == "v1"


def test_a_published_version_is_not_served_before_it_is_promoted(tmp_path: Path, tiny_bundle: Path) -> None:
    publish(tmp_path / "store", tiny_bundle, promote=False)
    with pytest.raises(NotReady):
        Instance(settings_for(tmp_path / "store")).current()


def test_a_damaged_model_file_is_named_with_both_hashes(store: Path) -> None:
    file = damage(store)
    expected = json.loads(file.with_name("manifest.json").read_bytes())["files"]["model.tflite"]["sha256"]
    server = Instance(settings_for(store))
    with pytest.raises(Corrupt) as caught:
        server.current()
    assert "v1" in str(caught.value) and "model.tflite" in str(caught.value)
    assert expected in str(caught.value)
    assert server.loads == 0


def test_a_manifest_that_is_not_the_promoted_one_is_refused(store: Path) -> None:
    file = store / MODEL / "versions/v1/manifest.json"
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(Corrupt, match=r"manifest\.json of v1 .* [0-9a-f]{64}, .* found [0-9a-f]{64}"):
        Instance(settings_for(store)).current()


@pytest.mark.parametrize("name", ["manifest.json", "model.tflite"])
def test_a_missing_file_is_damage_not_a_wrong_request(store: Path, name: str) -> None:
    (store / MODEL / "versions/v1" / name).unlink()
    with pytest.raises(Corrupt, match="v1"):
        Instance(settings_for(store)).current()


def test_a_model_that_does_not_fit_its_manifest_is_refused(tmp_path: Path, store: Path) -> None:
    bundle = tmp_path / "bundle"
    published = store / MODEL / "versions/v1"
    manifest = Manifest.from_json((published / "manifest.json").read_bytes())
    (bundle / "golden").mkdir(parents=True)
    for name in manifest.files:
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_bytes((published / name).read_bytes())
    more = dataclasses.replace(
        manifest, version=None, model=None, created_by=None, labels=(*manifest.labels, "extra"), golden=()
    )
    (bundle / "manifest.json").write_bytes(more.to_json())
    registry = Registry(LocalStore(store), MODEL)
    registry.publish(bundle, who="tester", replay=lambda *_: None)
    registry.promote("v2", who="tester", reason="a model of another kind", replay=lambda *_: None)
    loaded = Instance(settings_for(store)).current()
    assert (loaded.pointer.version, loaded.fallback) == ("v1", Fallback("v2", "unloadable"))


def test_what_serves_is_told_without_loading_it(store: Path) -> None:
    server = Instance(settings_for(store))
    assert server.chosen().manifest.version == "v1"
    assert server.loads == 0


def test_an_exhausted_pool_turns_away_after_a_bounded_wait(store: Path) -> None:
    loaded = Instance(settings_for(store, interpreters=1, wait=0.05)).current()
    with loaded.pool.model():
        started = time.monotonic()
        with pytest.raises(Overloaded) as caught, loaded.pool.model():
            pytest.fail("two callers have the same interpreter")
        assert time.monotonic() - started < 2
    assert caught.value.retry_after == 1
    with loaded.pool.model() as model:
        assert model.classes == loaded.pool.classes


def test_interpreters_are_built_when_they_are_needed_and_used_again(store: Path) -> None:
    pool = Instance(settings_for(store, interpreters=2)).current().pool
    with pool.model() as first:
        pass
    with pool.model() as again:
        assert again is first
        assert pool.built == 1
        with pool.model() as second:
            assert second is not first
    assert pool.built == 2


def test_a_pool_under_load_gives_each_caller_its_own_answer(store: Path) -> None:
    pool = Instance(settings_for(store, interpreters=2)).current().pool
    images = [np.full((pool.height, pool.width, 3), 15 * i, np.uint8) for i in range(RIVALS)]

    def classify(image: np.ndarray) -> np.ndarray:
        with pool.model() as model:
            return model.run(image).probabilities

    alone = [classify(image) for image in images]
    with ThreadPoolExecutor(RIVALS) as callers:
        for expected, found in zip(alone, callers.map(classify, images), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)
    assert pool.built <= 2


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(Corrupt):
        Pool(b"not a flatbuffer" * 100, size=1, threads=1, wait=1)


def test_a_promotion_reaches_a_running_server_which_frees_the_old_one(store: Path, tiny_bundle: Path) -> None:
    server = Instance(settings_for(store, pointer_ttl=0.05))
    old = server.current()
    publish(store, tiny_bundle)
    assert until(lambda: server.current().pointer.version == "v2")
    with old.pool.model() as model:
        assert model.classes == len(old.manifest.labels)
    assert server.loads == 2
    freed = weakref.ref(old.pool)
    gc.disable()  # memory of this size must not wait for a collection
    try:
        del old, model
        assert until(lambda: freed() is None)
    finally:
        gc.enable()


def test_no_third_model_is_loaded_while_two_are_held(store: Path, tiny_bundle: Path) -> None:
    server = Instance(settings_for(store, pointer_ttl=0.02))
    with server.current().pool.model():
        publish(store, tiny_bundle)
        assert until(lambda: server.current().pointer.version == "v2")
        publish(store, tiny_bundle)
        assert not until(lambda: server.current().pointer.version == "v3", seconds=0.3)
        assert server.loads == 2
    assert until(lambda: server.current().pointer.version == "v3")


def test_a_swap_builds_as_many_interpreters_as_requests_had_built(store: Path, tiny_bundle: Path) -> None:
    server = Instance(settings_for(store, pointer_ttl=0.05, interpreters=3))
    old = server.current().pool
    with old.model(), old.model():
        publish(store, tiny_bundle)
        assert until(lambda: server.current().pointer.version == "v2")
    assert (old.built, server.current().pool.built) == (2, 2)


def test_the_pointer_is_not_read_before_its_time(store: Path, tiny_bundle: Path) -> None:
    server = Instance(settings_for(store, pointer_ttl=60.0))
    server.current()
    publish(store, tiny_bundle)
    assert not until(lambda: server.current().pointer.version == "v2", seconds=0.3)


def test_a_pointer_that_has_not_moved_loads_nothing(store: Path) -> None:
    server = Instance(settings_for(store, pointer_ttl=0.01))
    first = server.current()
    pointer = f"{MODEL}/channels.json"
    LocalStore(store).write(pointer, LocalStore(store).read(pointer).data)  # of another generation
    assert not until(lambda: server.current() is not first, seconds=0.3)
    assert server.loads == 1


@pytest.mark.parametrize(("ttl", "times"), [(3600.0, 1), (0.0, 10)])
def test_an_instance_that_has_loaded_nothing_reads_once_in_pointer_ttl_too(
    store: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, ttl: float, times: int
) -> None:
    reads: list[str] = []
    read = LocalStore.read

    def counted(self: LocalStore, name: str) -> object:
        reads.append(name.rpartition("/")[2])
        return read(self, name)

    monkeypatch.setattr(LocalStore, "read", counted)
    server = Instance(settings_for(store, pointer_ttl=ttl))
    for _ in range(10):
        assert server.chosen().pointer.version == "v1"
    assert reads == ["channels.json", "manifest.json"] * times
    reads.clear()
    for _ in range(10):
        assert server.with_file().content == (tiny_bundle / "model.tflite").read_bytes()
        assert server.chosen().pointer.version == "v1"
    assert reads.count("channels.json") == (0 if times == 1 else 20) and reads.count("model.tflite") == 1
    publish(store, tiny_bundle)
    assert server.chosen().pointer.version == ("v1" if times == 1 else "v2")
    assert server.loads == 0
