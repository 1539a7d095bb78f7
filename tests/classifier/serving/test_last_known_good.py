"""A version that cannot be served: what serves in its place, how that is told, and when it is tried again."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifier.endpoints.app import create_app
from classifier.errors import Corrupt, Unavailable
from classifier.registry.bundle import entry_of
from classifier.registry.manifest import Manifest
from classifier.registry.rules import Registry
from classifier.serving import backoffs, golden, shared_load
from classifier.serving.instance import Instance
from classifier.serving.loader import Fallback
from classifier.settings import Settings
from classifier.storage.local import LocalStore
from tests.support.commands import process
from tests.support.serving import MODEL, damage, photo_bytes, publish, serve

PHOTO = photo_bytes()
REASONS = ["missing", "corrupt", "unloadable"]


@pytest.fixture
def store(tmp_path: Path, tiny_bundle: Path) -> Path:
    publish(tmp_path / "store", tiny_bundle)
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def short_backoffs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoffs, "SHORTEST", 0.05)
    monkeypatch.setattr(backoffs, "LONGEST", 0.2)


def server_of(store: Path, **changes: Any) -> Instance:
    return Instance(
        dataclasses.replace(Settings(model_store=str(store), model_name=MODEL, pointer_ttl=0.02), **changes)
    )


def rollback(store: Path) -> None:
    Registry(LocalStore(store), MODEL).rollback(who="tester", reason="test", replay=golden.replay)


def promote_unloadable(store: Path, bundle: Path) -> str:
    """Publish and promote a version whose files are as promised, and are no model."""
    broken = bundle.with_name("broken")
    shutil.copytree(bundle, broken)
    content = b"no model" * 100
    (broken / "model.tflite").write_bytes(content)
    manifest = Manifest.from_json((broken / "manifest.json").read_bytes())
    files = {**manifest.files, "model.tflite": entry_of(content)}
    (broken / "manifest.json").write_bytes(dataclasses.replace(manifest, files=files).to_json())
    registry = Registry(LocalStore(store), MODEL)
    version = registry.publish(broken, who="tester", replay=lambda *_: None).version
    assert version
    registry.promote(version, who="tester", reason="test", replay=lambda *_: None)
    return version


def promote_bad(store: Path, bundle: Path, reason: str) -> None:
    """Promote v2 and make it what the reason says."""
    if reason == "unloadable":
        promote_unloadable(store, bundle)
        return
    publish(store, bundle)
    if reason == "missing":
        (store / MODEL / "versions/v2/model.tflite").rename(store / "taken away")
    else:
        damage(store, "v2")


def until(condition: Callable[[], bool], what: str = "it does not come") -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# Which version serves


@pytest.mark.parametrize("reason", REASONS)
def test_a_warm_instance_goes_on_with_what_it_has(store: Path, tiny_bundle: Path, reason: str) -> None:
    running = server_of(store)
    first = running.current()
    promote_bad(store, tiny_bundle, reason)
    until(lambda: running.current().fallback == Fallback("v2", reason))  # type: ignore[arg-type]
    assert running.current().pool is first.pool
    assert running.chosen().pointer.version == "v1"
    assert running.loads == 1


@pytest.mark.parametrize("reason", REASONS)
def test_a_cold_instance_serves_the_version_before(store: Path, tiny_bundle: Path, reason: str) -> None:
    promote_bad(store, tiny_bundle, reason)
    loaded = server_of(store).current()
    assert (loaded.pointer.version, loaded.fallback) == ("v1", Fallback("v2", reason))  # type: ignore[arg-type]
    with loaded.pool.model() as model:
        assert model.classes == len(loaded.manifest.labels)


def test_a_cold_instance_goes_down_the_stack_until_one_loads(store: Path, tiny_bundle: Path) -> None:
    for _ in range(4):
        publish(store, tiny_bundle)
    rollback(store)  # v5 was rolled back: it is not to come to serve again
    damage(store, "v4")
    shutil.rmtree(store / MODEL / "versions/v3")
    loaded = server_of(store).current()
    assert (loaded.pointer.version, loaded.fallback) == ("v2", Fallback("v4", "corrupt"))


def test_where_none_can_be_served_the_error_is_that_of_the_pointed_one(store: Path, tiny_bundle: Path) -> None:
    publish(store, tiny_bundle)
    damage(store, "v1")
    damage(store, "v2")
    for _ in range(2):
        with pytest.raises(Corrupt, match=r"v2 of food is damaged"):
            server_of(store).current()


def test_a_version_before_is_compared_with_what_was_promoted_then(store: Path, tiny_bundle: Path) -> None:
    publish(store, tiny_bundle)
    damage(store, "v2")
    manifest = store / MODEL / "versions/v1/manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    with pytest.raises(Corrupt, match="v2"):
        server_of(store).current()


def test_a_history_of_an_older_release_does_as_well(store: Path, tiny_bundle: Path) -> None:
    publish(store, tiny_bundle)
    damage(store, "v2")
    file = store / MODEL / "channels.json"
    document = json.loads(file.read_bytes())
    for entry in document["history"]:
        assert entry.pop("manifest_sha256")
    file.write_text(json.dumps(document))
    running = server_of(store)
    assert running.current().pointer.version == "v1"
    rollback(store)
    until(lambda: running.current().fallback is None, "v1 was rolled back to and is still said to be a fallback")
    assert running.loads == 1


def test_who_asks_for_productions_own_model_gets_no_other(store: Path, tiny_bundle: Path) -> None:
    publish(store, tiny_bundle)
    damage(store, "v2")
    settings = Settings(model_store=str(store), model_name=MODEL)
    with pytest.raises(Corrupt, match="v2"):
        Instance(settings, fall_back=False).current()


def test_the_model_is_told_from_manifests_alone(store: Path, tiny_bundle: Path) -> None:
    publish(store, tiny_bundle)
    (store / MODEL / "versions/v2/manifest.json").unlink()
    running = server_of(store)
    chosen = running.chosen()
    assert (chosen.pointer.version, chosen.fallback) == ("v1", Fallback("v2", "missing"))
    assert running.loads == 0


# When it is tried again


@pytest.mark.parametrize("warm", [True, False])
def test_a_version_that_is_mended_comes_to_serve(store: Path, tiny_bundle: Path, warm: bool) -> None:
    running = server_of(store)
    if warm:
        running.current()
    publish(store, tiny_bundle)
    file = damage(store, "v2")
    until(lambda: running.current().fallback == Fallback("v2", "corrupt"))
    file.write_bytes((tiny_bundle / "model.tflite").read_bytes())
    until(lambda: running.current().pointer.version == "v2")
    assert running.current().fallback is None


def test_a_version_that_cannot_be_served_is_tried_less_and_less(
    store: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = server_of(store)
    running.current()
    publish(store, tiny_bundle)
    damage(store, "v2")
    tried: list[dict[str, Any]] = []

    def tried_five_times() -> bool:
        running.current()
        tried.extend(line for line in lines(capsys) if "cannot be served" in line["message"])
        return len(tried) >= 5

    until(tried_five_times)
    assert [line["tries"] for line in tried[:5]] == [1, 2, 3, 4, 5]
    backoffs = [float(re.findall(r"after ([\d.]+) s", line["message"])[0]) for line in tried[:5]]
    assert backoffs == [0.05, 0.1, 0.2, 0.2, 0.2]
    assert {(line["severity"], line["version"], line["reason"]) for line in tried} == {("ERROR", "v2", "corrupt")}
    assert "model.tflite" in tried[0]["error"] and "Traceback" in tried[0]["stack_trace"]


def test_nothing_is_read_again_while_nothing_can_be_served(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backoffs, "SHORTEST", 60.0)
    damage(store, "v1")
    running = server_of(store)
    for _ in range(3):
        with pytest.raises(Corrupt, match="v1"):
            running.current()
    assert [line["tries"] for line in lines(capsys)] == [1]


@pytest.mark.parametrize("change", ["promote", "rollback", "promote back"])
def test_a_change_of_the_pointer_is_followed_at_once(
    store: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(backoffs, "SHORTEST", 3600.0)
    running = server_of(store)
    running.current()
    publish(store, tiny_bundle)
    file = damage(store, "v2")
    until(lambda: running.current().fallback is not None)
    if change == "promote":
        publish(store, tiny_bundle)
    elif change == "rollback":
        rollback(store)
    else:
        file.write_bytes((tiny_bundle / "model.tflite").read_bytes())
        for version in ("v1", "v2"):
            Registry(LocalStore(store), MODEL).promote(version, who="tester", reason="mended", replay=golden.replay)
    expected = {"promote": "v3", "rollback": "v1", "promote back": "v2"}[change]
    until(lambda: running.current().fallback is None)
    assert running.current().pointer.version == expected
    assert running.loads == (1 if change == "rollback" else 2)


def test_a_first_load_that_takes_too_long_goes_on_without_its_callers(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pointer is a pipe: it hangs until somebody writes into it."""
    monkeypatch.setattr(shared_load, "FIRST_LOAD_WITHIN", 0.3)
    file = store / MODEL / "channels.json"
    pointer = file.read_bytes()
    file.unlink()
    os.mkfifo(file)
    running = server_of(store, pointer_ttl=3600.0)
    for _ in range(2):
        with pytest.raises(Unavailable, match="goes on"):
            running.current()
    assert [thread.name for thread in threading.enumerate()].count("load") == 1
    file.write_bytes(pointer)
    until(lambda: not any(thread.name == "load" for thread in threading.enumerate()))
    assert running.current().pointer.version == "v1"
    assert running.loads == 1


# How it is told


@pytest.mark.parametrize("warm", [True, False])
def test_a_fallback_is_told_in_every_reply(store: Path, tiny_bundle: Path, warm: bool) -> None:
    running = server_of(store)
    client = create_app(running.settings, running).test_client()

    def send(query: str = "", **headers: str) -> Any:
        return client.post(f"/{query}", data=PHOTO, content_type="image/jpeg", headers=headers)

    if warm:
        reply = send()
        assert "X-Pointer-Fallback" not in reply.headers and "fallback" not in reply.get_json()["model"]
    publish(store, tiny_bundle)
    damage(store, "v2")
    send()
    until(lambda: running.current().fallback is not None)
    told = {"pointed": "v2", "reason": "corrupt"}
    replies = [send(), client.get("/model"), send("?gradcam=1", Accept="image/*")]
    assert replies[0].get_json()["model"] == {
        "name": MODEL, "version": "v1", "channel": "production", "task": "single-label", "fallback": told
    }  # fmt: skip
    assert (replies[1].get_json()["version"], replies[1].get_json()["fallback"]) == ("v1", told)
    assert replies[2].headers["X-Pointer-Version"] == "v1"
    assert {reply.headers["X-Pointer-Fallback"] for reply in replies} == {"v2;reason=corrupt"}
    assert str(store) not in "".join(reply.text for reply in replies[:2])


def test_a_real_function_falls_back_says_so_and_recovers(tmp_path: Path, store: Path, tiny_bundle: Path) -> None:
    publish(store, tiny_bundle)
    file = damage(store, "v2")
    with serve(store, tmp_path / "server", POINTER_TTL="0.1") as serving:
        reply = serving.post(files={"image": PHOTO}, headers={"X-Request-Id": "first"})
        assert reply.json()["model"]["fallback"] == {"pointed": "v2", "reason": "corrupt"}
        assert reply.headers["X-Pointer-Fallback"] == "v2;reason=corrupt"
        assert serving.get("/model").json()["fallback"] == {"pointed": "v2", "reason": "corrupt"}
        (tmp_path / "photo.jpg").write_bytes(PHOTO)
        printed = process("predict", tmp_path / "photo.jpg", "--url", serving.url).well()
        assert "it serves in place of v2, which is corrupt" in printed
        said = [json.loads(line) for line in serving.log.read_text().splitlines() if line[:1] == "{"]
        assert [(line["severity"], line["message"][:19]) for line in said[:4]] == [
            ("ERROR", "v2 cannot be served"),
            ("INFO", "Loaded v1."),
            ("WARNING", "v1 serves in place "),
            ("INFO", "Predicted."),
        ]
        assert said[3]["fallback_for"] == "v2"
        file.write_bytes((tiny_bundle / "model.tflite").read_bytes())
        until(lambda: "fallback" not in serving.post(files={"image": PHOTO}).json()["model"])
        assert serving.get("/model").json()["version"] == "v2"
