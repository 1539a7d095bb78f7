"""Changes of a registry whose answers get lost: what happened is not repeated, what did not is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from classifier.errors import PointerError, PreconditionFailed, Unavailable
from classifier.registry.channels import Channels
from classifier.registry.rules import Registry
from classifier.storage.local import LocalStore
from classifier.storage.protocol import Content, ObjectStore, StoredObject
from tests.support.bundles import replay_bytes
from tests.support.registries import bundle_fixture, promote, publish, rollback, serving  # noqa: F401  # fixture


class UnreliableStore:
    """A real store behind a bad line: chosen writes happen, but their answer is lost or comes as a refusal.

    A client that repeats a write whose answer got lost is told that the precondition failed.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.url = store.url
        self.lose: Callable[[str], bool] = lambda name: False
        self.error: PointerError = Unavailable("the answer got lost")
        self.happens = True

    def read(self, name: str) -> Content:
        return self.store.read(name)

    def read_if_changed(self, name: str, generation: int) -> Content | None:
        return self.store.read_if_changed(name, generation)

    def write(self, name: str, data: bytes | Path, **options: Any) -> int:
        if not self.lose(name):
            return self.store.write(name, data, **options)
        if self.happens:
            self.store.write(name, data, **options)
        raise self.error

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        return self.store.list(prefix)

    def folders(self, prefix: str = "") -> Iterator[str]:
        return self.store.folders(prefix)

    def download(self, name: str, file: BinaryIO) -> int:
        return self.store.download(name, file)


class TestLostAnswers:
    @pytest.fixture(params=[Unavailable("lost"), PreconditionFailed("repeated")], ids=["lost", "repeated"])
    def unreliable(self, request: pytest.FixtureRequest, local_store: LocalStore) -> UnreliableStore:
        store = UnreliableStore(local_store)
        store.error = request.param
        return store

    def test_a_publication_goes_on(self, unreliable: UnreliableStore, bundle: Path) -> None:
        registry = Registry(unreliable, "food")
        unreliable.lose = lambda name: True
        assert publish(registry, bundle).version == "v1"
        assert [each.version for each in registry.versions(include_incomplete=True)] == ["v1"]
        registry.verify("v1", replay=replay_bytes)

    def test_a_change_that_happened_is_not_repeated(self, unreliable: UnreliableStore, bundle: Path) -> None:
        registry = Registry(unreliable, "food")
        publish(registry, bundle, 2)
        unreliable.lose = lambda name: name.endswith("channels.json")
        first = promote(registry, "v1")
        second = promote(registry, "v2")
        third = rollback(registry)
        assert registry.channels().history == (first, second, third)
        assert serving(registry) == "v1"

    def test_a_change_that_did_not_happen_is_reported(self, local_store: LocalStore, bundle: Path) -> None:
        store = UnreliableStore(local_store)
        registry = Registry(store, "food")
        publish(registry, bundle)
        store.lose, store.happens = (lambda name: True), False
        with pytest.raises(Unavailable, match="not certain whether v1 serves now"):
            promote(registry, "v1")
        with pytest.raises(Unavailable):
            publish(registry, bundle)
        assert registry.channels() == Channels()
        assert [each.version for each in registry.versions(include_incomplete=True)] == ["v1"]
