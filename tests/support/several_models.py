"""A store with several models."""

from __future__ import annotations

from pathlib import Path

import pytest

from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.local import LocalStore


@pytest.fixture(name="store")
def several_models_fixture(tmp_path: Path, tiny_bundle: Path, confused_bundle: Path) -> Path:
    """Three models: "food" is right, "dogs" takes green for blue, "empty" has nothing in production."""
    store = LocalStore(tmp_path / "store")
    for name, bundle in (("food", tiny_bundle), ("dogs", confused_bundle), ("empty", tiny_bundle)):
        registry = Registry(store, name)
        registry.publish(bundle, who="tester", replay=golden.replay)
        if name != "empty":
            registry.promote("v1", who="tester", reason="", replay=golden.replay)
    return tmp_path / "store"
