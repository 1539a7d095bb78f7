"""POST /feedback: what is taken and what is not, how often, by whom, and what ends up in the store."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from classifier.errors import Unavailable
from classifier.storage.local import LocalStore
from classifier.traffic.feedback import Feedback
from tests.support.app_client import client_for, problem
from tests.support.bundles import colour_photo
from tests.support.serving import MODEL, copy_store, serve

PHOTO = colour_photo("green")
SHA256 = hashlib.sha256(PHOTO).hexdigest()
IMAGE = base64.b64encode(PHOTO).decode()
SAID = {"request_id": "abc-1", "label": "green"}


@pytest.fixture(name="store")
def store_fixture(published: Path, tmp_path: Path) -> Path:
    return copy_store(published, tmp_path / "store")


def kept(store: Path) -> list[str]:
    folder = store / MODEL / "feedback"
    return sorted(path.suffix for path in folder.rglob("*.*"))


def send(client: Any, members: Any, **options: Any) -> Any:
    return client.post("/feedback", json=members, **options)


def test_a_correction_is_kept_once_however_often_it_is_sent(store: Path) -> None:
    client = client_for(store)
    seen = {"version": "v1", "channel": "production", "label": "blue", "confidence": 0.93, "status": "ok"}
    first = send(client, {**SAID, "label": " green ", "seen": seen})
    assert first.status_code == 201
    body = first.get_json()
    assert (body["photo"], body["known"], body["request_id"]) == (False, False, first.headers["X-Request-Id"])
    again = send(client, SAID)
    assert (again.status_code, again.get_json()["id"], again.get_json()["known"]) == (200, body["id"], True)
    other = send(client, {**SAID, "label": None})
    assert (other.status_code, other.get_json()["id"] == body["id"]) == (201, False)
    (first_case, second_case) = Feedback(LocalStore(store), MODEL).cases()
    by_label = {case.correction.label: case.correction for case in (first_case, second_case)}
    assert by_label["green"].seen.to_dict() == seen
    assert by_label["green"].request_id == "abc-1"
    assert by_label[None].seen.to_dict() == {}
    stored = "".join(path.read_text() for path in (store / MODEL / "feedback").rglob("*.json"))
    assert "127.0.0.1" not in stored


def test_a_photo_is_kept_only_with_consent(store: Path) -> None:
    client = client_for(store)
    detail = problem(send(client, {"label": "green", "image": IMAGE}), 400, "invalid-request")
    assert "consent" in detail
    assert kept(store) == []
    reply = send(client, {"label": "green", "image": f"data:image/png;base64,{IMAGE}", "consent": True})
    assert (reply.status_code, reply.get_json()["photo"]) == (201, True)
    assert kept(store) == [".json", ".photo"]
    desk = Feedback(LocalStore(store), MODEL)
    (case,) = desk.cases()
    assert case.correction.photo_sha256 == SHA256
    assert desk.photo(case) == PHOTO
    # The hash alone names the same photo: the same correction.
    assert send(client, {"label": "green", "photo_sha256": SHA256}).get_json()["id"] == case.correction.id


@pytest.mark.parametrize(
    ("members", "status", "slug", "expected"),
    [
        ([], 400, "invalid-request", "a JSON object such as"),
        ({"request_id": "a"}, 400, "invalid-request", "Expected label"),
        ({"label": "green"}, 400, "invalid-request", "request_id, photo_sha256 or image"),
        ({**SAID, "label": ""}, 400, "invalid-request", "Expected label to be 1 to 200 characters"),
        ({**SAID, "label": "a\nb"}, 400, "invalid-request", "can be printed"),
        ({**SAID, "label": 7}, 400, "invalid-request", "received 7"),
        ({**SAID, "label": "x" * 201}, 400, "invalid-request", "1 to 200"),
        ({**SAID, "request_id": "a b"}, 400, "invalid-request", "request_id of a reply"),
        ({"label": "a", "photo_sha256": "ABC"}, 400, "invalid-request", "SHA-256"),
        ({**SAID, "consent": "yes"}, 400, "invalid-request", "true or false"),
        ({**SAID, "user": "kim"}, 400, "invalid-request", "received 'user'"),
        ({**SAID, "seen": {"label": "a", "who": "kim"}}, 400, "invalid-request", "Expected seen"),
        ({**SAID, "seen": {"confidence": 2}}, 400, "invalid-request", "seen.confidence"),
        ({**SAID, "seen": {"channel": "shadow"}}, 400, "invalid-request", "production or canary"),
        ({**SAID, "seen": {"version": "7"}}, 400, "invalid-request", "a version such as v7"),
        ({**SAID, "image": 3, "consent": True}, 400, "invalid-request", "base64"),
        ({**SAID, "image": "aGVsbG8=", "consent": True}, 422, "invalid-image", "does not begin as one"),
        (
            {"label": "a", "photo_sha256": "0" * 64, "image": IMAGE, "consent": True},
            400,
            "invalid-request",
            "Expected image to have the SHA-256",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused_and_nothing_is_kept(
    store: Path, members: Any, status: int, slug: str, expected: str
) -> None:
    assert expected in problem(send(client_for(store), members), status, slug)
    assert kept(store) == []


def test_other_media_types_and_photos_that_are_too_large_are_refused(store: Path) -> None:
    client = client_for(store, max_image_bytes=len(PHOTO) - 1)
    assert "application/json" in problem(
        client.post("/feedback", data=PHOTO, content_type="image/png"), 415, "unsupported-media"
    )
    problem(send(client, {"label": "a", "image": IMAGE, "consent": True}), 413, "too-large")
    assert kept(store) == []


def test_a_caller_may_send_so_many(store: Path) -> None:
    client = client_for(store, feedback_limit="2/day", trusted_proxies=1)
    for number in range(3):
        reply = send(client, {"request_id": f"r{number}", "label": "red"}, headers={"X-Forwarded-For": "10.0.0.1"})
    assert "at most 2 corrections" in problem(reply, 429, "rate-limited")
    assert int(reply.headers["Retry-After"]) > 0
    assert send(client, SAID, headers={"X-Forwarded-For": "10.0.0.2"}).status_code == 201
    assert len(kept(store)) == 3


def test_corrections_can_be_switched_off(store: Path) -> None:
    problem(send(client_for(store, feedback_limit=""), SAID), 403, "forbidden")


def test_a_store_that_fails_is_told_and_the_same_request_is_kept_later(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_for(store)
    write = LocalStore.write
    with monkeypatch.context() as patch:

        def fail(*_: Any, **__: Any) -> None:
            raise Unavailable("gone")

        patch.setattr(LocalStore, "write", fail)
        problem(send(client, SAID), 503, "store-unavailable")
    assert LocalStore.write is write
    assert send(client, SAID).status_code == 201


def test_whoever_may_not_call_may_not_correct(store: Path) -> None:
    problem(send(client_for(store, access="auth", project="demo-pointer"), SAID), 401, "unauthenticated")
    assert kept(store) == []


def test_the_callable_takes_corrections_too(store: Path, tmp_path: Path) -> None:
    with serve(store, tmp_path / "serving", target="classify") as serving:
        data = {"feedback": {"label": "green", "image": IMAGE, "consent": True}}
        reply = serving.post(json={"data": data})
        assert reply.status_code == 200, reply.text
        assert (reply.json()["result"]["known"], reply.json()["result"]["photo"]) == (False, True)
        assert serving.post(json={"data": data}).json()["result"]["known"] is True
        both = serving.post(json={"data": {**data, "image": IMAGE}})
        assert (both.status_code, both.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
        wrong = serving.post(json={"data": {"feedback": {"label": "green"}}})
        assert wrong.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert kept(store) == [".json", ".photo"]
    assert json.loads(next((store / MODEL / "feedback").rglob("*.json")).read_text())["photo_bytes"] == len(PHOTO)
