"""A workflow's identity instead of a key: what GitHub's action leaves, exchanged for a token of the account.

Google's two services are played by a server here; google-auth, the file and what is sent are real.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from classifier.storage.connection import Connection

POOL = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/github/providers/github"
IMPERSONATION = "/v1/projects/-/serviceAccounts/pointer-rollout@my-pointer.iam.gserviceaccount.com:generateAccessToken"


class _Google(BaseHTTPRequestHandler):
    asked: list[tuple[str, str, str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.append((self.path, self.headers.get("Authorization", ""), body))  # type: ignore[attr-defined]
        until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._answer(
            {"access_token": "of-the-pool", "expires_in": 3600, "token_type": "Bearer", "issued_token_type": "x"}
            if self.path == "/v1/token"
            else {"accessToken": "of-the-account", "expireTime": until}
        )

    def do_GET(self) -> None:
        self._answer({"authorization": self.headers.get("Authorization", "")})

    def _answer(self, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(name="google")
def google_fixture() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Google) as server:
        server.daemon_threads = True
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_workflow_s_token_becomes_one_of_the_account(
    google: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{google.server_address[1]}"
    (tmp_path / "token").write_text("what GitHub says of the workflow")
    file = tmp_path / "gha-creds.json"
    file.write_text(
        json.dumps(
            {
                "type": "external_account",
                "audience": POOL,
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": f"{url}/v1/token",
                "service_account_impersonation_url": url + IMPERSONATION,
                "credential_source": {"file": str(tmp_path / "token")},
            }
        )
    )
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-pointer")  # as the action does; else Google is asked for it
    for name in ("STORAGE_EMULATOR_HOST", "K_SERVICE", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    connection = Connection(5)
    try:
        answers = [connection.request("GET", f"{url}/o", query={}).json() for _ in range(2)]
    finally:
        connection.close()
    assert answers == [{"authorization": "Bearer of-the-account"}] * 2
    (exchange, impersonation) = google.asked  # type: ignore[attr-defined]  # once: the token is kept
    sent = {name: value[0] for name, value in parse_qs(exchange[2]).items()}
    assert exchange[0] == "/v1/token"
    assert (sent["subject_token"], sent["audience"]) == ("what GitHub says of the workflow", POOL)
    assert impersonation[:2] == (IMPERSONATION, "Bearer of-the-pool")
