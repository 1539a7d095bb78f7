"""gunicorn's worker as Pointer has it, in this process and with one thread: when requests begin and connections end."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request
from gunicorn.config import Config
from gunicorn.glogging import Logger

from classifier.endpoints import connections
from classifier.endpoints.app import create_app
from classifier.endpoints.connections import Worker
from classifier.endpoints.unread import answer as request_answer
from classifier.settings import Settings
from tests.support.serving import MODEL, photo_bytes

LARGE = 500_000
REPLY = 30_000_000


class Application:
    """Reads a request's body, or refuses it unread, or sends a large reply."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.kept: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        path = environ["PATH_INFO"]
        kept = environ["gunicorn.socket"].kept
        kept["times"] = kept.get("times", 0) + 1
        self.begun.append(path)
        self.kept.append(dict(kept))
        status, reply = "200 OK", b""
        if path == "/refused":
            status = "401 Unauthorized"
        elif path == "/large":
            reply = bytes(REPLY)
        else:
            try:
                reply = b"%d" % len(environ["wsgi.input"].read())
            except TimeoutError:
                status = "408 Request Timeout"
        start_response(status, [("Content-Length", str(len(reply)))])
        return [reply]


class Running:
    """A worker with its one thread, and what its clients need."""

    def __init__(self, app: Any = None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        config = Config()
        config.set("threads", 1)
        self.app = app or Application()
        self.worker = Worker(0, os.getppid(), [self.listener], None, 30, config, Logger(config))
        self.worker.wsgi = self.app
        self.worker.tpool = self.worker.get_thread_pool()
        self.worker.poller = selectors.DefaultSelector()
        self.worker.method_queue.init()
        self.loop = threading.Thread(target=self.worker.run)
        self.loop.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname(), timeout=20)

    def end(self) -> None:
        self.worker.handle_exit(0, None)
        self.loop.join(20)
        assert not self.loop.is_alive()


@contextlib.contextmanager
def run(app: Any = None) -> Iterator[Running]:
    running = Running(app)
    try:
        yield running
    finally:
        running.end()
        running.worker.tmp.close()


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(connections, "PROMPT", 0.05)
    monkeypatch.setenv("REQUEST_WITHIN", "5")
    with run() as running:
        yield running


def head(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def answer(connection: socket.socket) -> tuple[int, bytes]:
    status, _, body = answer_with_head(connection)
    return status, body


def answer_with_head(connection: socket.socket) -> tuple[int, bytes, bytes]:
    """Read one reply and not a byte of the next."""
    lines = b""
    while not lines.endswith(b"\r\n\r\n"):
        lines += connection.recv(1) or pytest.fail(f"The connection ended after {lines!r}.")
    length = int(re.search(rb"(?i)content-length: (\d+)", lines)[1])
    return int(lines[9:12]), lines, connection.recv(length, socket.MSG_WAITALL) if length else b""


def test_a_body_that_comes_promptly_begins_its_request_once(running: Running) -> None:
    with running.connect() as client:
        for _ in range(2):
            client.sendall(head("/", f"Content-Length: {LARGE}") + bytes(LARGE))
            assert answer(client) == (200, b"500000")
    assert [kept["times"] for kept in running.app.kept] == [1, 1]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_takes_longer_is_asked_for_once_and_waited_for_without_a_thread(
    running: Running, chunked: bool
) -> None:
    field = "Transfer-Encoding: chunked" if chunked else "Content-Length: 6"
    pieces = [b"3\r\nabc\r\n", b"3\r\ndef\r\n0\r\n\r\n"] if chunked else [b"abc", b"def"]
    with running.connect() as client, running.connect() as other:
        client.sendall(head("/slow", field) + pieces[0])
        while not running.app.begun:
            time.sleep(0.01)
        other.sendall(head("/other", "Content-Length: 2") + b"ab")
        assert answer(other) == (200, b"2")
        client.sendall(pieces[1])
        assert answer(client) == (200, b"6")
    assert running.app.begun == ["/slow", "/other", "/slow"]
    assert running.app.kept[-1] == {"times": 2}


def test_who_waits_for_a_word_gets_it_once(running: Running) -> None:
    with running.connect() as client:
        client.sendall(head("/", "Content-Length: 2", "Expect: 100-continue"))
        word = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert client.recv(len(word), socket.MSG_WAITALL) == word
        client.sendall(b"ab")
        assert answer(client) == (200, b"2")


def test_requests_may_come_behind_each_other(running: Running) -> None:
    with running.connect() as client:
        refused = head("/refused", f"Content-Length: {LARGE}") + bytes(LARGE)
        client.sendall((head("/", "Content-Length: 3") + b"abc") * 3 + refused + head("/")[:20])
        assert [answer(client) for _ in range(4)] == [(200, b"3")] * 3 + [(401, b"")]
        client.sendall(head("/")[20:])
        assert answer(client) == (200, b"0")


def test_a_refused_upload_is_answered_before_it_is_here_and_does_not_go_on_for_ever(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LINGERS_WITHIN", 0.3)
    with running.connect() as client:
        client.sendall(head("/refused", f"Content-Length: {LARGE}"))
        assert answer(client) == (401, b"")
        assert client.recv(1) == b""
        client.sendall(b"some of it")  # is still taken
        with pytest.raises(OSError):
            for _ in range(200):
                client.sendall(b"more")
                time.sleep(0.02)


def test_a_refused_upload_that_is_too_long_is_cut_off(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGERS_AT_MOST", 100_000)
    with running.connect() as client:
        client.sendall(head("/refused", f"Content-Length: {2**40}"))
        assert answer(client) == (401, b"")
        with pytest.raises(OSError):
            for _ in range(10_000):
                client.sendall(bytes(50_000))


def test_where_too_much_is_on_its_way_a_thread_reads_as_it_comes(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HELD_AT_MOST", 1000)
    with running.connect() as client:
        client.sendall(head("/", "Content-Length: 4000") + bytes(2000))
        while not running.app.begun:
            time.sleep(0.01)
        client.sendall(bytes(2000))
        assert answer(client) == (200, b"4000")
    with running.connect() as client:
        client.sendall(head("/", "Content-Length: 4000") + bytes(2000))
        assert answer(client) == (408, b"")  # what does not come has its time there, too
    running.end()  # the loop lets go of a request after its reply was sent
    assert running.worker._held == 0


def test_a_client_that_leaves_half_way_is_told(running: Running) -> None:
    with running.connect() as client:
        client.sendall(head("/", "Content-Length: 4000") + bytes(2000))
        client.shutdown(socket.SHUT_WR)
        assert answer(client) == (200, b"2000")  # an application of its own; Pointer's asks for all of it
    with running.connect() as client:
        client.sendall(head("/")[:20])
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_a_client_that_does_not_read_its_reply_is_let_go(running: Running) -> None:
    running.worker.pace = connections.Pace(0.5, REPLY)
    with running.connect() as client, running.connect() as other:
        client.sendall(head("/large"))
        while not running.app.begun:
            time.sleep(0.01)
        other.sendall(head("/"))
        assert answer(other) == (200, b"0")
        with contextlib.suppress(ConnectionResetError):
            assert len(answer(client)[1]) < REPLY


def test_a_worker_that_ends_waits_for_requests_and_not_for_silence(running: Running) -> None:
    with running.connect(), running.connect() as client:
        client.sendall(head("/", "Content-Length: 4") + b"ab")
        while not running.app.begun:
            time.sleep(0.01)
        running.worker.handle_exit(0, None)
        time.sleep(0.3)
        client.sendall(b"cd")
        assert answer(client) == (200, b"4")
        running.loop.join(5)
        assert not running.loop.is_alive()


def test_a_request_that_begins_again_counts_once_for_its_caller(published: Path) -> None:
    app = create_app(Settings(model_store=str(published), model_name=MODEL, rate_limit="5/minute"))
    framework, begun = Flask("framework"), []

    @framework.post("/")
    def function() -> Response:
        begun.append(request.path)
        return request_answer(app, request)

    photo = photo_bytes()
    with run(framework) as running, running.connect() as client:
        client.sendall(head("/", "Content-Type: image/jpeg", f"Content-Length: {len(photo)}") + photo[:100])
        while not begun:
            time.sleep(0.01)
        client.sendall(photo[100:])
        status, lines, _ = answer_with_head(client)
    assert (status, len(begun)) == (200, 2)
    assert re.search(rb'RateLimit: "5/minute";r=4;', lines), lines
