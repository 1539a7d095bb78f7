"""The canary of an instance: who is answered by it, what it does to the cache and the file, and when it is given up."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from classifier.errors import Unavailable
from classifier.registry.channels import Canary
from classifier.registry.rules import Registry
from classifier.serving import beside as lane
from classifier.serving import golden
from classifier.serving.assignment import gets_canary
from classifier.serving.instance import Instance
from classifier.storage.local import LocalStore
from tests.support.app_client import client_for, settings_for
from tests.support.bundles import colour_photo
from tests.support.serving import MODEL, damage, publish

GREEN = colour_photo("green")
ROOM = 1 << 20
"""MiB: the process of these tests has other things in its memory."""


@pytest.fixture(name="store")
def store_fixture(tmp_path: Path, tiny_bundle: Path, confused_bundle: Path) -> Path:
    """v1 serves and is right; v2, half of the callers' canary, takes green for blue."""
    store = tmp_path / "store"
    publish(store, tiny_bundle)
    publish(store, confused_bundle, promote=False)
    registry(store).start_canary("v2", 50, who="tester", reason="", replay=golden.replay)
    return store


def registry(store: Path) -> Registry:
    return Registry(LocalStore(store), MODEL)


def callers(store: Path) -> tuple[str, str]:
    """One who gets the canary, and one who does not."""
    canary = registry(store).channels().canary
    addresses = [f"10.0.0.{number}" for number in range(1, 200)]
    return tuple(
        next(each for each in addresses if gets_canary(canary, f"address/{each}") == wanted) for wanted in (True, False)
    )


def client(store: Path, instance: Instance | None = None, **changes):
    return client_for(store, instance, trusted_proxies=1, pointer_ttl=0.0, function_memory=ROOM, **changes)


def ask(client, address: str, method: str = "POST", path: str = "/", **options):
    if method == "POST":
        options = {"data": GREEN, "content_type": "image/png", **options}
    return client.open(path, method=method, headers={"X-Forwarded-For": address}, **options)


def told(reply) -> tuple[str, str, str]:
    body = reply.get_json()
    return body["label"], body["model"]["version"], body["model"]["channel"]


def settle(client, address: str) -> None:
    """Let the instance load, and look at the pointer more than once."""
    for _ in range(30):
        ask(client, address)
        time.sleep(0.02)


def test_callers_are_answered_by_the_version_that_they_get(store: Path) -> None:
    chosen, other = callers(store)
    app = client(store)
    settle(app, other)
    assert told(ask(app, chosen)) == ("blue", "v2", "canary")
    assert told(ask(app, other)) == ("green", "v1", "production")
    for address, version in ((chosen, "v2"), (other, "v1")):
        model = ask(app, address, "GET", "/model").get_json()
        assert (model["version"], model["channel"]) == (version, "canary" if version == "v2" else "production")
        file = ask(app, address, "GET", "/model/file")
        assert file.headers["X-Pointer-Version"] == version
        assert file.headers["ETag"].strip('"') == model["file"]["sha256"]


def test_the_result_cache_keeps_versions_apart(store: Path) -> None:
    chosen, other = callers(store)
    app = client(store, result_cache_bytes=1 << 20)
    settle(app, other)
    for _ in range(2):
        assert told(ask(app, chosen))[0] == "blue"
        assert told(ask(app, other))[0] == "green"
    assert "hit" in ask(app, chosen).headers["Cache-Status"]


def test_a_cold_instance_gives_devices_the_file_of_their_version_and_loads_nothing(store: Path) -> None:
    chosen, other = callers(store)
    instance = Instance(settings_for(store, trusted_proxies=1, function_memory=ROOM))
    app = client_for(store, instance)
    for address, version in ((chosen, "v2"), (other, "v1"), (chosen, "v2"), (other, "v1")):
        assert ask(app, address, "GET", "/model").get_json()["version"] == version
        assert ask(app, address, "GET", "/model/file").headers["X-Pointer-Version"] == version
    assert instance.loads == 0


def test_an_aborted_canary_goes_and_a_promoted_one_serves_without_being_loaded_again(store: Path) -> None:
    chosen, other = callers(store)
    instance = Instance(settings_for(store, trusted_proxies=1, pointer_ttl=0.0, function_memory=ROOM))
    app = client_for(store, instance)
    settle(app, other)
    assert (told(ask(app, chosen))[1], instance.loads) == ("v2", 2)
    registry(store).abort_canary(who="tester", reason="")
    settle(app, other)
    assert told(ask(app, chosen)) == ("green", "v1", "production")
    registry(store).start_canary("v2", 50, who="tester", reason="", replay=golden.replay)
    settle(app, other)
    loads = instance.loads
    registry(store).promote("v2", who="tester", reason="", replay=golden.replay)
    settle(app, other)
    assert told(ask(app, other)) == ("blue", "v2", "production")
    assert told(ask(app, chosen)) == ("blue", "v2", "production")
    assert instance.loads == loads == 3


def test_a_canary_that_cannot_be_loaded_is_reported_and_production_serves(store: Path) -> None:
    chosen, other = callers(store)
    damage(store, "v2")
    instance = Instance(settings_for(store, trusted_proxies=1, pointer_ttl=0.0, function_memory=ROOM))
    app = client_for(store, instance)
    settle(app, other)
    assert told(ask(app, chosen)) == ("green", "v1", "production")
    assert instance.canary.problem == ("v2", "corrupt")
    assert (
        ask(
            client_for(store, Instance(settings_for(store, trusted_proxies=1, function_memory=ROOM))),
            chosen,
            "GET",
            "/model/file",
        ).headers["X-Pointer-Version"]
        == "v1"
    )
    registry(store).abort_canary(who="tester", reason="")
    settle(app, other)
    assert instance.canary.problem is None


def test_a_canary_for_which_there_is_no_memory_is_not_loaded(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, other = callers(store)
    monkeypatch.setattr(lane, "memory_needed", lambda manifest, interpreters: 1 << 50)
    instance = Instance(settings_for(store, trusted_proxies=1, pointer_ttl=0.0, function_memory=ROOM))
    app = client_for(store, instance)
    settle(app, other)
    assert told(ask(app, chosen)) == ("green", "v1", "production")
    assert instance.canary.problem == ("v2", "memory")
    assert instance.loads == 1


def test_a_store_that_fails_keeps_both_serving(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, other = callers(store)
    app = client(store)
    settle(app, other)

    def fail(*_: object, **__: object) -> None:
        raise Unavailable("gone")

    monkeypatch.setattr(LocalStore, "read_if_changed", fail)
    settle(app, other)
    assert told(ask(app, chosen))[1] == "v2"
    assert told(ask(app, other))[1] == "v1"


def test_memory_is_what_the_export_measured_or_what_the_file_lets_expect(store: Path) -> None:
    manifest = registry(store).manifest("v1")[0]
    size = manifest.files["model.tflite"].bytes
    assert lane.memory_needed(manifest, 1) == 4 * size
    object.__setattr__(manifest, "variants", {"float32": {"memory_bytes": size + 1000}})
    assert lane.memory_needed(manifest, 1) == size + 1000
    assert lane.memory_needed(manifest, 3) == size + 3000
    assert Canary("v2", "0" * 64).pointer.version == "v2"
