"""What only a store in a bucket has: prefixes, servers that are dead or interrupt, and missing credentials."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from classifier.errors import Unavailable
from classifier.storage.cloud import CloudStore
from tests.conftest import BUCKET


class TestCloudStore:
    def test_prefixes_do_not_see_each_other(self, cloud_store: CloudStore) -> None:
        prefix = cloud_store.url.removeprefix(f"gs://{BUCKET}/")
        other = CloudStore(BUCKET, f"{prefix}-2")
        whole = CloudStore(BUCKET)
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

    def test_a_bucket_that_does_not_exist_is_unavailable(self, cloud_store: CloudStore) -> None:
        store = CloudStore("no-such-bucket")
        for use in (lambda: store.write("x", b""), lambda: list(store.list())):
            with pytest.raises(Unavailable, match=r"gs://no-such-bucket.*no bucket"):
                use()
        store.close()

    def test_a_closed_store_opens_again(self, cloud_store: CloudStore) -> None:
        cloud_store.write("x", b"1")
        cloud_store.close()
        assert cloud_store.read("x").data == b"1"

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
        self, dead_server: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", dead_server)
        import google.cloud.storage  # noqa: F401  # the first import takes seconds, which are not the store's

        store = CloudStore("some-bucket", "models", patience=0.3, timeout=0.3)
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
        store.close()

    def test_an_interrupted_download_goes_on_where_it_stopped(self, monkeypatch: pytest.MonkeyPatch) -> None:
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
            store = CloudStore("some-bucket")
            received = store.read("x")
            store.close()
            server.shutdown()
        assert (received.data == content, received.generation) == (True, 7)
        # No third request either: the client would ask for the bucket's metadata, which needs another permission.
        assert ranges == [(None, None), (f"bytes={half}-", ["7"])]

    def test_missing_credentials_are_unavailable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
        with pytest.raises(Unavailable, match=r"absent\.json was not found.*gcloud auth"):
            CloudStore("some-bucket").read("x")


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
