"""The function as it runs: a real functions-framework process, started from anywhere, under real requests."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.support.serving import Serving, copy_store, damage, photo_bytes, publish, serve

PHOTO = photo_bytes()
LIMIT = 200_000
FIRST_REQUESTS = 16


@pytest.fixture(scope="module")
def server(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that has had 16 first requests at the same time; their replies were checked."""
    folder = tmp_path_factory.mktemp("server")
    with serve(published, folder, MAX_IMAGE_BYTES=str(LIMIT), CORS_ORIGINS="https://a.example") as serving:
        assert entries(serving) == []
        with ThreadPoolExecutor(FIRST_REQUESTS) as clients:
            replies = list(clients.map(lambda _: serving.post(files={"image": PHOTO}), range(FIRST_REQUESTS)))
        assert [reply.status_code for reply in replies] == [200] * FIRST_REQUESTS
        yield serving


def entries(serving: Serving) -> list[dict[str, object]]:
    return [json.loads(line) for line in serving.log.read_text().splitlines() if line[:1] == "{"]


def problem(reply: requests.Response, status: int, slug: str) -> str:
    assert reply.headers["Content-Type"] == "application/problem+json", reply.text
    body = reply.json()
    assert (reply.status_code, body["status"], body["type"]) == (status, status, f"urn:pointer:problem:{slug}")
    return str(body["detail"])


def test_16_first_requests_loaded_once_and_were_logged_once_each(server: Serving) -> None:
    messages = [entry["message"] for entry in entries(server)]
    assert messages.count("Loaded v1.") == 1
    assert messages.count("Predicted.") >= FIRST_REQUESTS


def test_what_the_framework_would_answer_by_itself_is_ours(server: Serving) -> None:
    icon, robots = requests.get(f"{server.url}/favicon.ico"), requests.get(f"{server.url}/robots.txt")
    assert (icon.status_code, icon.headers["Content-Type"]) == (200, "image/vnd.microsoft.icon")
    assert (robots.status_code, robots.text.split("\n")[:2]) == (200, ["User-agent: *", "Disallow: /"])


def test_a_photo_gets_a_label_and_an_overlay(server: Serving) -> None:
    body = server.post("/?gradcam=1&top_k=3", files={"image": PHOTO}).json()
    assert body["status"] == "ok" and len(body["predictions"]) == 3
    assert body["gradcam"]["label"] == body["label"]
    raw = server.post("/api/?gradcam=1", data=PHOTO, headers={"Content-Type": "image/jpeg", "Accept": "image/*"})
    assert raw.headers["Content-Type"] == "image/jpeg" and raw.content.startswith(b"\xff\xd8")


def test_reading_paths(server: Serving) -> None:
    assert server.get("/model").json()["version"] == "v1"
    assert server.get("/healthz").json() == {"status": "ok"}
    assert server.get("/openapi.yaml").text.startswith("openapi: 3.1")
    page = server.get("/")
    assert "<title>" in page.text and "Content-Security-Policy" in page.headers
    head = requests.head(server.url + "/model", timeout=10)
    assert (head.status_code, head.content) == (200, b"")


def test_problems_come_through_the_framework(server: Serving) -> None:
    problem(server.post(), 400, "invalid-request")
    problem(server.post(data=b"", headers={"Content-Type": "image/jpeg"}), 422, "invalid-image")
    problem(server.post(data=PHOTO[:300], headers={"Content-Type": "image/jpeg"}), 422, "invalid-image")
    problem(server.get("/nothing"), 404, "not-found")
    wrong = requests.delete(server.url + "/model", timeout=10)
    assert "DELETE" in problem(wrong, 405, "method-not-allowed")
    assert "GET" in wrong.headers["Allow"]


@pytest.mark.parametrize("size", [LIMIT + 1, 5_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_gets_its_answer(server: Serving, size: int, chunked: bool) -> None:
    body = iter([bytes(50_000)] * (size // 50_000 + 1)) if chunked else bytes(size)
    reply = server.post(data=body, headers={"Content-Type": "image/jpeg"})
    assert f"{LIMIT:,} bytes" in problem(reply, 413, "too-large")


def test_a_chunked_photo_is_a_photo(server: Serving) -> None:
    reply = server.post(data=iter([PHOTO[:100], PHOTO[100:]]), headers={"Content-Type": "image/jpeg"})
    assert reply.status_code == 200


@pytest.mark.parametrize("kind", ["image/jpeg", "multipart/form-data; boundary=x", "application/json"])
@pytest.mark.parametrize("chunk", [b"ZZ\r\nabc", b"3\r\nabcXX"], ids=["no length", "no end"])
def test_a_body_in_broken_chunks_is_the_callers_fault(server: Serving, kind: str, chunk: bytes) -> None:
    url, errors = urlsplit(server.url), server.log.read_text().count('"severity": "ERROR"')
    head = f"POST / HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
        connection.sendall(head.encode() + chunk + b"\r\n0\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["type"]) == (400, "urn:pointer:problem:invalid-request")
    assert server.log.read_text().count('"severity": "ERROR"') == errors


def test_a_connection_serves_on_after_a_refused_body(server: Serving) -> None:
    """What was not read of a refused body must not be taken for the next request."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    try:
        for _ in range(2):
            connection.request("POST", "/?top_k=0", PHOTO, {"Content-Type": "image/jpeg"})
            assert json.loads(connection.getresponse().read())["status"] == 400
            connection.request("POST", "/", PHOTO, {"Content-Type": "image/jpeg"})
            assert "label" in json.loads(connection.getresponse().read())
    finally:
        connection.close()


def test_only_the_set_origins_are_allowed(server: Serving) -> None:
    def allowed(origin: str) -> str | None:
        reply = server.get("/healthz", headers={"Origin": origin})
        return reply.headers.get("Access-Control-Allow-Origin")

    assert allowed("https://a.example") == "https://a.example"
    assert allowed("https://aXexample") is None
    assert allowed("https://b.example") is None
    preflight = requests.options(
        server.url,
        headers={"Origin": "https://a.example", "Access-Control-Request-Method": "POST"},
        timeout=10,
    )
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]


def test_nothing_promoted_then_promoted_without_a_restart(tmp_path: Path, tiny_bundle: Path) -> None:
    with serve(tmp_path / "store", tmp_path / "server", POINTER_TTL="0.2") as serving:
        assert "admin_cli promote v1" in problem(serving.post(files={"image": PHOTO}), 503, "not-ready")
        for version in ("v1", "v2"):
            publish(tmp_path / "store", tiny_bundle)
            until = time.monotonic() + 10
            while (reply := serving.post(files={"image": PHOTO})).status_code == 200:
                if reply.json()["model"]["version"] == version:
                    break
                assert time.monotonic() < until, f"{version} was promoted and did not come to be served"
                time.sleep(0.05)
            assert reply.status_code == 200


def test_a_corrupted_model_file(tmp_path: Path, published: Path) -> None:
    damaged = copy_store(published, tmp_path / "store")
    damage(damaged)
    with serve(damaged, tmp_path / "server") as serving:
        detail = problem(serving.post(files={"image": PHOTO}), 503, "corrupt-version")
        assert "model.tflite" in detail and "v1" in detail
        assert serving.get("/healthz").ok


def test_a_bad_setting_stops_the_start_and_names_itself(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"Expected ACCESS to be one of public, auth, .*; received 'everyone'"),
        serve(tmp_path, tmp_path / "server", ACCESS="everyone"),
    ):
        pytest.fail("it serves with a setting that it does not understand")


def test_it_ends_when_it_is_told_to(tmp_path: Path, published: Path) -> None:
    with serve(published, tmp_path) as serving:
        assert serving.post(files={"image": PHOTO}).ok
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(10) == 0
