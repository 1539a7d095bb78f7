"""What only a store in a bucket has, by either client: prefixes, dead servers, interruptions, missing credentials."""

from __future__ import annotations

import gzip
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from classifier.errors import Denied, PreconditionFailed, Unavailable
from classifier.storage.cloud import CloudStore
from classifier.storage.json_api import JsonApiStore
from classifier.storage.protocol import Content
from classifier.storage.transfer import checksum
from tests.conftest import BUCKET

Store = type[CloudStore] | type[JsonApiStore]


@pytest.mark.parametrize("kind", [CloudStore, JsonApiStore])
class TestBuckets:
    def test_prefixes_do_not_see_each_other(self, kind: Store, cloud_store: CloudStore) -> None:
        prefix = cloud_store.url.removeprefix(f"gs://{BUCKET}/")
        other = kind(BUCKET, f"{prefix}-2")
        whole = kind(BUCKET)
        try:
            cloud_store.write("x", b"1")
            other.write("x", b"2")
            assert cloud_store.read("x").data == b"1"
            assert other.read("x").data == b"2"
            assert [item.name for item in cloud_store.list()] == ["x"]
            assert whole.read(f"{prefix}/x").data == b"1"
            assert [item.name for item in whole.list(prefix)] == [f"{prefix}-2/x", f"{prefix}/x"]
        finally:
            other.close()
            whole.close()

    def test_a_bucket_that_does_not_exist_is_unavailable(self, kind: Store, cloud_store: CloudStore) -> None:
        store = kind("no-such-bucket")
        for use in (lambda: store.write("x", b""), lambda: list(store.list())):
            with pytest.raises(Unavailable, match=r"gs://no-such-bucket.*no bucket"):
                use()
        store.close()

    def test_a_closed_store_opens_again(self, kind: Store, cloud_store: CloudStore) -> None:
        store = kind(BUCKET, cloud_store.url.removeprefix(f"gs://{BUCKET}/"))
        store.write("x", b"1")
        store.close()
        assert store.read("x").data == b"1"
        store.close()

    @pytest.fixture(params=["closed port", "no answer", "server errors"])
    def dead_server(self, request: pytest.FixtureRequest) -> Iterator[str]:
        """A server that cannot be reached, one that never answers, one that only fails."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            if request.param == "closed port":
                listener.close()
            if request.param == "server errors":
                threading.Thread(target=_answer_503, args=(listener,), daemon=True).start()
            yield url
            if request.param == "server errors":
                listener.shutdown(socket.SHUT_RDWR)

    def test_a_dead_server_is_unavailable_in_bounded_time(
        self, kind: Store, dead_server: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", dead_server)
        import google.cloud.storage  # noqa: F401  # the first import takes seconds, which are not the store's

        store = kind("some-bucket", "models", patience=0.3, timeout=0.3)
        for use in (
            lambda: store.read("x"),
            lambda: store.read_if_changed("x", 1),
            lambda: store.write("x", b"1", if_generation=0),
            lambda: list(store.list()),
        ):
            started = time.monotonic()
            with pytest.raises(Unavailable, match=r"gs://some-bucket/models cannot be reached: .*\. Check") as caught:
                use()
            assert time.monotonic() - started < 3
            assert caught.value.__cause__ is not None
            # Words for people: neither a client's tuple nor the representation of one of its objects.
            assert not re.search(r"<|\('|object at 0x|HTTPStatus", str(caught.value))
        store.close()

    def test_an_interrupted_download_goes_on_where_it_stopped(
        self, kind: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = os.urandom(1 << 20)
        half = len(content) // 2
        ranges = []

        class Interrupting(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                ranges.append((self.headers.get("Range"), parse_qs(urlsplit(self.path).query).get("generation")))
                start = half if self.headers.get("Range") else 0
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.send_header("X-Goog-Generation", "7")
                self.end_headers()
                self.wfile.write(content[start:] if start else content[:half])

            def log_message(self, *args: object) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Interrupting) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
            store = kind("some-bucket")
            received = store.read("x")
            store.close()
            server.shutdown()
        assert (received.data == content, received.generation) == (True, 7)
        # No third request either: the client would ask for the bucket's metadata, which needs another permission.
        assert ranges == [(None, None), (f"bytes={half}-", ["7"])]

    def test_missing_credentials_are_unavailable(
        self, kind: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
        with pytest.raises(Unavailable, match=r"absent\.json was not found.*gcloud auth"):
            kind("some-bucket").read("x")


CONTENT = os.urandom(300_000)
Headers = dict[str, str]


class Scripted(BaseHTTPRequestHandler):
    """Answers as the tests' `Answers` say, one after the other; the last again and again."""

    answers: ClassVar[list[tuple[int, Headers, bytes, int]]]
    seen: ClassVar[list[tuple[str, str | None, dict[str, list[str]]]]]

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.command, self.headers.get("Range"), parse_qs(urlsplit(self.path).query)))
        status, headers, body, sent = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not status:  # the answer is lost
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:sent])
        if status == 200 and sent < len(body):
            self.wfile.flush()
            time.sleep(0.6 if headers.get("Stall") else 0)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Scripted]]:
    """A server of one test, whose answers it sets."""
    handler = type("Handler", (Scripted,), {"answers": [], "seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        yield handler
        server.shutdown()


def _whole(content: bytes = CONTENT, **headers: str) -> tuple[int, Headers, bytes, int]:
    known = {"X-Goog-Generation": "7", "X-Goog-Hash": f"crc32c={checksum(content)}"}
    return 200, known | {name.replace("_", "-"): value for name, value in headers.items()}, content, len(content)


def _error(status: int) -> tuple[int, Headers, bytes, int]:
    return status, {}, b"", 0


LOST = _error(0)
CUT = (*_whole()[:3], 100_000)
STALLED = (200, {**_whole()[1], "Stall": "1"}, CONTENT, 100_000)
REST = (206, {"X-Goog-Generation": "7"}, CONTENT[100_000:], len(CONTENT))


@pytest.fixture
def json_api() -> Iterator[JsonApiStore]:
    store = JsonApiStore("some-bucket", patience=2, timeout=0.3)
    yield store
    store.close()


@pytest.mark.parametrize("fault", [_error(503), _error(429), _error(500), LOST], ids=["503", "429", "500", "lost"])
def test_what_fails_for_a_moment_is_asked_again(scripted: type[Scripted], json_api: JsonApiStore, fault: Any) -> None:
    scripted.answers[:] = [fault, fault, _whole()]
    assert json_api.read("x").data == CONTENT
    assert len(scripted.seen) == 3


@pytest.mark.parametrize("fault", [CUT, STALLED], ids=["cut", "stalled"])
def test_a_broken_stream_goes_on_where_it_stopped(scripted: type[Scripted], json_api: JsonApiStore, fault: Any) -> None:
    scripted.answers[:] = [fault, _error(503), REST]
    assert json_api.read("x") == Content(CONTENT, 7)
    assert [(part, query.get("generation")) for _, part, query in scripted.seen] == [
        (None, None),
        ("bytes=100000-", ["7"]),
        ("bytes=100000-", ["7"]),
    ]


def test_a_server_that_knows_no_parts_sends_the_whole_again(scripted: type[Scripted], json_api: JsonApiStore) -> None:
    scripted.answers[:] = [CUT, _whole()]
    assert json_api.read("x").data == CONTENT


def test_an_object_that_is_replaced_meanwhile_is_not_missing(scripted: type[Scripted], json_api: JsonApiStore) -> None:
    scripted.answers[:] = [CUT, _error(404)]
    with pytest.raises(Unavailable, match="x was replaced while it was read"):
        json_api.read("x")


@pytest.mark.parametrize(
    ("status", "error", "remedy"),
    [(401, Unavailable, "Check the network"), (403, Denied, "Check the account's roles")],
)
def test_a_refusal_is_told_at_once_in_its_own_words(
    scripted: type[Scripted], json_api: JsonApiStore, status: int, error: type[Exception], remedy: str
) -> None:
    body = b'{"error": {"code": 403, "message": "kim@example.com does not have storage.objects.get access."}}'
    scripted.answers[:] = [(status, {}, body, len(body))]
    with pytest.raises(error, match=rf"{status} .*: kim@example.com does not have .*access\. {remedy}") as caught:
        json_api.read("x")
    assert type(caught.value) is error
    assert len(scripted.seen) == 1


def test_other_bytes_than_those_that_are_stored_are_refused(scripted: type[Scripted], json_api: JsonApiStore) -> None:
    scripted.answers[:] = [_whole(X_Goog_Hash=f"crc32c={checksum(b'other')},md5=AAAA")]
    with pytest.raises(Unavailable, match=r"x in gs://some-bucket .*checksum"):
        json_api.read("x")


def test_an_object_that_is_stored_compressed_is_inflated(scripted: type[Scripted], json_api: JsonApiStore) -> None:
    packed = gzip.compress(CONTENT)
    scripted.answers[:] = [
        (*_whole(packed, Content_Encoding="gzip")[:3], 5_000),
        (206, {}, packed[5_000:], len(packed)),
    ]
    assert json_api.read("x").data == CONTENT
    scripted.answers[:] = [_whole(X_Goog_Stored_Content_Encoding="gzip", X_Goog_Hash="crc32c=AAAAAA==")]
    assert json_api.read("x").data == CONTENT  # inflated by the server
    scripted.answers[:] = [_whole(packed[:-9], Content_Encoding="gzip")]
    with pytest.raises(Unavailable, match="gzip stream"):
        json_api.read("x")


def test_a_write_whose_answer_is_lost_is_sent_again(scripted: type[Scripted], json_api: JsonApiStore) -> None:
    scripted.answers[:] = [LOST, _error(412)]
    with pytest.raises(PreconditionFailed, match="x in gs://some-bucket"):
        json_api.write("x", b"1", if_generation=0)
    assert [query["ifGenerationMatch"] for _, _, query in scripted.seen] == [["0"], ["0"]]


@pytest.mark.parametrize("body", [b"<html>proxy</html>", b"{}", b"null"])
def test_an_answer_of_something_else_is_no_store(scripted: type[Scripted], json_api: JsonApiStore, body: bytes) -> None:
    scripted.answers[:] = [(200, {}, body, len(body))]
    for use in (lambda: json_api.read("x"), lambda: json_api.write("x", b"1")):
        with pytest.raises(Unavailable):
            use()


def _answer_503(listener: socket.socket) -> None:
    answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            connection.sendall(answer)
