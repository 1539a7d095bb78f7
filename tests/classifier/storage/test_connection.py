"""The credentials of a bucket's requests: from a metadata server, as on Cloud Run, and from a key file.

No real Cloud Storage and no real metadata server can be reached from a test: these answer as the documentation says.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from classifier.errors import Unavailable
from classifier.storage import connection, json_api
from classifier.storage.json_api import JsonApiStore


class Google(ThreadingHTTPServer):
    """A metadata server, and a bucket that takes the newest token alone."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tokens, self.reads, self.lives, self.status = 0, 0, 3600, 200
        self.accepts, self.starting = True, 0
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Google

    def do_POST(self) -> None:
        """Give a token for a signed assertion, as OAuth's server does."""
        assert b"assertion=" in self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.tokens += 1
            token = {"access_token": f"token {self.server.tokens}", "expires_in": 3600, "token_type": "Bearer"}
        self._answer(200, json.dumps(token).encode(), **{"Content-Type": "application/json"})

    def do_GET(self) -> None:
        google = self.server
        with google.lock:
            if urlsplit(self.path).path.startswith("/computeMetadata/"):
                assert self.headers["Metadata-Flavor"] == "Google"
                if google.starting:
                    google.starting -= 1
                    self._answer(503, b"")
                    return
                google.tokens += 1
                token = {"access_token": f"token {google.tokens}", "expires_in": google.lives, "token_type": "Bearer"}
                self._answer(google.status, json.dumps(token).encode())
            elif not google.accepts or self.headers["Authorization"] != f"Bearer token {google.tokens}":
                self._answer(401, b'{"error": {"message": "Invalid Credentials"}}')
            else:
                google.reads += 1
                self._answer(200, b"content", **{"X-Goog-Generation": "7"})

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *headers.items()):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    with Google() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        address = f"127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(json_api, "PUBLIC", f"http://{address}")
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        monkeypatch.setenv("K_SERVICE", "predict")
        for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "FUNCTIONS_EMULATOR", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def store() -> Iterator[JsonApiStore]:
    store = JsonApiStore("bucket", patience=1.0, timeout=2.0)
    yield store
    store.close()


def test_one_token_serves_every_read(google, store):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: store.read("name"), range(24)))
    assert {(each.data, each.generation) for each in found} == {(b"content", 7)}
    assert (google.tokens, google.reads) == (1, 24)


def test_proxies_are_looked_for_once_until_it_is_closed(google, store, monkeypatch):
    """Looking through the environment takes longer than a small read; whoever reads a year of counts reads 1,200."""
    looks = []
    monkeypatch.setattr(connection, "getproxies", lambda: looks.append(1) or {})
    for _ in range(3):
        store.read("name")
    assert len(looks) == 1  # the bucket and the metadata server are one host here
    store.close()
    store.read("name")
    assert len(looks) == 2


def test_a_token_that_is_refused_is_renewed_once(google, store):
    store.read("name")
    google.tokens = 5  # others were given since
    assert store.read("name").data == b"content"
    assert google.tokens == 6


def test_a_token_is_renewed_before_it_ends(google, store):
    google.lives = 200
    store.read("name")
    store.read("name")
    assert google.tokens == 2


def test_a_metadata_server_that_gives_no_token_is_told_in_words(google, store):
    google.status = 404
    with pytest.raises(Unavailable, match="the metadata server answered 404 when it was asked for a token"):
        store.read("name")


def test_a_metadata_server_that_is_just_starting_is_asked_again(google, store):
    google.starting = 2
    assert store.read("name").data == b"content"
    assert google.starting == 0
    google.tokens, google.starting = 5, 1000
    with pytest.raises(Unavailable, match="the metadata server answered 503 when it was asked for a token"):
        store.read("name")


def test_a_token_that_is_refused_for_good_is_told(google, store):
    google.accepts = False
    with pytest.raises(Unavailable, match="401 Unauthorized: Invalid Credentials"):
        store.read("name")
    assert google.tokens == 2


def test_elsewhere_the_default_credentials_are_used(google, store, monkeypatch, tmp_path):
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    file = tmp_path / "key.json"
    file.write_text(
        json.dumps({
            "type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": pem,
            "client_email": "a@p.iam.gserviceaccount.com", "client_id": "1", "token_uri": f"{json_api.PUBLIC}/token",
        })
    )  # fmt: skip
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    assert store.read("name").data == store.read("name").data == b"content"
    assert google.tokens == 1
    google.tokens = 5
    assert store.read("name").data == b"content"
    assert google.tokens == 6
