"""The result cache: what is answered again without the model, what never is, and that no swap is ever missed."""

from __future__ import annotations

import base64
import gc
import json
import shutil
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from classifier.endpoints.callable import create_call_app
from classifier.registry.manifest import Manifest
from classifier.registry.rules import Registry
from classifier.serving.instance import Instance
from classifier.serving.loader import Fallback
from classifier.serving.predictor import Predictor
from classifier.serving.query import Query
from classifier.storage.local import LocalStore
from tests.support.app_client import PHOTO, client_for, form, send, settings_for
from tests.support.bundles import colour_photo
from tests.support.serving import MODEL, Serving, photo_bytes, publish, serve

MIB = 2**20
OTHER_LABELS = {"blue": "sapphire", "green": "emerald", "grey": "slate", "red": "ruby"}
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture
def cached(published: Path) -> FlaskClient:
    """A client of an app of its own, with a result cache."""
    return client_for(published, result_cache_bytes=MIB)


def status(reply: TestResponse) -> str | None:
    assert reply.status_code == 200, reply.text
    return reply.headers.get("Cache-Status")


def body(reply: TestResponse) -> dict[str, Any]:
    found: dict[str, Any] = reply.get_json()
    assert found.pop("request_id") == reply.headers["X-Request-Id"]
    return found


STORED, HIT = "pointer;fwd=miss;stored", "pointer;hit"


# One photo


@pytest.mark.parametrize("query", ["", "?gradcam=1", "?gradcam=blue&gradcam_format=png", "?tta=1&top_k=2"])
def test_the_same_again_is_a_hit_and_the_same_bytes(cached: FlaskClient, query: str) -> None:
    first, second = send(cached, query), send(cached, query)
    assert (status(first), status(second)) == (STORED, HIT)
    assert body(first) == body(second)
    one, two = (reply.data.replace(reply.headers["X-Request-Id"].encode(), b"") for reply in (first, second))
    assert one == two
    assert second.headers["Server-Timing"] == "decode;dur=0.0, queue;dur=0.0, infer;dur=0.0, encode;dur=0.0"
    assert second.headers["Cache-Control"] == "no-store"


def test_an_overlay_by_itself_is_a_hit_of_the_same_result(cached: FlaskClient) -> None:
    as_json = send(cached, "?gradcam=1")
    reply = send(cached, "?gradcam=1", Accept="image/jpeg")
    assert (status(as_json), status(reply), reply.content_type) == (STORED, HIT, "image/jpeg")
    assert reply.headers["X-Pointer-Label"] == as_json.get_json()["label"]


def test_however_the_photo_comes_it_is_the_same(cached: FlaskClient) -> None:
    assert status(send(cached)) == STORED
    assert status(cached.post("/", **form(("image", PHOTO)))) == HIT
    assert status(cached.post("/api/", data=PHOTO, content_type="application/octet-stream")) == HIT


def test_whatever_makes_a_difference_is_another_result(cached: FlaskClient) -> None:
    queries = [
        "", "?top_k=2", "?tta=1", "?gradcam=1", "?gradcam=blue", "?gradcam=green", "?gradcam=1&gradcam_format=png",
        "?gradcam=1&gradcam_size=64", "?gradcam=1&gradcam_format=heatmap", "?gradcam=1&tta=1", "?tta=crops", "?tta=all",
    ]  # fmt: skip
    first = [send(cached, query) for query in queries]
    assert [status(reply) for reply in first] == [STORED] * len(queries)
    bodies = [body(reply) for reply in first]
    again = [send(cached, query) for query in reversed(queries)]
    assert [status(reply) for reply in again] == [HIT] * len(queries)
    assert [body(reply) for reply in reversed(again)] == bodies
    assert status(send(cached, photo=photo_bytes(color=(30, 170, 60)))) == STORED
    assert status(send(cached, photo=PHOTO + b"\0")) == STORED, "bytes count, not pixels"


def test_what_makes_no_difference_is_the_same_result(cached: FlaskClient) -> None:
    assert status(send(cached)) == STORED
    assert status(send(cached, "?top_k=5&tta=false&gradcam=0")) == HIT
    assert status(send(cached, "?gradcam=1&gradcam_format=heatmap")) == STORED
    assert status(send(cached, "?gradcam=TRUE&gradcam_format=heatmap&gradcam_size=64")) == HIT


def test_problems_are_not_kept(cached: FlaskClient) -> None:
    for _ in range(2):
        for reply in (send(cached, photo=b"bad"), send(cached, "?gradcam=nothing"), send(cached, "?top_k=0")):
            assert reply.status_code >= 400 and "Cache-Status" not in reply.headers


def test_it_can_be_turned_off(published: Path) -> None:
    client = client_for(published, result_cache_bytes=0)
    for _ in range(2):
        reply = send(client)
        assert status(reply) is None and "infer;dur=0.0," not in reply.headers["Server-Timing"]


def test_a_result_that_is_too_large_is_answered_and_not_kept(published: Path) -> None:
    client = client_for(published, result_cache_bytes=3000)
    assert [status(send(client, "?gradcam=1&gradcam_format=png")) for _ in range(2)] == ["pointer;fwd=miss"] * 2
    assert [status(send(client, "?top_k=1")) for _ in range(2)] == [STORED, HIT]


def test_the_log_tells_a_hit(cached: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        send(cached)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    seen = [(line["cached"], line["infer_ms"] > 0) for line in lines if line["message"] == "Predicted."]
    assert seen == [(False, True), (True, False)]


def test_a_hit_needs_no_interpreter(published: Path) -> None:
    server = Instance(settings_for(published, result_cache_bytes=MIB, interpreters=1, wait=0.0))
    client = client_for(published, server)
    assert status(send(client)) == STORED
    with server.current().pool.model():
        assert status(send(client)) == HIT
        assert send(client, photo=colour_photo("blue")).status_code == 503


def test_a_fallback_is_told_as_it_is_now(published: Path) -> None:
    server = Instance(settings_for(published, result_cache_bytes=MIB))
    client = client_for(published, server)
    assert "fallback" not in send(client).get_json()["model"]
    server._serving = replace(server.current(), fallback=Fallback("v9", "missing"))
    reply = send(client)
    assert status(reply) == HIT and reply.headers["X-Pointer-Fallback"] == "v9;reason=missing"
    assert reply.get_json()["model"]["fallback"] == {"pointed": "v9", "reason": "missing"}
    server._serving = replace(server.current(), fallback=None)
    reply = send(client)
    assert status(reply) == HIT and "fallback" not in reply.get_json()["model"]


def test_calls_have_it_too(published: Path) -> None:
    client = create_call_app(settings_for(published, result_cache_bytes=MIB)).test_client()
    call = {"data": {"image": base64.b64encode(PHOTO).decode(), "gradcam": True}}
    first, second = client.post("/", json=call), client.post("/", json=call)
    assert (status(first), status(second)) == (STORED, HIT)
    assert {**first.get_json()["result"], "request_id": ""} == {**second.get_json()["result"], "request_id": ""}


# Several photos


def test_several_photos_share_the_cache_and_one_header(cached: FlaskClient) -> None:
    red, blue, green = (("image", colour_photo(label)) for label in ("red", "blue", "green"))
    bad = ("image", b"bad")

    def ask(*photos: tuple[str, bytes]) -> str | None:
        return status(cached.post("/", **form(*photos)))

    assert ask(red) == STORED
    assert ask(red, blue, bad) == 'pointer;fwd=partial;stored;detail="1 of 2"'
    assert ask(red, blue) == HIT
    assert ask(green, bad) == STORED
    assert ask(bad, bad) is None
    first = body(cached.post("/", **form(green, blue)))
    assert [result["label"] for result in first["results"]] == ["green", "blue"]


def test_the_same_photo_twice_is_classified_once(cached: FlaskClient) -> None:
    reply = cached.post("/", **form(("image", PHOTO), ("image", PHOTO)))
    assert status(reply) == 'pointer;fwd=partial;stored;detail="1 of 2"'
    first, second = reply.get_json()["results"]
    assert {**first, "index": 1} == second


# Swaps


@pytest.fixture(scope="module")
def rivals(tmp_path_factory: pytest.TempPathFactory, tiny_bundle_original: Path) -> Path:
    """A store whose v1 and v2 have other names for the same colours; v1 is promoted. No test may change it."""
    folder = tmp_path_factory.mktemp("rivals")
    publish(folder / "store", tiny_bundle_original)
    bundle = Path(shutil.copytree(tiny_bundle_original, folder / "bundle"))
    manifest = Manifest.from_json((tiny_bundle_original / "manifest.json").read_bytes())
    golden = tuple(replace(case, label=OTHER_LABELS[case.label]) for case in manifest.golden)
    renamed = replace(manifest, labels=tuple(OTHER_LABELS[label] for label in manifest.labels), golden=golden)
    (bundle / "manifest.json").write_bytes(renamed.to_json())
    publish(folder / "store", bundle, promote=False)
    return folder / "store"


@pytest.fixture
def store(rivals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rivals, tmp_path / "store"))


def point_at(store: Path, version: str) -> None:
    Registry(LocalStore(store), MODEL).promote(version, who="tester", reason="test", replay=lambda *_: None)


EXPECTED = {"v1": "red", "v2": "ruby"}


def test_a_promotion_changes_the_answer_at_once_and_a_rollback_finds_the_old_one(store: Path, tmp_path: Path) -> None:
    def ask(serving: Serving) -> tuple[str, str, str]:
        reply = serving.post("/?gradcam=1", data=PHOTO, headers=JPEG)
        answer = reply.json()
        assert answer["gradcam"]["label"] == answer["label"]
        return answer["model"]["version"], answer["label"], reply.headers["Cache-Status"]

    with serve(store, tmp_path / "server", POINTER_TTL="0.05", RESULT_CACHE_BYTES=str(MIB)) as serving:
        assert ask(serving) == ("v1", "red", STORED)
        for version, first in (("v2", STORED), ("v1", HIT), ("v2", HIT)):
            point_at(store, version)
            before = "v1" if version == "v2" else "v2"
            until = time.monotonic() + 30
            while (answer := ask(serving))[0] != version:
                assert answer == (before, EXPECTED[before], HIT)
                assert time.monotonic() < until, f"{version} does not come to serve"
            assert answer == (version, EXPECTED[version], first)
            assert ask(serving) == (version, EXPECTED[version], HIT)


def test_no_answer_under_load_is_of_another_version_than_it_says(store: Path, tmp_path: Path) -> None:
    """Labels and versions belong together, in every one of the answers while the pointer moves to and fro."""
    seen: list[tuple[str, str]] = []
    ended = threading.Event()

    def hammer(url: str) -> None:
        with requests.Session() as session:
            while not ended.is_set():
                reply = session.post(url, PHOTO, headers=JPEG, timeout=30).json()
                seen.append((reply["model"]["version"], reply["label"]))

    environment = {"POINTER_TTL": "0.05", "RESULT_CACHE_BYTES": str(MIB), "INTERPRETERS": "2"}
    with serve(store, tmp_path / "server", **environment) as serving, ThreadPoolExecutor(6) as pool:
        running = [pool.submit(hammer, serving.url) for _ in range(6)]
        try:
            for number in range(6):
                version = f"v{2 - number % 2}"
                point_at(store, version)
                count, until = len(seen), time.monotonic() + 30
                while version not in {served for served, _ in seen[count:]}:
                    assert time.monotonic() < until, f"{version} does not come to serve"
                    time.sleep(0.01)
        finally:
            ended.set()
        for each in running:
            each.result()
    assert set(seen) == set(EXPECTED.items())


def test_a_result_that_comes_after_the_swap_is_kept_for_its_own_version(store: Path) -> None:
    """A request of v1 that ends when v2 serves: v2's requests must not get what it keeps."""
    settings = settings_for(store, result_cache_bytes=MIB)
    predictor = Predictor(settings)
    old = predictor.instance.current()
    point_at(store, "v2")
    new = Instance(settings).current()
    predictor.instance._serving = new
    late = predictor(PHOTO, Query(), old)
    assert (late.prediction.ranked[0][0], late.cache) == ("red", "stored")
    now = predictor(PHOTO, Query())
    assert (now.prediction.ranked[0][0], now.cache) == ("ruby", "stored")
    assert [predictor(PHOTO, Query(), each).prediction.ranked[0][0] for each in (old, new)] == ["red", "ruby"]


def test_a_version_of_the_same_name_with_another_manifest_is_another(published: Path) -> None:
    predictor = Predictor(settings_for(published, result_cache_bytes=MIB))
    loaded = predictor.instance.current()
    assert predictor(PHOTO, Query()).cache == "stored"
    predictor.instance._serving = replace(loaded, pointer=replace(loaded.pointer, manifest_sha256="b" * 64))
    assert predictor(PHOTO, Query()).cache == "stored"


def test_it_keeps_no_version_alive(store: Path) -> None:
    predictor = Predictor(settings_for(store, result_cache_bytes=MIB))
    predictor(PHOTO, Query(gradcam=""))
    pool = weakref.ref(predictor.instance.current().pool)
    point_at(store, "v2")
    predictor.instance._serving = Instance(predictor.settings).current()
    gc.collect()
    assert pool() is None
