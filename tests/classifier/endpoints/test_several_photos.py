"""Several photos in one request: each with its own answer or problem, in order, and limits that hold for all."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from classifier.endpoints import replies
from classifier.errors import Overloaded
from classifier.serving.instance import Instance
from classifier.serving.model import Model, Output
from classifier.serving.pool import Pool
from tests.support.app_client import PHOTO, client_for, form, problem, send, settings_for
from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.serving import photo_bytes, serve

COLOURS = {label: colour_photo(label) for label in TINY_LABELS}
FACTS = ("label", "confidence", "label_idx", "status", "score", "tta", "predictions")


def ask(client: FlaskClient, *photos: bytes, query: str = "", **headers: str) -> TestResponse:
    return client.post(f"/{query}", **form(*[("image", photo) for photo in photos]), headers=headers)


def results(reply: TestResponse) -> list[dict[str, Any]]:
    """Check the frame of a reply to several photos, and return what it says of each."""
    assert reply.status_code == 200, reply.text
    body = reply.get_json()
    assert list(body) == ["results", "model", "request_id"]
    assert body["request_id"] == reply.headers["X-Request-Id"]
    assert [result["index"] for result in body["results"]] == list(range(len(body["results"])))
    return list(body["results"])


def slug(result: dict[str, Any]) -> str:
    assert set(result) == {"index", "problem"}
    assert {"type", "title", "status", "detail"} <= set(result["problem"])
    return str(result["problem"]["type"]).rpartition(":")[2]


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# Answers


def test_each_photo_gets_in_order_what_it_gets_alone(client: FlaskClient) -> None:
    order = ["red", "blue", "green", "grey", "red"]
    query = "?gradcam=1&top_k=2&gradcam_format=png"
    reply = ask(client, *[COLOURS[label] for label in order], query=query)
    found = results(reply)
    assert [result["label"] for result in found] == order
    for label, result in zip(order, found, strict=True):
        alone = ask(client, COLOURS[label], query=query).get_json()
        assert alone.pop("request_id") and alone.pop("model") == reply.get_json()["model"]
        assert result == {"index": result["index"], **alone}
        assert list(result) == ["index", *FACTS, "gradcam"]


def test_one_photo_in_a_form_is_answered_as_ever(client: FlaskClient) -> None:
    body = ask(client, PHOTO).get_json()
    assert list(body) == [*FACTS, "model", "request_id"]


def test_a_bad_photo_does_not_spoil_the_others(client: FlaskClient) -> None:
    large = PHOTO + bytes(300_000)
    reply = ask(client, COLOURS["red"], b"", b"hello", PHOTO[:300], large, COLOURS["blue"])
    found = results(reply)
    assert [found[place]["label"] for place in (0, 5)] == ["red", "blue"]
    assert [slug(result) for result in found[1:5]] == ["invalid-image"] * 3 + ["too-large"]
    for result, alone in zip(found[1:4], (b"", b"hello", PHOTO[:300]), strict=True):
        expected = ask(client, alone).get_json(force=True)
        assert expected.pop("request_id")
        assert result["problem"] == expected
    assert "300,000 bytes" in found[4]["problem"]["detail"]


def test_only_bad_photos_are_an_answer_too(client: FlaskClient) -> None:
    reply = ask(client, b"a", b"b")
    assert [slug(result) for result in results(reply)] == ["invalid-image"] * 2
    assert reply.get_json()["model"]["version"] == "v1"


def test_the_steps_are_summed(client: FlaskClient) -> None:
    reply = ask(client, *[PHOTO] * 3)
    steps = dict(step.split(";dur=") for step in reply.headers["Server-Timing"].split(", "))
    assert list(steps) == ["decode", "queue", "infer", "encode"]
    assert float(steps["decode"]) > 0 and float(steps["infer"]) > 0


# The whole request


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [("?top_k=0", 400, "invalid-request"), ("?gradcam=nothing", 400, "invalid-request")],
)
def test_what_is_wrong_for_all_is_said_once(client: FlaskClient, query: str, status: int, kind: str) -> None:
    problem(ask(client, PHOTO, PHOTO, query=query), status, kind)
    problem(ask(client, b"not a photo", PHOTO, query=query), status, kind)


def test_nothing_promoted(tmp_path: Path) -> None:
    problem(ask(client_for(tmp_path), PHOTO, PHOTO), 503, "not-ready")


def test_the_number_of_photos_is_limited(published: Path) -> None:
    client = client_for(published, max_photos=3)
    assert len(results(ask(client, *[PHOTO] * 3))) == 3
    assert problem(ask(client, *[PHOTO] * 4), 413, "too-large").startswith(
        "Expected at most 3 photos in a request; received 4."
    )
    many = problem(ask(client, *[PHOTO] * 16), 413, "too-large")
    assert "at most 15 fields" in many
    one = client_for(published, max_photos=1)
    assert ask(one, PHOTO).get_json()["label"] == "red"
    assert "Expected one photo in a request; received 2." in problem(ask(one, PHOTO, PHOTO), 413, "too-large")


def test_as_many_parts_are_read_as_photos_may_come(published: Path) -> None:
    client = client_for(published, max_photos=60)
    assert len(results(ask(client, *[b"x"] * 60))) == 60


def test_all_photos_together_have_no_more_bytes_than_one_request_may(client: FlaskClient) -> None:
    photo = PHOTO + bytes(200_000)
    assert len(results(ask(client, photo, photo))) == 2
    detail = problem(ask(client, photo, photo, photo), 413, "too-large")
    assert "465,536 bytes in all" in detail and "300,000 bytes each" in detail and "fewer" in detail


@pytest.mark.parametrize("name", ["object", "image", "note"])
def test_text_beside_photos_is_refused(client: FlaskClient, name: str) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    photo = part % (b"image", b'; filename="a.jpg"', PHOTO)
    body = photo + part % (name.encode(), b"", b"uploads/cat.jpg") + photo + b"--x--\r\n"
    reply = client.post("/", data=body, content_type="multipart/form-data; boundary=x")
    detail = problem(reply, 400, "invalid-request")
    assert f"received other text in the field '{name}'" in detail


def test_json_has_one_photo(client: FlaskClient) -> None:
    problem(client.post("/", json={"images": ["aGk="]}), 400, "invalid-request")
    problem(client.post("/", json={"image": ["aGk=", "aGk="]}), 400, "invalid-request")


@pytest.mark.parametrize("accept", ["image/*", "image/png", "image/jpeg, text/html"])
def test_an_overlay_by_itself_is_the_reply_to_one_photo(client: FlaskClient, accept: str) -> None:
    detail = problem(ask(client, PHOTO, PHOTO, query="?gradcam=1", Accept=accept), 406, "not-acceptable")
    assert "one photo" in detail and "application/json" in detail
    assert ask(client, PHOTO, query="?gradcam=1", Accept=accept).content_type.startswith("image/")


def test_json_is_sent_where_it_is_accepted_at_all(client: FlaskClient) -> None:
    reply = ask(client, PHOTO, PHOTO, query="?gradcam=1", Accept="image/webp, application/json;q=0.1")
    assert [result["gradcam"]["media_type"] for result in results(reply)] == ["image/webp"] * 2
    assert "Accept" in reply.headers["Vary"]


def test_overlays_are_bounded_together(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_for(published)
    size = len(send(client, "?gradcam=1", Accept="image/jpeg").data)
    monkeypatch.setattr(replies, "OVERLAYS_AT_MOST", 2 * size)
    found = results(ask(client, *[PHOTO] * 3, query="?gradcam=1"))
    assert ["gradcam" in result for result in found] == [True, True, False]
    assert slug(found[2]) == "too-large" and "gradcam_size" in found[2]["problem"]["detail"]
    assert all("label" in result for result in results(ask(client, *[PHOTO] * 3)))


# One version, one interpreter at a time, overload


class Runs:
    """Does something at chosen runs of any model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.actions: dict[int, Any] = {}
        original = Model.run

        def run(model: Model, *args: Any, **kwargs: Any) -> Output:
            self.count += 1
            if action := self.actions.get(self.count):
                action()
            return original(model, *args, **kwargs)

        monkeypatch.setattr(Model, "run", run)


def test_one_version_answers_all(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Instance(settings_for(published))
    before = server.current()
    other = Instance(settings_for(published)).current()
    runs = Runs(monkeypatch)

    def swap() -> None:
        server._serving = other

    lent: list[Pool] = []
    original = Pool.model

    @contextmanager
    def model(pool: Pool) -> Iterator[Model]:
        lent.append(pool)
        with original(pool) as found:
            yield found

    monkeypatch.setattr(Pool, "model", model)
    runs.actions[1] = swap
    results(ask(client_for(published, server), *[PHOTO] * 3))
    assert lent == [before.pool] * 3 and server.current() is other


def test_overload_in_the_middle_keeps_what_is_there(
    published: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Instance(settings_for(published))
    server.current()
    capsys.readouterr()
    runs = Runs(monkeypatch)

    def refuse() -> None:
        raise Overloaded("All interpreters are busy. Try again in 7 s.", retry_after=7)

    runs.actions[3] = refuse
    found = results(ask(client_for(published, server), PHOTO, b"bad", *[PHOTO] * 4))
    assert [result.get("label") for result in found] == ["red", None, "red", None, None, None]
    assert slug(found[1]) == "invalid-image"
    for result in found[3:]:
        assert slug(result) == "overloaded"
        assert (result["problem"]["status"], result["problem"]["retry_after"]) == (503, 7)
    assert runs.count == 3, "photos were tried although the service was too busy"
    severities = [(line["severity"], line.get("slug")) for line in lines(capsys)]
    assert severities.count(("WARNING", "overloaded")) == 3


def test_overload_at_the_start_is_that_of_the_request(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_for(published)
    runs = Runs(monkeypatch)

    def refuse() -> None:
        raise Overloaded("All interpreters are busy. Try again in 7 s.", retry_after=7)

    runs.actions[1] = refuse
    reply = ask(client, b"bad", PHOTO, PHOTO)
    problem(reply, 503, "overloaded")
    assert reply.headers["Retry-After"] == "7" and runs.count == 1


def test_a_request_that_takes_too_long_begins_no_further_photo(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_for(published)
    runs = Runs(monkeypatch)
    runs.actions[2] = lambda: monkeypatch.setattr(replies, "BEGUN_WITHIN", -1.0)
    found = results(ask(client, *[PHOTO] * 4))
    assert [result.get("label") for result in found] == ["red", "red", None, None]
    assert [slug(result) for result in found[2:]] == ["overloaded"] * 2


# Limits on requests


def quota(reply: TestResponse) -> str:
    return reply.headers["RateLimit"].partition(";t=")[0]


def test_each_photo_counts_as_a_request(published: Path) -> None:
    client = client_for(published, rate_limit="10/day")
    assert quota(ask(client, *[PHOTO] * 4)) == '"10/day";r=6'
    assert quota(ask(client, PHOTO)) == '"10/day";r=5'
    refused = ask(client, *[PHOTO] * 8)
    detail = problem(refused, 429, "rate-limited")
    # The request counts as one, whose photo would be the fifth of the five that were left.
    assert quota(refused) == '"10/day";r=4' and "received 8, with 5 left" in detail
    assert int(refused.headers["Retry-After"]) == refused.get_json(force=True)["retry_after"] > 0
    assert len(results(ask(client, *[PHOTO] * 4))) == 4
    problem(ask(client, PHOTO), 429, "rate-limited")


def test_the_wait_that_is_told_is_long_enough(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_014_415.0
    monkeypatch.setattr(time, "time", lambda: now)
    client = client_for(published, rate_limit="10/minute", max_photos=9)
    for offset in (0.0, 7.3, 20.0, 41.0):
        now += 240 + offset  # nothing counts any more
        assert ask(client, *[PHOTO] * 4).status_code == 200
        now += offset
        refused = ask(client, *[PHOTO] * 9)
        assert "received 9, with" in problem(refused, 429, "rate-limited")
        now += int(refused.headers["Retry-After"]) + 0.01
        assert ask(client, *[PHOTO] * 9).status_code == 200


def test_a_request_that_no_limit_ever_allows_says_so(published: Path) -> None:
    client = client_for(published, rate_limit="100/day,3/minute")
    detail = problem(ask(client, *[PHOTO] * 4), 413, "too-large")
    assert "at most 3 photos" in detail
    assert len(results(ask(client, PHOTO, PHOTO))) == 2
    assert quota(client.get("/model")).startswith('"100/day";r=96')


# The log, of a real process


def test_each_prediction_is_a_line_and_the_request_one_more(published: Path, tmp_path: Path) -> None:
    with serve(published, tmp_path) as serving:
        files = [("image", COLOURS["red"]), ("image", b"secret"), ("image", COLOURS["blue"])]
        reply = requests.post(serving.url, files=files, headers={"X-Request-Id": "three"}, timeout=30)
        assert [result.get("label") for result in reply.json()["results"]] == ["red", None, "blue"]
        entries = [json.loads(line) for line in serving.log.read_text().splitlines() if line[:1] == "{"]
    mine = [entry for entry in entries if entry.get("request_id") == "three" and entry["message"] != "Loaded v1."]
    assert [(entry["message"], entry.get("index"), "httpRequest" in entry) for entry in mine] == [
        ("Predicted.", 0, False),
        ("This is not a photo that can be read.", 1, False),
        ("Predicted.", 2, False),
        ("Answered several photos.", None, True),
    ]
    first, bad, _, whole = mine
    assert (first["label"], first["version"], first["cached"]) == ("red", "v1", False) and first["infer_ms"] > 0
    assert (bad["severity"], bad["slug"]) == ("INFO", "invalid-image")
    counted = {name: whole[name] for name in ("photos", "problems", "cache_hits", "version")}
    assert counted == {"photos": 3, "problems": 1, "cache_hits": 0, "version": "v1"}
    assert whole["httpRequest"]["status"] == 200
    assert "secret" not in json.dumps(mine)


def test_large_photos_of_one_request_are_decoded_one_at_a_time(published: Path) -> None:
    """Two together would not fit into the memory that there is for decoding, and would wait for each other."""
    photo = photo_bytes((1000, 600), media="WEBP")
    client = client_for(published, max_image_memory=16_000_000, wait=0.0)
    assert [result["label"] for result in results(ask(client, *[photo] * 4))] == ["red"] * 4
