"""Every bad input, and every fault of the service, as a problem that says what to do."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from classifier.serving.instance import Instance
from tests.support.app_client import PHOTO, client_for, form, problem, send, settings_for
from tests.support.serving import MODEL, bomb, closed_port, damage, photo_bytes, publish

NO_PHOTO: list[dict[str, Any]] = [
    {},
    {"data": {}, "content_type": "multipart/form-data"},
    {"data": b"", "content_type": "application/json"},
    {"json": {}},
]


@pytest.mark.parametrize("body", NO_PHOTO)
def test_no_photo(client: FlaskClient, body: dict[str, Any]) -> None:
    assert "received none" in problem(client.post("/", **body), 400, "invalid-request")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"image": "aGk=", "object": "uploads/cat.jpg"}', "Expected one photo in JSON, received 2."),
        ('{"image": "aGk=", "image": "aGk="}', "Expected each member of JSON once; received 'image' 2 times."),
    ],
)
def test_two_photos_in_json(client: FlaskClient, body: str, expected: str) -> None:
    detail = problem(client.post("/", data=body, content_type="application/json"), 400, "invalid-request")
    assert detail.startswith(f"{expected} Several") and "multipart/form-data" in detail


def test_a_photo_in_the_body_and_another_in_the_query(client: FlaskClient) -> None:
    detail = problem(send(client, "?object=uploads/cat.jpg"), 400, "invalid-request")
    assert "'object'" in detail and "top_k" in detail


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        cut(PHOTO),
        cut(photo_bytes(media="PNG")),
        PHOTO[:20],
    ],
    ids=["0 bytes", "text", "svg", "truncated JPEG", "truncated PNG", "header only"],
)
@pytest.mark.parametrize("way", ["raw", "form"])
def test_not_a_photo(client: FlaskClient, content: bytes, way: str) -> None:
    body = form(("image", content)) if way == "form" else {"data": content, "content_type": "image/jpeg"}
    problem(client.post("/", **body), 422, "invalid-image")


def test_a_bomb_is_refused_by_its_pixels(client: FlaskClient) -> None:
    content = bomb()
    assert len(content) < 300_000
    detail = problem(send(client, photo=content), 413, "too-large")
    assert "20,000 x 20,000" in detail and "50,000,000" in detail


def test_a_photo_that_takes_too_much_memory_is_refused_by_its_header(published: Path) -> None:
    client = client_for(published, max_image_memory=5_000_000)
    webp = photo_bytes((1000, 600), media="WEBP")
    detail = problem(send(client, photo=webp), 413, "too-large")
    assert "WebP photo is 1,000 x 600" in detail and "14 MB" in detail and "5 MB" in detail and "JPEG" in detail
    assert send(client, photo=photo_bytes((1000, 600))).status_code == 200


def test_a_form_that_is_too_large_is_not_told_that_its_photo_is() -> None:
    many = form(*[(f"field{number}", b"x") for number in range(25)])
    head = b"--x\r\nContent-Disposition: form-data; name=image\r\nX: " + b"x" * 600_000
    long = {"data": head, "content_type": "multipart/form-data; boundary=x"}
    for body in (many, long):
        detail = problem(client_for("no store", max_image_bytes=1_000_000).post("/", **body), 413, "too-large")
        assert "at most 20 fields" in detail and "1,000,000 bytes each" in detail


LARGE = photo_bytes() + bytes(300_000)


@pytest.mark.parametrize(
    "body",
    [
        {"data": LARGE, "content_type": "image/jpeg"},
        form(("image", LARGE)),
        {"json": {"image": base64.b64encode(LARGE).decode()}},
        {"json": {"object": "uploads/large.jpg"}},
        {"data": bytes(2_000_000), "content_type": "image/jpeg"},
        form(("image", bytes(2_000_000))),
        {"json": {"image": "A" * 2_000_000}},
    ],
)
def test_over_the_byte_limit(client: FlaskClient, body: dict[str, Any]) -> None:
    assert "300,000 bytes" in problem(client.post("/", **body), 413, "too-large")


@pytest.mark.parametrize("text", ["%%%", "a", "aGk==", "aG k=", "a-+=", "é", "data:,aGk=", "aGk=aGk="])
def test_wrong_base64(client: FlaskClient, text: str) -> None:
    assert "base64" in problem(client.post("/", json={"image": text}), 400, "invalid-request")


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]x", b'"photo"', b"[1]", b"7", b"\xff\xfe{", b"[" * 100_000, b'{"image": 7}', b'{"photo": "aGk="}'],
)
def test_broken_json(client: FlaskClient, content: bytes) -> None:
    problem(client.post("/", data=content, content_type="application/json"), 400, "invalid-request")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (
            b"--x\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\nabc",
            "multipart/form-data; boundary=x",
        ),
        (b"abc", "multipart/form-data; boundary=x"),
        (b"abc", "multipart/form-data"),
    ],
)
def test_broken_multipart(client: FlaskClient, content: bytes, kind: str) -> None:
    detail = problem(client.post("/", data=content, content_type=kind), 400, "invalid-request")
    assert "multipart/form-data" in detail


def test_text_in_the_photos_place_is_told_how_to_send_a_file(client: FlaskClient) -> None:
    text = client.post("/", data={"image": "photo.jpg"}, content_type="multipart/form-data")
    assert "image=@photo.jpg" in problem(text, 400, "invalid-request")


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("text/plain", {}),
        ("video/mp4", {}),
        ("nonsense", {}),
        ("image/jpeg", {"Content-Encoding": "zstd"}),
    ],
)
def test_wrong_content_type(client: FlaskClient, kind: str, headers: dict[str, str]) -> None:
    problem(client.post("/", data=PHOTO, content_type=kind, headers=headers), 415, "unsupported-media")


@pytest.mark.parametrize("top_k", ["0", "101", "-1", "five", "1.5", "", "1e1", "٣", "9" * 99])
def test_bad_top_k(client: FlaskClient, top_k: str) -> None:
    detail = problem(send(client, f"?top_k={top_k}"), 400, "invalid-request")
    assert detail.startswith("Expected top_k to be a whole number from 1 to 100; received ")


def test_an_unknown_label_lists_close_ones(client: FlaskClient) -> None:
    labels = client.get("/model").get_json()["labels"]
    close = problem(send(client, f"?gradcam={labels[0]}x"), 400, "invalid-request")
    assert labels[0] in close and f"'{labels[0]}x'" in close
    far = problem(send(client, "?gradcam=zzzzzzzz"), 400, "invalid-request")
    assert all(label in far for label in labels)


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("?topk=3", "top_k, gradcam"),
        ("?top_k=1&top_k=2", "once"),
        ("?gradcam=", "gradcam"),
        ("?gradcam=1&gradcam_format=gif", "jpeg, png, webp, heatmap"),
        ("?gradcam=1&gradcam_size=31", "from 32 to 2048"),
        ("?gradcam=1&gradcam_size=2049", "from 32 to 2048"),
        ("?gradcam_format=png", "gradcam=1"),
        ("?gradcam_size=64", "gradcam=1"),
    ],
)
def test_other_bad_parameters(client: FlaskClient, query: str, part: str) -> None:
    assert part in problem(send(client, query), 400, "invalid-request")


@pytest.mark.parametrize(
    ("accept", "query"),
    [("image/png", ""), ("text/html", "?gradcam=1"), ("image/jpeg", "?gradcam=1&gradcam_format=png")],
)
def test_nothing_acceptable(client: FlaskClient, accept: str, query: str) -> None:
    problem(send(client, query, Accept=accept), 406, "not-acceptable")


@pytest.mark.parametrize("path", ["/nothing", "/api/nothing", "/versions/v1/model.tflite", "/..%2fmain.py", "/main.py"])
def test_unknown_path(client: FlaskClient, path: str) -> None:
    assert "POST /" in problem(client.get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/"), ("DELETE", "/model"), ("POST", "/healthz"), ("POST", "/api/model")]
)
def test_wrong_method(client: FlaskClient, method: str, path: str) -> None:
    reply = client.open(path, method=method)
    assert method in problem(reply, 405, "method-not-allowed")
    assert "GET" in reply.headers["Allow"]


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../cat.jpg", "uploads/../../cat.jpg", "a//b", "./a", "a\\b", "a\nb", "https://a.example/b"],
)
def test_object_names_stay_inside_the_store(client: FlaskClient, name: str) -> None:
    problem(client.post("/", json={"object": name}), 400, "invalid-request")


def test_an_object_that_does_not_exist(client: FlaskClient) -> None:
    assert "'uploads/dog.jpg'" in problem(client.post("/", json={"object": "uploads/dog.jpg"}), 404, "not-found")


def test_objects_are_forbidden_unless_a_place_is_set(published: Path) -> None:
    reply = client_for(published).post("/", json={"object": "uploads/cat.jpg"})
    assert "PHOTO_STORE" in problem(reply, 403, "forbidden")


@pytest.mark.parametrize("ask", [send, lambda client: client.get("/model")])
def test_nothing_promoted_says_what_to_run(tmp_path: Path, ask: Callable[[FlaskClient], TestResponse]) -> None:
    detail = problem(ask(client_for(tmp_path / "store")), 503, "not-ready")
    assert "admin_cli publish RUN" in detail and "admin_cli promote v1" in detail


def test_a_bad_request_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    problem(send(client_for(tmp_path / "store"), "?top_k=x"), 400, "invalid-request")


def test_an_unreachable_store_is_not_named_to_callers_but_in_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{closed_port()}")
    reply = send(client_for("gs://secret-bucket/prefix"))
    problem(reply, 503, "store-unavailable")
    assert "secret-bucket" not in reply.text and "127.0.0.1" not in reply.text
    entry = json.loads(capsys.readouterr().out)
    assert entry["severity"] == "ERROR" and "secret-bucket" in entry["stack_trace"]
    assert entry["request_id"] == reply.headers["X-Request-Id"]


def test_a_corrupted_model_names_the_file_and_both_hashes(tmp_path: Path, tiny_bundle: Path) -> None:
    publish(tmp_path / "store", tiny_bundle)
    damage(tmp_path / "store")
    detail = problem(send(client_for(tmp_path / "store")), 503, "corrupt-version")
    assert "v1" in detail and "model.tflite" in detail
    assert len(set(re.findall(r"[0-9a-f]{64}", detail))) == 2


@pytest.mark.parametrize("gone", ["v1", "v1/manifest.json", "v1/model.tflite"])
@pytest.mark.parametrize("ask", [send, lambda client: client.get("/model")])
def test_a_version_with_missing_parts_is_told_without_its_store(
    tmp_path: Path, tiny_bundle: Path, gone: str, ask: Callable[[FlaskClient], TestResponse]
) -> None:
    publish(tmp_path / "store", tiny_bundle)
    path = tmp_path / "store" / MODEL / "versions" / gone
    path.rename(tmp_path / "gone")
    reply = ask(client_for(tmp_path / "store"))
    if reply.status_code == 503:
        assert "v1" in problem(reply, 503, "corrupt-version")
    else:
        assert gone == "v1/model.tflite"


def test_a_manifest_that_cannot_be_used_names_its_field(tmp_path: Path, tiny_bundle: Path) -> None:
    publish(tmp_path / "store", tiny_bundle)
    file = tmp_path / "store" / MODEL / "versions/v1/manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"width"', b'"breadth"'))
    reply = send(client_for(tmp_path / "store"))
    problem(reply, 503, "corrupt-version")
    assert reply.get_json(force=True)["field"] == "input.width"


def test_a_busy_server_says_when_to_come_back(published: Path) -> None:
    server = Instance(settings_for(published, interpreters=1, wait=0.05))
    client = client_for(published, server)
    with server.current().pool.model():
        reply = send(client)
    problem(reply, 503, "overloaded")
    assert reply.headers["Retry-After"] == "1"
    assert send(client).status_code == 200


def test_a_fault_of_ours_is_logged_whole_and_told_without_internals(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Instance(settings_for(published))
    # A manifest that names too few labels cannot be served; `current` refuses it, so it is put in by hand.
    loaded = server.current()
    server._serving = dataclasses.replace(loaded, manifest=dataclasses.replace(loaded.manifest, labels=()))
    capsys.readouterr()
    client = client_for(published, server)
    reply = send(client)
    assert "IndexError" not in problem(reply, 500, "internal")
    (line,) = capsys.readouterr().out.splitlines()
    entry = json.loads(line)
    assert (entry["severity"], entry["request_id"]) == ("ERROR", reply.headers["X-Request-Id"])
    assert "IndexError" in entry["error"] and "prediction.py" in entry["stack_trace"]


def test_json_of_very_many_values_is_not_parsed(client: FlaskClient) -> None:
    """As Python's objects they would take thirty times the memory of their text."""
    for value in ("{}", "[]", "0"):
        body = f'{{"image": [{",".join([value] * 2000)}]}}'
        detail = problem(client.post("/", data=body, content_type="application/json"), 400, "invalid-request")
        assert detail == "Expected JSON with a photo in base64; received more than 1,000 values."


def test_a_label_of_any_length_is_not_looked_for(client: FlaskClient) -> None:
    assert "1,000 characters; received 1,001" in problem(send(client, "?gradcam=" + "x" * 1001), 400, "invalid-request")
    assert "Expected gradcam to be" in problem(send(client, "?gradcam=" + "x" * 1000), 400, "invalid-request")


def test_a_problem_quotes_little_of_what_was_sent(client: FlaskClient) -> None:
    detail = problem(client.post("/", json={"x" * 9000: 1}), 400, "invalid-request")
    assert len(detail) == 2000 and detail.endswith("x…")


@pytest.mark.parametrize("path", ["/", "/model", "/openapi.yaml"])
def test_if_match_of_another_document(client: FlaskClient, path: str) -> None:
    etag = client.get(path).headers["ETag"]
    assert client.get(path, headers={"If-Match": etag}).status_code == 200
    assert "If-Match" in problem(client.get(path, headers={"If-Match": '"other"'}), 412, "precondition-failed")
