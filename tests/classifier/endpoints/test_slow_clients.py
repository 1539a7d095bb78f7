"""A real functions-framework process with slow and silent clients: others do not notice them, and each ends."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from classifier.registry.manifest import Manifest
from tests.support.bundles import files_of
from tests.support.serving import Serving, photo_bytes, publish, serve

EACH = 40
WITHIN = 10.0
"""Seconds in which a request has to arrive here; a fifth of it passes before the rate counts."""
PHONE_RATE = 50_000
LARGE = 15_000_000
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


@pytest.fixture(name="large", scope="module")
def large_fixture(tiny_bundle_original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose model file is larger than what the system keeps for a client that does not read: 15 MB."""
    bundle = tmp_path_factory.mktemp("large") / "bundle"
    shutil.copytree(tiny_bundle_original, bundle)
    with (bundle / "model.tflite").open("ab") as file:
        file.write(bytes(LARGE - file.tell()))
    manifest = Manifest.from_json((bundle / "manifest.json").read_bytes())
    (bundle / "manifest.json").write_bytes(replace(manifest, files=files_of(bundle)).to_json())
    publish(bundle.parent / "store", bundle)
    return bundle.parent / "store"


def ask_for_file(serving: Serving) -> socket.socket:
    url = urlsplit(serving.url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)  # before it connects, or it does not count
    connection.settimeout(30)
    connection.connect((str(url.hostname), int(url.port or 0)))
    connection.sendall(b"GET /model/file HTTP/1.1\r\nHost: x\r\n\r\n")
    return connection


def test_a_reader_at_a_byte_a_second_is_let_go_of(large: Path, tmp_path: Path) -> None:
    """With one thread, nobody else would be answered while it holds that."""
    with (
        serve(large, tmp_path, THREADS="1", REQUEST_WITHIN="5", REQUEST_LEAST_RATE=str(PHONE_RATE)) as serving,
        ask_for_file(serving) as reader,
    ):
        assert reader.recv(1) == b"H"
        done = threading.Event()

        def trickle() -> None:
            with suppress(OSError):
                while not done.wait(1.0) and reader.recv(1):
                    pass

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            asked = time.monotonic()
            assert serving.post(data=photo_bytes(), headers=JPEG).ok
            assert time.monotonic() - asked < 15
        finally:
            done.set()
            thread.join()
        with suppress(ConnectionResetError):  # the rest of what was on its way
            received = 0
            while block := reader.recv(2**16):
                received += len(block)
            assert received < LARGE


@pytest.mark.long
def test_a_phone_gets_the_whole_file(large: Path, tmp_path: Path) -> None:
    """At a rate that is a little above what a reply has to be taken at, here both twelve times those of a phone."""
    rate = 12 * PHONE_RATE
    with (
        serve(large, tmp_path, THREADS="1", REQUEST_WITHIN="5", REQUEST_LEAST_RATE=str(int(rate / 1.2))) as serving,
        ask_for_file(serving) as reader,
    ):
        began, received = time.monotonic(), bytearray()
        while block := reader.recv(2**14):
            received += block
            time.sleep(max(0.0, began + len(received) / rate - time.monotonic()))
        assert time.monotonic() - began > LARGE / rate - 1
    head_of_reply, _, body = bytes(received).partition(b"\r\n\r\n")
    assert head_of_reply.startswith(b"HTTP/1.1 200") and len(body) == LARGE


def test_some_threads_are_never_held_by_downloads(large: Path, tmp_path: Path) -> None:
    with serve(large, tmp_path, THREADS="3", REQUEST_WITHIN="50") as serving, ExitStack() as readers:
        for _ in range(2):
            assert readers.enter_context(ask_for_file(serving)).recv(12) == b"HTTP/1.1 200"
        refused = serving.get("/model/file")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
        assert serving.post(data=photo_bytes(), headers=JPEG).ok
