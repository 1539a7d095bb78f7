"""`admin_cli predict --url` and a function that asks who is calling: real signed tokens, and who gets them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.commands import Cli, cli_fixture, photo_fixture, process  # noqa: F401  # fixtures
from tests.support.serving import serve
from tests.support.tokens import app_token, google, id_token


def test_a_function_that_asks_for_tokens_gets_them(published: Path, photo: Path, tmp_path: Path) -> None:
    with google() as answers:
        environment = answers.environment(tmp_path / "site")
        with serve(published, tmp_path / "server", ACCESS="auth+app-check", **environment) as server:
            ask = ("predict", photo, "--url", server.url)
            refused = process(*ask).failed(2)
            assert "Callers have to say who they are (401)" in refused
            assert "Set POINTER_ID_TOKEN or POINTER_APP_CHECK_TOKEN" in refused
            assert "(401)" in process(*ask, POINTER_ID_TOKEN=id_token()).failed(2)
            tokens = {"POINTER_ID_TOKEN": f"{id_token()}\n", "POINTER_APP_CHECK_TOKEN": app_token()}
            assert "red, says v1 of food" in process(*ask, **tokens).well()


class _Redirecting(BaseHTTPRequestHandler):
    """Sends on to /there; keeps the headers of every request."""

    seen: list[tuple[str, dict[str, str]]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, dict(self.headers)))
        self.send_response(302)
        self.send_header("Location", "/there")
        self.end_headers()

    def do_GET(self) -> None:
        self.seen.append((self.path, dict(self.headers)))
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def redirecting() -> Iterator[HTTPServer]:
    _Redirecting.seen = []
    with answering(_Redirecting) as server:
        yield server


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_token_is_not_sent_on_to_where_a_redirect_leads(cli: Cli, photo: Path, redirecting: HTTPServer) -> None:
    url = f"http://127.0.0.1:{redirecting.server_address[1]}"
    cli("predict", photo, "--url", url, POINTER_ID_TOKEN="aaa", POINTER_APP_CHECK_TOKEN="bbb").failed(2)
    (first, sent), (second, later) = _Redirecting.seen
    assert (first, second) == ("/?top_k=5", "/there")
    # urllib writes a header's first letter alone in capitals.
    sent, later = ({name.lower(): value for name, value in each.items()} for each in (sent, later))
    assert (sent["authorization"], sent["x-firebase-appcheck"]) == ("Bearer aaa", "bbb")
    assert not {"authorization", "x-firebase-appcheck"} & set(later)


def test_a_token_is_sent_over_https_alone_and_has_to_be_one(cli: Cli, photo: Path) -> None:
    ask = ("predict", photo, "--url")
    assert "https://" in cli(*ask, "http://pointer.example", POINTER_ID_TOKEN="aaa").failed(2)
    for token in ("a b", "a\nb", "é"):
        message = cli(*ask, "https://pointer.example", POINTER_ID_TOKEN=token).failed(2)
        assert message == "Expected a token in POINTER_ID_TOKEN; received characters that none has."


@pytest.mark.parametrize(
    ("status", "slug", "code"), [(429, "rate-limited", 7), (503, "overloaded", 6), (503, "not-ready", 3), (502, "", 6)]
)
def test_a_caller_who_asked_too_often_is_told_apart_from_a_function_out_of_reach(
    cli: Cli, photo: Path, status: int, slug: str, code: int
) -> None:
    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            problem = {"type": f"urn:pointer:problem:{slug}", "title": "Not now", "detail": "Try again."}
            body = json.dumps(problem).encode() if slug else b"<html>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with answering(Busy) as server:
        message = cli("predict", photo, "--url", f"http://127.0.0.1:{server.server_address[1]}").failed(code)
    assert str(status) in message
