"""Who may call: really signed tokens against a real process that fetches its keys from a loopback server."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
import requests

from classifier.endpoints.app import create_app
from classifier.settings import Settings
from tests.support.serving import Serving, photo_bytes, serve
from tests.support.tokens import (
    GOOD,
    NOW,
    OTHER,
    PROJECT,
    PROJECT_NUMBER,
    Google,
    app_token,
    attested,
    bearer,
    good,
    google,
    id_token,
    public_pem,
)

PHOTO = photo_bytes()
FIRST_REQUESTS = 12
_addresses = count(1)

Signer = Callable[..., str]


def hmac_with_public_key(sign: Signer) -> str:
    """HS256 with the public key's PEM as the secret, which an unwary verifier takes; PyJWT refuses to make it."""
    header, claims, _ = sign(None, alg="none").split(".")
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"key-1","typ":"JWT"}').rstrip(b"=").decode()
    digest = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = digest.sign(f"{header}.{claims}".encode(), public_pem(GOOD))
    return f"{header}.{claims}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def raw(header: bytes, claims: bytes) -> str:
    parts = (base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, claims, b"signature"))
    return ".".join(parts)


def changed_payload(sign: Signer) -> str:
    header, _, signature = sign().split(".")
    return ".".join([header, sign(sub="eve").split(".")[1], signature])


FAULTS: dict[str, tuple[str, Callable[[Signer], str]]] = {
    "signed with another key": ("signature", lambda sign: sign(OTHER)),
    "a payload under another's signature": ("signature", changed_payload),
    "expired": ("expired", lambda sign: sign(iat=NOW - 7200, exp=NOW - 3600)),
    "issued in the future": ("issued in the future", lambda sign: sign(iat=NOW + 3600, exp=NOW + 7200)),
    "alg none": ("", lambda sign: sign(None, alg="none")),
    "HS256 with the public key": ("", hmac_with_public_key),
    "no key id": ("key id", lambda sign: sign(kid=None)),
    "an unknown key id": ("key id", lambda sign: sign(kid="key-2")),
    "empty": ("missing", lambda _: ""),
    "not a token": ("malformed", lambda _: "garbage"),
    "three parts of garbage": ("", lambda _: "a.b.c"),
    "very long": ("malformed", lambda _: "x" * 7000),
    "JSON of the wrong types": ("", lambda _: raw(b"[]", b"[]")),
    "a legacy token of the wrong types": ("", lambda _: raw(b'{"alg":"HS256"}', b'{"v":0,"d":5}')),
    "JSON that is nested deeply": ("", lambda _: raw(b'{"alg":"RS256","kid":"key-1"}', b"[" * 4000)),
    "a key id that is a list": ("", lambda _: raw(b'{"alg":"RS256","kid":["key-1"]}', b"{}")),
    "two tokens": ("malformed", lambda sign: f"{sign()}, {sign()}"),
    "no subject": ("subject", lambda sign: sign(sub=None)),
}
ID_FAULTS: dict[str, tuple[str, Callable[[], str]]] = {
    "of another project": (
        "audience",
        lambda: id_token(aud="demo-other", iss="https://securetoken.google.com/demo-other"),
    ),
    "another issuer": ("issuer", lambda: id_token(iss="https://evil.example/demo-pointer")),
    "an App Check token": ("", app_token),
    "no expiry": ("", lambda: id_token(exp=None)),
}
APP_FAULTS: dict[str, tuple[str, Callable[[], str]]] = {
    "of another project": ("audience", lambda: app_token(aud=["projects/1", "projects/demo-other"])),
    "an audience that is text": ("audience", lambda: app_token(aud=f"projects/{PROJECT}")),
    "another issuer": ("issuer", lambda: app_token(iss=f"https://evil.example/{PROJECT_NUMBER}")),
    "no issuer": ("", lambda: app_token(iss=None)),
    "an ID token": ("", id_token),
    "no expiry": ("", lambda: app_token(exp=None)),
}


@pytest.fixture(scope="module")
def served(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Google]]:
    """A server that asks for both tokens; its first requests came at the same time, and were let in."""
    folder = tmp_path_factory.mktemp("server")
    with google() as answers:
        environment = answers.environment(folder / "site")
        # Each test calls from an address of its own: failures are counted by address.
        rules = {"ACCESS": "auth+app-check", "TRUSTED_PROXIES": "1", "CORS_ORIGINS": "https://a.example"}
        with serve(published, folder / "server", **rules, **environment) as serving:
            assert not answers.asked
            with ThreadPoolExecutor(FIRST_REQUESTS) as clients:
                replies = list(clients.map(lambda _: serving.get("/model", headers=good()), range(FIRST_REQUESTS)))
            assert [reply.status_code for reply in replies] == [200] * FIRST_REQUESTS, replies[0].text
            yield serving, answers


@pytest.fixture
def server(served: tuple[Serving, Google]) -> Serving:
    return served[0]


def from_another_address() -> dict[str, str]:
    number = next(_addresses)
    return {"X-Forwarded-For": f"203.0.113.7, 10.0.{number // 250}.{number % 250 + 1}"}


def refused(reply: requests.Response) -> dict[str, Any]:
    """Check that a reply is a 401 like any other, and return its log line."""
    assert reply.status_code == 401, reply.text
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.headers["WWW-Authenticate"].startswith('Bearer realm="pointer", FirebaseAppCheck realm="pointer"')
    body = reply.json()
    request_id = body.pop("request_id")
    assert body == {
        "type": "urn:pointer:problem:unauthenticated",
        "title": "Callers have to say who they are",
        "status": 401,
        "detail": "Expected a valid Firebase ID token in Authorization: Bearer TOKEN and "
        "a valid App Check token in X-Firebase-AppCheck.",
    }
    return {"request_id": request_id}


def logged(server: Serving, request_id: str) -> dict[str, Any]:
    entries = [json.loads(line) for line in server.log.read_text().splitlines() if line[:1] == "{"]
    [entry] = [entry for entry in entries if entry.get("request_id") == request_id]
    return entry


def check_refused(server: Serving, headers: dict[str, str], token: str, kind: str, reason: str) -> None:
    reply = server.get("/model", headers={**headers, **from_another_address()})
    entry = logged(server, refused(reply)["request_id"])
    assert entry["severity"] == "WARNING" and entry["reason"].startswith(f"{kind}: {reason}")
    log = server.log.read_text()
    assert not any(len(part) > 12 and part in log for part in token.split(".")), "the log has a part of the token"
    assert "Traceback" not in log


# Tokens


def test_good_tokens_are_let_in(served: tuple[Serving, Google]) -> None:
    server, _ = served
    assert server.post(files={"image": PHOTO}, headers=good()).json()["model"]["version"] == "v1"
    assert server.get("/api/model", headers=good()).status_code == 200
    lower = {"authorization": f"bearer {id_token()}", "x-firebase-appcheck": app_token()}
    assert server.get("/model", headers=lower).status_code == 200


def test_keys_are_fetched_once(served: tuple[Serving, Google]) -> None:
    server, answers = served
    before = answers.asked.copy()
    assert before["jwks"] <= 2 and before["certs"] <= FIRST_REQUESTS
    for kid in ("key-1", "stolen", "invented"):
        server.get("/model", headers={**bearer(id_token(kid=kid)), **attested(app_token(kid=kid))})
    assert (answers.asked - before).total() <= 1  # an unknown key id may ask once in 30 seconds


@pytest.mark.parametrize("fault", [*FAULTS, *ID_FAULTS])
def test_a_bad_id_token_is_refused(server: Serving, fault: str) -> None:
    if fault in FAULTS:
        reason, forge = FAULTS[fault]
        token = forge(id_token)
    else:
        reason, make = ID_FAULTS[fault]
        token = make()
    check_refused(server, {**bearer(token), **attested(app_token())}, token, "id-token", reason)


@pytest.mark.parametrize("fault", [*FAULTS, *APP_FAULTS])
def test_a_bad_app_check_token_is_refused(server: Serving, fault: str) -> None:
    if fault in FAULTS:
        reason, forge = FAULTS[fault]
        token = forge(app_token)
    else:
        reason, make = APP_FAULTS[fault]
        token = make()
    check_refused(server, {**bearer(id_token()), **attested(token)}, token, "app-check", reason)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Basic {base64.b64encode(b'ana:secret').decode()}"},
        {"Authorization": "Bearer"},
        {"Authorization": id_token()},
        bearer(id_token()),
        attested(app_token()),
        {**bearer(app_token()), **attested(id_token())},
    ],
)
def test_a_missing_or_misplaced_token_is_refused(server: Serving, headers: dict[str, str]) -> None:
    refused(server.get("/model", headers={**headers, **from_another_address()}))


def test_a_header_over_the_servers_limit_is_refused(server: Serving) -> None:
    reply = server.get("/model", headers={**bearer("x" * 20_000), **from_another_address()})
    assert 400 <= reply.status_code < 500
    assert server.get("/model", headers=good()).status_code == 200


# What is protected


def test_what_costs_or_reveals_is_protected(server: Serving) -> None:
    for path in ("/", "/api/"):
        refused(server.post(path, files={"image": PHOTO}, headers=from_another_address()))
    for path in ("/model", "/api/model"):
        refused(server.get(path, headers=from_another_address()))
    head = requests.head(f"{server.url}/model", headers=from_another_address(), timeout=10)
    assert (head.status_code, head.content) == (401, b"")


def test_what_is_open_needs_no_token(server: Serving) -> None:
    for path in ("/healthz", "/openapi.yaml", "/", "/page.js", "/style.css", "/api/healthz", "/api/"):
        assert server.get(path).status_code == 200, path
    assert server.get("/nothing").status_code == 404
    assert requests.delete(f"{server.url}/model", timeout=10).status_code == 405


def test_every_other_endpoint_is_protected(published: Path) -> None:
    """An endpoint that is added later is protected unless it is added to the list."""
    app = create_app(Settings(model_store=str(published), access="auth", project=PROJECT))
    app.add_url_rule("/new", view_func=lambda: "secret", methods=["GET", "PUT"])
    client = app.test_client()
    assert client.get("/new").status_code == client.put("/new").status_code == 401
    assert client.options("/new").status_code == 200
    app = create_app(Settings(model_store=str(published), access="auth", project=PROJECT))
    app.add_url_rule("/new", view_func=lambda: "secret", methods=["OPTIONS"])
    assert app.test_client().options("/new").status_code == 401


def test_a_browser_may_send_the_tokens_and_read_the_refusal(server: Serving) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Origin": "https://a.example"}
    asked["Access-Control-Request-Headers"] = "authorization,content-type,x-firebase-appcheck"
    preflight = requests.options(f"{server.url}/", headers=asked, timeout=10)
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://a.example"
    allowed = set(preflight.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(","))
    assert {"authorization", "x-firebase-appcheck", "content-type"} <= allowed
    origin = {"Origin": "https://a.example", **from_another_address()}
    reply = server.post(files={"image": PHOTO}, headers=origin)
    refused(reply)
    assert reply.headers["Access-Control-Allow-Origin"] == "https://a.example"
    exposed = reply.headers["Access-Control-Expose-Headers"]
    assert all(name in exposed for name in ("WWW-Authenticate", "Retry-After", "RateLimit", "RateLimit-Policy"))


# The body is not read before its sender is known


@pytest.mark.parametrize("length", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"])
def test_an_upload_without_a_token_is_answered_before_it_arrives(server: Serving, length: str) -> None:
    url = urlsplit(server.url)
    head = f"POST / HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: image/jpeg\r\n{length}\r\n"
    head += f"X-Forwarded-For: {from_another_address()['X-Forwarded-For']}\r\n\r\n"
    with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
        connection.sendall(head.encode())
        answer = b""
        while b'"request_id"' not in answer:  # nothing of the body was sent, nor will be
            block = connection.recv(2**16)
            assert block, f"the server left without an answer: {answer!r}"
            answer += block
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_a_large_upload_without_a_token_gets_its_answer_and_the_connection_serves_on(server: Serving) -> None:
    with requests.Session() as session:
        large = session.post(server.url, data=bytes(8_000_000), headers=from_another_address(), timeout=60)
        refused(large)
        assert session.post(server.url, files={"image": PHOTO}, headers=good(), timeout=60).status_code == 200
