"""The callable function: Firebase's protocol, as its SDKs speak it, through a real functions-framework process."""

from __future__ import annotations

import base64
import gzip
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from classifier import errors
from classifier.endpoints import problems
from classifier.endpoints.callable import CODES, STATUSES, status_of
from tests.support.serving import Serving, photo_bytes, serve
from tests.support.tokens import OTHER, app_token, attested, bearer, google, id_token

PHOTO = photo_bytes()
IMAGE = base64.b64encode(PHOTO).decode()
LIMIT = 50_000
INT64 = "type.googleapis.com/google.protobuf.Int64Value"


@pytest.fixture(scope="module")
def server(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    limits = {"MAX_IMAGE_BYTES": str(LIMIT), "CORS_ORIGINS": "https://a.example"}
    with serve(published, tmp_path_factory.mktemp("server"), target="classify", **limits) as serving:
        yield serving


def call(serving: Serving, data: object, headers: dict[str, str] | None = None, path: str = "/") -> requests.Response:
    """A call as the SDKs make it."""
    return serving.post(path, json={"data": data}, headers=headers)


def failed(reply: requests.Response, status: str, slug: str) -> dict[str, Any]:
    """Check an error's envelope; returns its details."""
    body = reply.json()
    assert set(body) == {"error"}, body
    error = body["error"]
    assert set(error) == {"status", "message", "details"}
    assert (error["status"], reply.status_code) == (status, CODES[status]), error
    assert reply.headers["Content-Type"] == "application/json"
    details = error["details"]
    assert details["type"] == f"urn:pointer:problem:{slug}"
    assert details["detail"] == error["message"]
    assert details["request_id"] == reply.headers["X-Request-Id"]
    return dict(details)


def entries(serving: Serving) -> list[dict[str, Any]]:
    return [json.loads(line) for line in serving.log.read_text().splitlines() if line[:1] == "{"]


# Results


def test_a_call_gets_what_predict_answers(server: Serving, published: Path, tmp_path: Path) -> None:
    reply = call(server, {"image": IMAGE, "gradcam": True, "top_k": 2, "gradcam_format": "png", "gradcam_size": 64})
    assert reply.status_code == 200, reply.text
    result = reply.json()["result"]
    assert set(reply.json()) == {"result"}
    with serve(published, tmp_path, target="predict") as predict:
        path = "/?gradcam=1&top_k=2&gradcam_format=png&gradcam_size=64"
        body = predict.post(path, files={"image": PHOTO}).json()
    assert result.pop("request_id") == reply.headers["X-Request-Id"]
    body.pop("request_id")
    assert result == body
    assert base64.b64decode(result["gradcam"]["image"]).startswith(b"\x89PNG")


def test_members_that_are_null_or_missing_have_their_defaults(server: Serving) -> None:
    plain = call(server, {"image": IMAGE}).json()["result"]
    nulls = {"image": IMAGE, "gradcam": None, "top_k": None, "gradcam_size": None}
    assert {**plain, "request_id": ""} == {**call(server, nulls).json()["result"], "request_id": ""}
    assert "gradcam" not in plain and len(plain["predictions"]) == 4
    assert "gradcam" not in call(server, {"image": IMAGE, "gradcam": False}).json()["result"]


def test_a_label_is_explained(server: Serving) -> None:
    assert call(server, {"image": IMAGE, "gradcam": "green"}).json()["result"]["gradcam"]["label"] == "green"


@pytest.mark.parametrize(
    "data",
    [
        {"image": "data:image/jpeg;base64," + IMAGE, "gradcam": 1, "top_k": 3.0},
        {"image": base64.encodebytes(PHOTO).decode(), "gradcam": "1", "top_k": 3},
        {"image": base64.urlsafe_b64encode(PHOTO).decode().rstrip("="), "gradcam": True, "top_k": 3, "tta": 0},
        {"image": IMAGE, "gradcam": " Red", "top_k": 3},
    ],
)
def test_what_languages_make_of_a_photo_and_of_options(server: Serving, data: dict[str, Any]) -> None:
    result = call(server, data).json()["result"]
    assert (result["gradcam"]["label"], len(result["predictions"])) == ("red", 3)


def test_a_call_may_be_in_gzip(server: Serving) -> None:
    body = gzip.compress(json.dumps({"data": {"image": IMAGE}}).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert "label" in server.post(data=body, headers=headers).json()["result"]
    failed(server.post(data=body[:-9], headers=headers), "INVALID_ARGUMENT", "invalid-request")
    bomb = gzip.compress(bytes(2_000_000))
    failed(server.post(data=bomb, headers=headers), "INVALID_ARGUMENT", "too-large")
    assert "label" in call(server, {"image": IMAGE}, {"Content-Encoding": ""}).json()["result"]


def test_phones_wrap_whole_numbers(server: Serving) -> None:
    data = {"image": IMAGE, "top_k": {"@type": INT64, "value": "3"}}
    assert len(call(server, data).json()["result"]["predictions"]) == 3
    for value in ("3x", "", "-1", 3, None, "9" * 30):
        failed(call(server, {**data, "top_k": {"@type": INT64, "value": value}}), "INVALID_ARGUMENT", "invalid-request")


@pytest.mark.parametrize("path", ["/", "/classify", "/api/classify"])
def test_the_path_does_not_matter(server: Serving, path: str) -> None:
    assert "label" in call(server, {"image": IMAGE}, path=path).json()["result"]


def test_a_page_of_the_set_origin_may_call(server: Serving) -> None:
    asked = "authorization,content-type,firebase-instance-id-token,x-firebase-appcheck"
    headers = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked}
    for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", None)):
        preflight = requests.options(server.url, headers={"Origin": origin, **headers}, timeout=10)
        assert preflight.headers.get("Access-Control-Allow-Origin") == allowed
        if allowed:
            assert {name.strip() for name in preflight.headers["Access-Control-Allow-Headers"].split(",")} == set(
                asked.split(",")
            )
    reply = call(server, {"image": IMAGE}, {"Origin": "https://a.example"})
    assert reply.headers["Access-Control-Allow-Origin"] == "https://a.example"


def test_a_call_is_logged_once_and_without_its_photo(server: Serving) -> None:
    call(server, {"image": IMAGE}, {"X-Request-Id": "one-call"})
    lines = [entry for entry in entries(server) if entry.get("request_id") == "one-call"]
    assert [line["message"] for line in lines if line["message"] != "Loaded v1."] == ["Predicted."]
    assert IMAGE[:40] not in server.log.read_text()


# Errors


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {"Content-Type": "application/json"}),
        (b"{", {"Content-Type": "application/json"}),
        (b"\xff\xfe", {"Content-Type": "application/json"}),
        (b"[" * 100_000, {"Content-Type": "application/json"}),
        (b"null", {"Content-Type": "application/json"}),
        (b"[1]", {"Content-Type": "application/json"}),
        (b"{}", {"Content-Type": "application/json"}),
        (b'{"data": null}', {"Content-Type": "application/json"}),
        (b'{"data": "x"}', {"Content-Type": "application/json"}),
        (b'{"data": {}}', {"Content-Type": "application/json; charset=utf-8"}),
        (b'{"data": {"image": 5}}', {"Content-Type": "application/json"}),
        (b'{"data": {"image": ""}}', {"Content-Type": "application/json"}),
        (json.dumps({"image": IMAGE}).encode(), {"Content-Type": "application/json"}),
        (json.dumps({"data": {"image": IMAGE}, "more": 1}).encode(), {"Content-Type": "application/json"}),
    ],
)
def test_a_wrong_envelope(server: Serving, body: bytes, headers: dict[str, str]) -> None:
    failed(server.post(data=body, headers=headers), "INVALID_ARGUMENT", "invalid-request")


@pytest.mark.parametrize("media_type", ["text/plain", "image/jpeg", "multipart/form-data; boundary=x", None])
def test_another_media_type(server: Serving, media_type: str | None) -> None:
    body = json.dumps({"data": {"image": IMAGE}})
    headers = {"Content-Type": media_type} if media_type else {}
    failed(server.post(data=body.encode(), headers=headers), "INVALID_ARGUMENT", "unsupported-media")


def test_another_method(server: Serving) -> None:
    failed(server.get("/"), "INVALID_ARGUMENT", "method-not-allowed")


@pytest.mark.parametrize(
    "data",
    [
        {"image": "no base64!"},
        {"image": "data:image/svg+xml,<svg/>"},
        {"image": IMAGE, "top_k": 0},
        {"image": IMAGE, "top_k": 101},
        {"image": IMAGE, "top_k": "3"},
        {"image": IMAGE, "top_k": 3.5},
        {"image": IMAGE, "top_k": True},
        {"image": IMAGE, "gradcam": 2},
        {"image": IMAGE, "gradcam": "purple"},
        {"image": IMAGE, "gradcam": ""},
        {"image": IMAGE, "gradcam": {"label": "red"}},
        {"image": IMAGE, "gradcam_size": 64},
        {"image": IMAGE, "gradcam": True, "gradcam_format": "tiff"},
        {"image": IMAGE, "object": "uploads/cat.jpg"},
    ],
)
def test_wrong_data(server: Serving, data: dict[str, Any]) -> None:
    assert failed(call(server, data), "INVALID_ARGUMENT", "invalid-request")["status"] == 400


def test_what_is_no_photo(server: Serving) -> None:
    data = {"image": base64.b64encode(b"no photo").decode()}
    assert failed(call(server, data), "INVALID_ARGUMENT", "invalid-image")["status"] == 422


@pytest.mark.parametrize("size", [LIMIT + 1, 2_000_000])
def test_a_photo_over_the_limit(server: Serving, size: int) -> None:
    data = {"image": base64.b64encode(bytes(size)).decode()}
    assert f"{LIMIT:,} bytes" in failed(call(server, data), "INVALID_ARGUMENT", "too-large")["detail"]


def test_nothing_is_promoted(tmp_path: Path) -> None:
    with serve(tmp_path / "store", tmp_path / "server", target="classify") as serving:
        assert failed(call(serving, {"image": IMAGE}), "UNAVAILABLE", "not-ready")["status"] == 503


def test_every_error_has_a_status() -> None:
    ours = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.PointerError)]
    assert len(ours) > 15
    for cls in ours:
        if cls not in (errors.PointerError, errors.InvalidSetting):
            assert next(each for each in cls.__mro__ if each in STATUSES) is not Exception, cls
    assert set(STATUSES) <= set(problems.TABLE)
    assert set(STATUSES.values()) == set(CODES)
    assert status_of(RuntimeError("a fault")) == "INTERNAL"


def test_codes_are_predicts_wherever_the_protocol_has_them() -> None:
    for cls, kind in problems.TABLE.items():
        if kind.status in CODES.values() and kind.status != 400:
            assert CODES[next(STATUSES[each] for each in cls.__mro__ if each in STATUSES)] in (kind.status, 400), cls


# Access: the gate of `predict`


@pytest.mark.parametrize("rule", ["auth", "auth+app-check"])
def test_callers_have_to_say_who_they_are(rule: str, published: Path, tmp_path: Path) -> None:
    data = {"image": IMAGE}
    with (
        google() as answers,
        serve(
            published,
            tmp_path / "server",
            target="classify",
            ACCESS=rule,
            ACCESS_CLAIM="role=editor",
            RATE_LIMIT="2/hour",
            **answers.environment(tmp_path / "keys"),
        ) as serving,
    ):
        checked = attested(app_token()) if rule != "auth" else {}
        good = {**bearer(id_token(role="editor")), **checked}
        bad = [{}, checked, bearer("garbage"), {**bearer(id_token(OTHER, role="editor")), **checked}]
        if checked:
            bad += [bearer(id_token(role="editor")), {**bearer(id_token(role="editor")), **attested(app_token(OTHER))}]
        for headers in bad:
            reply = call(serving, data, headers)
            failed(reply, "UNAUTHENTICATED", "unauthenticated")
            assert reply.headers["WWW-Authenticate"].startswith(("Bearer", "FirebaseAppCheck"))
        failed(call(serving, data, {**good, **bearer(id_token())}), "PERMISSION_DENIED", "forbidden")
        for _ in range(2):
            assert "result" in call(serving, data, good).json()
        limited = call(serving, data, good)
        failed(limited, "RESOURCE_EXHAUSTED", "rate-limited")
        assert int(limited.headers["Retry-After"]) > 0


def test_a_public_function_takes_calls_of_users_whose_token_it_does_not_know(server: Serving) -> None:
    """SDKs send the token of whoever is signed in, wherever they call."""
    assert "result" in call(server, {"image": IMAGE}, bearer("garbage")).json()
