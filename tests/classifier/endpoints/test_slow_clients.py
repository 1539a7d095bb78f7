"""A real functions-framework process with slow and silent clients: others do not notice them, and each ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.serving import Serving, photo_bytes, serve

EACH = 40
WITHIN = 10.0
"""Seconds in which a request has to arrive here; a fifth of it passes before the rate counts."""
PHONE_RATE = 50_000
JPEG = {"Content-Type": "image/jpeg"}


def noise(size: int) -> bytes:
    """A photo of about so many bytes."""
    side = int((size / 3) ** 0.5)
    return photo_bytes((side, side), media="PNG", compress_level=0)


def head(length: int, *fields: str) -> bytes:
    lines = ["POST / HTTP/1.1", "Host: x", "Content-Type: image/png", f"Content-Length: {length}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def connect(serving: Serving) -> socket.socket:
    url = urlsplit(serving.url)
    return socket.create_connection((url.hostname, url.port), timeout=30)


def answer(connection: socket.socket) -> tuple[int, dict[str, str], dict[str, object]]:
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    return reply.status, dict(reply.headers), json.loads(reply.read())


@contextmanager
def trickling(connections: list[socket.socket]) -> Iterator[None]:
    """Send a byte a second on each meanwhile, to those that still listen."""
    done = threading.Event()

    def trickle() -> None:
        while not done.wait(1.0):
            for each in connections:
                with suppress(OSError):
                    each.send(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_slow_and_silent_clients_keep_nobody_waiting(published: Path, tmp_path: Path) -> None:
    photo = noise(200_000)
    with (
        serve(published, tmp_path, THREADS="1", REQUEST_WITHIN=str(WITHIN)) as serving,
        ExitStack() as open_connections,
    ):
        assert serving.post(data=photo, headers=JPEG).ok

        def connections() -> list[socket.socket]:
            return [open_connections.enter_context(connect(serving)) for _ in range(EACH)]

        silent, slow = connections(), connections()
        begun = [head(len(photo)) + photo[:100], head(len(photo))[:30]]
        for number, each in enumerate(slow):
            each.sendall(begun[number % 2])
        phone = open_connections.enter_context(connect(serving))
        with trickling(slow):
            began = time.monotonic()
            phone.sendall(head(len(photo)))
            longest = 0.0
            for start in range(0, len(photo), PHONE_RATE // 5):
                phone.sendall(photo[start : start + PHONE_RATE // 5])
                asked = time.monotonic()
                assert serving.post(data=photo, headers=JPEG).ok
                longest = max(longest, time.monotonic() - asked)
                time.sleep(max(0.0, began + start / PHONE_RATE + 0.2 - time.monotonic()))
            assert longest < 1.0
            assert time.monotonic() - began > WITHIN / 5  # or the rate did not count yet
            assert answer(phone)[0] == 200
            for each in slow[:2]:
                status, headers, problem = answer(each)
                assert (status, headers["Content-Type"]) == (408, "application/problem+json")
                assert problem["type"] == "urn:pointer:problem:too-slow" and problem["status"] == 408
                assert headers["Connection"] == "close"
                assert problem["request_id"] == headers["X-Request-Id"]
            assert [each.recv(1) for each in silent[:3]] == [b""] * 3
        connections()
        for number, each in enumerate(connections()):
            each.sendall(begun[number % 2])
        asked = time.monotonic()
        os.killpg(serving.process.pid, signal.SIGINT)  # as a terminal does
        assert serving.process.wait(10) == 0
        assert time.monotonic() - asked < 2.0
        assert "SIGKILL" not in serving.log.read_text()
