"""A registry over each store, a bundle of plain bytes to publish, and short ways to change what serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from classifier.registry.channels import HistoryEntry
from classifier.registry.manifest import Manifest
from classifier.registry.rules import Registry
from classifier.storage.local import LocalStore
from classifier.storage.protocol import ObjectStore
from tests.support.bundles import replay_bytes, write_bundle


@pytest.fixture(name="registry")
def registry_fixture(store: ObjectStore) -> Registry:
    return Registry(store, "food")


@pytest.fixture(name="local")
def local_fixture(local_store: LocalStore) -> Registry:
    return Registry(local_store, "food")


@pytest.fixture(name="bundle")
def bundle_fixture(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def publish(registry: Registry, bundle: Path, times: int = 1) -> Manifest:
    for _ in range(times):
        manifest = registry.publish(bundle, who="kim", replay=replay_bytes)
    return manifest


def promote(registry: Registry, version: str, **options: Any) -> HistoryEntry:
    entry = registry.promote(version, **{"who": "kim", "reason": "", "replay": replay_bytes, **options})
    assert entry is not None, f"{version} serves already"
    return entry


def rollback(registry: Registry, **options: Any) -> HistoryEntry:
    return registry.rollback(**{"who": "kim", "reason": "", "replay": replay_bytes, **options})


def serving(registry: Registry) -> str | None:
    production = registry.channels().production
    return production.version if production else None


def names(store: ObjectStore) -> list[str]:
    return [item.name for item in store.list()]
