"""Several models behind one endpoint: which one answers, by whose rules, and what is counted."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from flask import Flask, request

from classifier.endpoints import downloads
from classifier.endpoints.app import create_app
from classifier.endpoints.callable import create_call_app
from classifier.endpoints.unread import answer
from classifier.serving import models as serving_models
from classifier.storage.local import LocalStore
from classifier.traffic.feedback import Feedback
from tests.support.app_client import form, problem, settings_for
from tests.support.bundles import colour_photo
from tests.support.commands import PROGRAM
from tests.support.contract import check
from tests.support.serving import serve
from tests.support.several_models import several_models_fixture  # noqa: F401  # a fixture

GREEN = colour_photo("green")


def client(store: Path, **changes):
    settings = settings_for(store, other_models=("dogs", "empty"), **changes)
    made = create_app(settings).test_client()
    made.environ_base["pointer.stores"] = (settings.model_store, settings.photo_store)
    return made


def ask(app, query: str = "", **options):
    options = {"data": GREEN, "content_type": "image/png", **options}
    reply = app.post(f"/{query}", **options)
    check("POST", "/", reply.status_code, reply.headers, lambda: reply.data)
    return reply


def told(reply) -> tuple[str, str]:
    assert reply.status_code == 200, reply.text
    return reply.get_json()["model"]["name"], reply.get_json()["label"]


def test_the_model_is_named_in_the_address_the_form_or_the_body_and_the_default_stays(store: Path) -> None:
    import base64

    app = client(store)
    encoded = base64.b64encode(GREEN).decode()
    assert told(ask(app)) == ("food", "green")
    assert told(ask(app, "?model=dogs")) == ("dogs", "blue")
    assert told(ask(app, "?model=food")) == ("food", "green")
    fields = form(("image", GREEN))
    assert told(app.post("/?model=dogs", **fields)) == ("dogs", "blue")
    data = {"image": (io.BytesIO(GREEN), "a.png"), "model": "dogs"}
    assert told(app.post("/", data=data, content_type="multipart/form-data")) == ("dogs", "blue")
    assert told(app.post("/", json={"image": encoded, "model": "dogs"})) == ("dogs", "blue")
    assert told(app.post("/", json={"image": encoded, "model": None})) == ("food", "green")
    several = app.post("/?model=dogs", **form(("image", GREEN), ("image", GREEN))).get_json()
    assert several["model"]["name"] == "dogs"
    call = create_call_app(settings_for(store, other_models=("dogs",))).test_client()
    assert call.post("/", json={"data": {"image": encoded, "model": "dogs"}}).get_json()["result"]["label"] == "blue"
    assert call.post("/", json={"data": {"image": encoded}}).get_json()["result"]["label"] == "green"
    unknown = call.post("/", json={"data": {"image": encoded, "model": "cats"}})
    assert (unknown.status_code, unknown.get_json()["error"]["status"]) == (404, "NOT_FOUND")


def test_what_may_not_be_asked_for_is_told(store: Path) -> None:
    app = client(store)
    for reply in (ask(app, "?model=cats"), app.get("/model?model=cats"), app.get("/model/file?model=cats")):
        assert "Expected model to be one of food, dogs, empty; received 'cats'" in problem(reply, 404, "not-found")
    reply = app.post("/feedback?model=cats", json={"label": "x", "request_id": "1"})
    assert problem(reply, 404, "not-found")
    assert "received it in the address" in problem(
        app.post("/?model=dogs", json={"image": "aaaa", "model": "food"}), 400, "invalid-request"
    )
    assert "Expected model to be a string" in problem(
        app.post("/", json={"image": "aaaa", "model": False}), 400, "invalid-request"
    )
    assert problem(ask(app, "?model=empty"), 503, "not-ready")
    assert told(ask(app)) == ("food", "green")
    assert app.get("/?model=cats").status_code == 200  # the page


def test_the_models_and_their_files_are_told_and_none_is_loaded(store: Path) -> None:
    app = client(store, model_rules=(("dogs", {"ACCESS": "auth"}),), project="demo-pointer")
    reply = app.get("/models")
    check("GET", "/models", reply.status_code, reply.headers, lambda: reply.data)
    body = reply.get_json()
    assert body["default"] == "food"
    food, dogs, empty = body["models"]
    assert (food["name"], food["version"], food["labels"], food["url"]) == ("food", "v1", 4, "model")
    assert dogs == {"name": "dogs", "url": "model?model=dogs", "access": "auth"}
    assert empty["problem"]["status"] == 503
    open_app = client(store)
    dogs = open_app.get("/model?model=dogs")
    check("GET", "/model", dogs.status_code, dogs.headers, lambda: dogs.data)
    assert dogs.get_json()["name"] == "dogs"
    file = dogs.get_json()["file"]
    assert file["url"] == "model/file?model=dogs"
    content = open_app.get(f"/{file['url']}")
    assert content.headers["ETag"] == f'"{file["sha256"]}"'
    assert content.data != open_app.get("/model/file").data


def test_each_model_has_its_own_access_rules_and_limits(store: Path) -> None:
    rules = (("dogs", {"RATE_LIMIT": "3/hour", "FEEDBACK_LIMIT": "0"}), ("empty", {"ACCESS": "auth"}))
    app = client(store, model_rules=rules, project="demo-pointer")
    for _ in range(5):
        assert ask(app).status_code == 200
    correction = {"label": "x", "request_id": "1", "model": "dogs"}
    assert "not taken here" in problem(app.post("/feedback", json=correction), 403, "forbidden")
    for _ in range(2):
        assert ask(app, "?model=dogs").headers["RateLimit"]
    assert problem(ask(app, "?model=dogs"), 429, "rate-limited")
    import base64

    in_body = app.post("/", json={"image": base64.b64encode(GREEN).decode(), "model": "dogs"})
    assert problem(in_body, 429, "rate-limited")
    assert ask(app).status_code == 200
    assert problem(ask(app, "?model=empty"), 401, "unauthenticated")
    guarded = app.post("/", json={"image": base64.b64encode(GREEN).decode(), "model": "empty"})
    assert problem(guarded, 401, "unauthenticated")
    assert problem(app.post("/feedback", json=correction), 429, "rate-limited")


def test_corrections_and_counts_are_of_the_model_that_answered(store: Path, tmp_path: Path) -> None:
    with serve(store, tmp_path / "serving", MODEL_NAMES="dogs", STATS_EVERY="0.2") as function:
        for query in ("", "?model=dogs", "?model=dogs"):
            assert function.post(f"/{query}", data=GREEN, headers={"Content-Type": "image/png"}).status_code == 200
        said = {"label": "green", "request_id": "abc"}
        assert function.post("/feedback?model=dogs", json=said).status_code == 201
        assert function.post("/feedback", json={**said, "model": "dogs", "label": "red"}).status_code == 201
        assert function.post("/feedback", json=said).status_code == 201
        time.sleep(0.3)
        for query in ("", "?model=dogs"):
            function.post(f"/{query}", data=GREEN, headers={"Content-Type": "image/png"})
    assert len(Feedback(LocalStore(store), "food").cases()) == 1
    assert {each.label for each in Feedback(LocalStore(store), "dogs").cases()} == {"green", "red"}
    from datetime import UTC, datetime, timedelta

    from classifier.traffic.reading import read

    now = datetime.now(UTC)
    photos = {
        name: sum(
            row.photos for row in read(LocalStore(store), name, now - timedelta(hours=1), now).total.rows.values()
        )
        for name in ("food", "dogs")
    }
    assert photos == {"food": 2, "dogs": 3}


@pytest.mark.parametrize("every", [0.0, 1e-6])
def test_statistics_can_be_switched_off(store: Path, every: float) -> None:
    app = client(store, stats_every=every)
    for _ in range(3):
        assert ask(app).status_code == 200
    assert (store / "food" / "stats").exists() == bool(every)


def test_the_command_line_asks_a_function_for_the_model_that_is_named(store: Path, tmp_path: Path) -> None:
    photo = tmp_path / "green.png"
    photo.write_bytes(GREEN)
    with serve(store, tmp_path / "serving", MODEL_NAMES="dogs") as function:
        ask_cli = partial(run, MODEL_NAME="dogs", MODEL_STORE=str(store))
        assert "green, says v1 of food" in ask_cli("predict", str(photo), "--url", function.url)
        assert "blue, says v1 of dogs" in ask_cli("predict", str(photo), "--url", function.url, "--model", "dogs")
        assert "serves v1" in ask_cli("status", "--url", function.url, "--model", "dogs")


def run(*arguments: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("path", ["/", "/model", "/model/file", "/models", "/feedback"])
def test_a_model_that_is_named_twice_is_refused_and_not_guessed(store: Path, path: str) -> None:
    app = client(store)
    query = f"{path}?model=food&model=dogs"
    reply = app.get(query) if path.startswith("/model") else app.post(query, data=GREEN, content_type="image/png")
    assert "Expected model once; received it 2 times" in problem(reply, 400, "invalid-request")


def test_a_call_has_its_options_in_its_data_and_none_in_the_address(store: Path) -> None:
    import base64

    call = create_call_app(settings_for(store, other_models=("dogs",))).test_client()
    data = {"data": {"image": base64.b64encode(GREEN).decode()}}

    def said(query: str, body: dict) -> str:
        reply = call.post(f"/{query}", json=body)
        assert (reply.status_code, reply.get_json()["error"]["status"]) == (400, "INVALID_ARGUMENT"), reply.text
        return reply.get_json()["error"]["message"]

    assert "Expected model once; received it 2 times" in said("?model=dogs&model=food", data)
    assert "Expected consent beside the photo" in said("?consent=1", data)
    assert "Expected top_k beside the photo" in said("?top_k=1", data)
    both = {"data": {**data["data"], "model": "food"}}
    assert "Expected model once; received it in the address and in the body" in said("?model=dogs", both)
    correction = {"data": {"feedback": {"label": "x", "request_id": "1", "model": "food"}}}
    assert "Expected model once; received it in the address and in the body" in said("?model=dogs", correction)
    assert call.post("/?model=dogs", json=data).get_json()["result"]["label"] == "blue"


class Unread:
    """A body that says how often it was read."""

    reads = at = 0

    def read(self, *_: object) -> bytes:
        self.reads += 1
        return b""

    readline = readinto = read

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = 10_000_000 if whence == os.SEEK_END else offset
        return self.at

    def close(self) -> None:
        pass


def test_corrections_that_nobody_takes_are_refused_before_they_are_read(store: Path) -> None:
    def sent(app, query: str = ""):
        body = Unread()
        options = {"input_stream": body, "content_type": "application/json"}
        return app.post(f"/feedback{query}", **options), body.reads

    reply, reads = sent(client(store, feedback_limit=""))
    assert "not taken here" in problem(reply, 403, "forbidden") and reads == 0
    one = client(store, model_rules=(("dogs", {"FEEDBACK_LIMIT": "0"}),))
    reply, reads = sent(one, "?model=dogs")
    assert "not taken here" in problem(reply, 403, "forbidden") and reads == 0
    # The others take some, and which is meant the body tells.
    reply, reads = sent(one)
    assert problem(reply, 400, "invalid-request") and reads


def test_a_warm_model_answers_while_the_store_of_another_hangs(store: Path, tmp_path: Path) -> None:
    """Nobody ever writes into the pipe that the dogs' pointer is: who asks for them would wait for ever."""
    pointer = store / "dogs" / "channels.json"
    pointer.unlink()
    os.mkfifo(pointer)
    headers = {"Content-Type": "image/png"}
    asked = 2 * serving_models.SERVER_THREADS
    with (
        serve(store, tmp_path / "serving", MODEL_NAMES="dogs,empty") as function,
        ThreadPoolExecutor(asked) as pool,
    ):
        post = partial(function.post, data=GREEN, headers=headers)
        assert post().json()["label"] == "green"
        hanging = [pool.submit(post, "/?model=dogs") for _ in range(asked)]
        end = time.monotonic() + 30
        while sum(each.done() for each in hanging) < asked - 2 * serving_models.SERVER_THREADS // 3:
            assert time.monotonic() < end, "all of them wait"
            time.sleep(0.05)
        for _ in range(5):
            began = time.monotonic()
            assert post().json()["label"] == "green"
            assert time.monotonic() - began < 5
        refused = next(each for each in hanging if each.done()).result()
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:pointer:problem:overloaded")
        assert int(refused.headers["Retry-After"]) >= 1
        began = time.monotonic()
        food, dogs, empty = function.get("/models").json()["models"]
        assert time.monotonic() - began < serving_models.TOLD_WITHIN + 5
        assert food["version"] == "v1"
        assert dogs["problem"]["type"].endswith("store-unavailable") and empty["problem"]["type"].endswith("not-ready")
        function.process.send_signal(signal.SIGTERM)
        assert {each.result().status_code for each in hanging} == {503}


def test_slow_downloads_keep_no_more_files_in_memory_than_there_is_room_for(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "FILES", 1)
    monkeypatch.setattr(downloads, "SHARE", 0.0)
    app = client(store)
    # As main.py serves it: within another app, whose reply ends the download.
    outer = Flask("outer")
    outer.add_url_rule("/<path:_>", view_func=lambda _: answer(app.application, request))
    asking = outer.test_client()
    asking.environ_base.update(app.environ_base)
    slow = asking.get("/model/file")
    again = asking.get("/model/file", headers={"Range": "bytes=0-9"})
    assert (slow.status_code, again.status_code) == (200, 206)
    again.close()
    refused = asking.get("/model/file?model=dogs")
    assert "being downloaded" in problem(refused, 503, "overloaded")
    assert refused.headers["Retry-After"] == str(downloads.RETRY_AFTER)
    assert asking.head("/model/file?model=dogs").status_code == 200
    slow.close()
    slow.close()
    dogs = asking.get("/model/file?model=dogs")
    assert dogs.status_code == 200
    assert problem(asking.get("/model/file"), 503, "overloaded")
    dogs.close()
    unsatisfied = asking.get("/model/file", headers={"Range": "bytes=99999999-"})
    assert unsatisfied.status_code == 416
    assert asking.get("/model/file?model=dogs").status_code == 200
