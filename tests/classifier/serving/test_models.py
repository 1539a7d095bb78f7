"""Several models in one instance: who makes room for whom, and that each is read once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from classifier.errors import NotReady, Unavailable
from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.serving import models as serving_models
from classifier.serving.models import Models
from classifier.settings import Settings
from classifier.storage.local import LocalStore
from tests.support.app_client import settings_for
from tests.support.several_models import several_models_fixture  # noqa: F401  # a fixture


def test_the_least_recently_used_makes_room_and_no_request_fails(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(LocalStore(store), "empty")
    registry.promote("v1", who="tester", reason="", replay=golden.replay)
    models = Models(settings_for(store, other_models=("dogs", "empty"), function_memory=1 << 20))
    loaded = lambda: {name for name in models.names if models.peek(name).instance.is_loaded}  # noqa: E731
    for name in ("food", "dogs"):
        models[name].instance.current()
    assert loaded() == {"food", "dogs"}
    models["food"]  # used after the dogs
    room = {"left": 1}

    def free(_: Settings) -> float:
        return 1e12 if len(loaded()) <= room["left"] else 0.0

    monkeypatch.setattr(serving_models, "free_memory", free)
    held = models.peek("dogs")
    models["empty"].instance.current()
    assert loaded() == {"food", "empty"}
    assert held.instance.current().manifest.labels  # whoever has it is answered
    room["left"] = -1  # never enough: it is loaded all the same
    models["dogs"].instance.current()
    assert loaded() == {"dogs"}
    assert models["dogs"].instance.loads == 1


def test_models_that_are_loaded_at_once_each_count(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is in memory yet when the next one asks for room."""
    models = Models(settings_for(store, other_models=("dogs", "empty")))
    monkeypatch.setattr(serving_models, "free_memory", lambda _: 100.0)
    let_go: list[str] = []
    monkeypatch.setattr(models, "_let_go_of_another", lambda name: let_go.append(name))
    for name, needed in (("food", 60), ("dogs", 60), ("empty", 30)):
        models._room_for(name)(needed)
    assert let_go == ["dogs", "empty"]


def test_models_are_read_at_once_and_each_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models(settings_for(store, other_models=("dogs", "empty")))
    let_go, began = threading.Event(), []
    read = LocalStore.read

    def slow(self: LocalStore, name: str):
        if name == "dogs/channels.json":
            began.append(name)
            assert let_go.wait(30)
        return read(self, name)

    monkeypatch.setattr(LocalStore, "read", slow)
    monkeypatch.setattr(serving_models, "TOLD_WITHIN", 0.3)
    for _ in range(5):
        found = models.all_chosen(models.names, "caller")
        assert found["food"].pointer.version == "v1"
        assert isinstance(found["dogs"], Unavailable) and isinstance(found["empty"], NotReady)
    assert began == ["dogs/channels.json"], "another thread waits for the same"
    let_go.set()
    monkeypatch.setattr(serving_models, "TOLD_WITHIN", 30.0)
    assert models.all_chosen(["dogs"])["dogs"].pointer.version == "v1"
