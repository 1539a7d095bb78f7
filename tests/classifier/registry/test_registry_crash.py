"""A publisher or promoter killed at any moment leaves a store that reads as before or as after, never between."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from classifier.registry.rules import Registry
from classifier.storage.local import LocalStore
from tests.support.bundles import replay_bytes, write_bundle
from tests.support.killpoints import kill_everywhere

FILES = {"model.tflite": b"a model", "golden/0.png": b"dog"}
WRITES_OF_A_PUBLICATION = len(FILES) + 2
STEPS_OF_A_WRITE = 10
"""At least: create, fill, sync, lock, stamp, open and sync, rename, unlock, open and sync the folder."""


def publish_program() -> None:
    """The program that is killed: STORE BUNDLE."""
    store, bundle = map(Path, sys.argv[1:])
    Registry(LocalStore(store), "food").publish(bundle, who="kim", replay=replay_bytes)


def promote_program() -> None:
    """The program that is killed: STORE VERSION."""
    registry = Registry(LocalStore(Path(sys.argv[1])), "food")
    registry.promote(sys.argv[2], who="kim", reason="", replay=replay_bytes)


def rollback_program() -> None:
    """The program that is killed: STORE."""
    Registry(LocalStore(Path(sys.argv[1])), "food").rollback(who="kim", reason="", replay=replay_bytes)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", FILES)


def make_store(folder: Path, bundle: Path, *, versions: int, promoted: int) -> Path:
    """A store with that many versions, of which the first so many were promoted, one after the other."""
    folder.mkdir()
    registry = open_registry(folder)
    for _ in range(versions):
        registry.publish(bundle, who="kim", replay=replay_bytes)
    for number in range(1, promoted + 1):
        registry.promote(f"v{number}", who="kim", reason="", replay=replay_bytes)
    return folder


def open_registry(folder: Path) -> Registry:
    return Registry(LocalStore(folder), "food")


def published(registry: Registry) -> list[str]:
    """Return the versions that are listed, each of which has to be whole."""
    versions = registry.versions()
    for summary in versions:
        assert (summary.complete, summary.problem) == (True, None)
        registry.verify(summary.version, replay=replay_bytes)
    return [summary.version for summary in versions]


def production(registry: Registry) -> list[str]:
    """Return the versions that served, of which the last still has to, whole and as the history says."""
    channels = registry.channels()
    served = [entry.to_version for entry in channels.history]
    assert [entry.from_version for entry in channels.history] == [None, *served][: len(served)]
    assert (channels.production.version if channels.production else None) == (served[-1] if served else None)
    if channels.production:
        assert registry.manifest(served[-1])[1] == channels.production.manifest_sha256
        registry.verify(served[-1], replay=replay_bytes)
    return served


def expect_it_goes_on(registry: Registry, bundle: Path) -> None:
    """The next publication and promotion work, whatever was left behind."""
    before = published(registry)
    version = str(registry.publish(bundle, who="lee", replay=replay_bytes).version)
    assert published(registry) == [*before, version]
    registry.promote(version, who="lee", reason="", replay=replay_bytes)
    assert production(registry)[-1] == version


@pytest.mark.parametrize("versions", [0, 1])
@pytest.mark.long
def test_publish_killed_at_every_step(tmp_path: Path, bundle: Path, versions: int) -> None:
    template = make_store(tmp_path / "template", bundle, versions=versions, promoted=versions)
    before = [f"v{number}" for number in range(1, versions + 1)]
    after = [*before, f"v{versions + 1}"]

    stores = kill_everywhere(f"{__name__}:publish_program", template, tmp_path / "stores", "{store}", str(bundle))

    assert len(stores) > STEPS_OF_A_WRITE * WRITES_OF_A_PUBLICATION
    seen = []
    for store in stores:
        registry = open_registry(store)
        seen.append(published(registry))
        assert production(registry) == before
        everything = registry.versions(include_incomplete=True)
        assert [summary.version for summary in everything if summary.complete] == seen[-1]
        expect_it_goes_on(registry, bundle)
    # First the runs that were killed too early, then those that were killed after the last write.
    assert seen == [before] * seen.count(before) + [after] * seen.count(after)
    assert seen.count(before) > STEPS_OF_A_WRITE * (WRITES_OF_A_PUBLICATION - 1)
    assert seen.count(after) > 1


@pytest.mark.parametrize("promoted", [0, 1])
def test_promote_killed_at_every_step(tmp_path: Path, bundle: Path, promoted: int) -> None:
    template = make_store(tmp_path / "template", bundle, versions=2, promoted=promoted)
    before = ["v1"] * promoted

    stores = kill_everywhere(f"{__name__}:promote_program", template, tmp_path / "stores", "{store}", "v2")

    expect_before_or_after(stores, bundle, before, [*before, "v2"])


def test_rollback_killed_at_every_step(tmp_path: Path, bundle: Path) -> None:
    template = make_store(tmp_path / "template", bundle, versions=2, promoted=2)

    stores = kill_everywhere(f"{__name__}:rollback_program", template, tmp_path / "stores", "{store}")

    expect_before_or_after(stores, bundle, ["v1", "v2"], ["v1", "v2", "v1"])


def expect_before_or_after(stores: list[Path], bundle: Path, before: list[str], after: list[str]) -> None:
    assert len(stores) > STEPS_OF_A_WRITE
    seen = []
    for store in stores:
        registry = open_registry(store)
        assert published(registry) == ["v1", "v2"]
        seen.append(production(registry))
        expect_it_goes_on(registry, bundle)
    assert seen == [before] * seen.count(before) + [after] * seen.count(after)
    assert seen.count(before) > 1
    assert seen.count(after) > 1
