"""The HTTP contract over a published bundle: photos in every form, overlays, and every bad input as a problem."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image
from serving import FUNCTIONS, MODEL, bomb, closed_port, damage, photo_bytes, publish
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from classifier.app import create_app
from classifier.server import Server
from classifier.settings import Settings

PHOTO = photo_bytes()
RED, GREEN = (200, 30, 30), (30, 170, 60)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_bundle_original: Path) -> Path:
    folder = tmp_path_factory.mktemp("published") / "store"
    publish(folder, tiny_bundle_original)
    return folder


@pytest.fixture(scope="module")
def client(store: Path, tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """A client of an app with small limits and a folder of photos that may be named."""
    photos = tmp_path_factory.mktemp("photos")
    (photos / "uploads").mkdir()
    (photos / "uploads" / "cat.jpg").write_bytes(PHOTO)
    (photos / "uploads" / "large.jpg").write_bytes(bytes(300_001))
    return client_for(store, photo_store=str(photos), max_image_bytes=300_000)


def client_for(store: Path | str, **changes: Any) -> FlaskClient:
    settings = dataclasses.replace(Settings(model_store=str(store), model_name=MODEL), **changes)
    client = create_app(settings).test_client()
    client.environ_base["pointer.stores"] = (settings.model_store, settings.photo_store)
    return client


def send(client: FlaskClient, query: str = "", photo: bytes = PHOTO, **headers: str) -> TestResponse:
    return client.post("/" + query, data=photo, content_type="image/jpeg", headers=headers)


def form(*files: tuple[str, bytes]) -> dict[str, Any]:
    fields: dict[str, list[Any]] = {}
    for name, content in files:
        fields.setdefault(name, []).append(FileStorage(io.BytesIO(content), "photo.jpg"))
    boundary, body = encode_multipart(fields)
    return {"data": body, "content_type": f"multipart/form-data; boundary={boundary}"}


def problem(reply: TestResponse, status: int, slug: str) -> str:
    """Check that a reply is a whole problem, and return its detail."""
    body = reply.get_json(force=True)
    assert (reply.status_code, body["type"]) == (status, f"urn:pointer:problem:{slug}"), body
    assert reply.content_type == "application/problem+json"
    assert body["status"] == status
    assert body["title"] and body["detail"] and body["request_id"] == reply.headers["X-Request-Id"]
    assert "Traceback" not in reply.text and str(FUNCTIONS) not in reply.text
    stores = reply.request.environ["pointer.stores"]
    assert not any(place and place in reply.text for place in stores), "a reply tells where the store is"
    return str(body["detail"])


def picture(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


# What works


def test_a_prediction_is_complete(client: FlaskClient, store: Path) -> None:
    reply = send(client, **{"X-Request-Id": "upload-42"})
    body = reply.get_json()
    manifest = json.loads((store / MODEL / "versions/v1/manifest.json").read_bytes())
    assert list(body) == [
        "label", "confidence", "label_idx", "status", "score", "tta", "predictions", "model", "request_id"
    ]  # fmt: skip
    assert body["label"] == manifest["labels"][body["label_idx"]] == body["predictions"][0]["label"]
    assert body["confidence"] == body["predictions"][0]["confidence"] == round(body["confidence"], 6)
    confidences = [one["confidence"] for one in body["predictions"]]
    assert confidences == sorted(confidences, reverse=True)
    assert sum(confidences) == pytest.approx(1, abs=1e-4)
    assert {one["label"] for one in body["predictions"]} == set(manifest["labels"])
    assert body["model"] == {"name": MODEL, "version": "v1", "channel": "production"}
    assert body["request_id"] == reply.headers["X-Request-Id"] == "upload-42"
    # The tiny model's file has no score of its own.
    assert (body["score"], body["tta"]) == (body["confidence"], False)
    steps = ", ".join(rf"{step};dur=[\d.]+" for step in ("decode", "queue", "infer", "encode"))
    assert re.fullmatch(steps, reply.headers["Server-Timing"])


def test_golden_photos_get_their_labels(client: FlaskClient, store: Path) -> None:
    version = store / MODEL / "versions/v1"
    cases = json.loads((version / "manifest.json").read_bytes())["golden"]
    assert cases
    for case in cases:
        body = send(client, "?top_k=100", (version / case["file"]).read_bytes()).get_json()
        assert body["confidence"] == pytest.approx(max(case["probabilities"]), abs=0.02)


def test_every_way_to_send_a_photo_gives_the_same_answer(client: FlaskClient) -> None:
    ways: list[dict[str, Any]] = [
        form(("image", PHOTO)),
        {"data": PHOTO, "content_type": "image/jpeg"},
        {"data": PHOTO, "content_type": "application/octet-stream"},
        {"json": {"image": base64.b64encode(PHOTO).decode()}},
        {"json": {"object": "uploads/cat.jpg"}},
    ]
    bodies = [client.post("/", **way).get_json() for way in ways]
    for body in bodies:
        del body["request_id"]
    assert "label" in bodies[0]
    assert all(body == bodies[0] for body in bodies)


def test_hosting_paths_are_the_same_paths(client: FlaskClient) -> None:
    assert client.get("/api/model").get_json() == client.get("/model").get_json()
    for path in ("/api", "/api/"):
        assert client.post(path, **form(("image", PHOTO))).status_code == 200


@pytest.mark.parametrize(("top_k", "count"), [("1", 1), ("2", 2), ("5", 4), ("100", 4)])
def test_top_k(client: FlaskClient, top_k: str, count: int) -> None:
    assert len(send(client, f"?top_k={top_k}").get_json()["predictions"]) == count


def test_status_is_unknown_below_the_versions_own_threshold(client: FlaskClient, tmp_path: Path, store: Path) -> None:
    server = Server(Settings(model_store=str(store), model_name=MODEL))
    loaded = server.current()
    for threshold, status in ((0.0, "ok"), (1.1, "unknown")):
        manifest = dataclasses.replace(loaded.manifest, thresholds={"unknown": threshold})
        server._serving = dataclasses.replace(loaded, manifest=manifest)
        body = send(create_app(server.settings, server).test_client()).get_json()
        assert (body["status"], body["label"]) == (status, send(client).get_json()["label"])


@pytest.mark.parametrize(
    ("query", "media_type", "size"),
    [
        ("?gradcam=1", "image/jpeg", (320, 240)),
        ("?gradcam=true&gradcam_format=png", "image/png", (320, 240)),
        ("?gradcam=1&gradcam_format=webp&gradcam_size=160", "image/webp", (160, 120)),
        ("?gradcam=1&gradcam_size=64", "image/jpeg", (64, 48)),
    ],
)
def test_an_overlay_is_a_picture_of_the_right_format_and_size(
    client: FlaskClient, query: str, media_type: str, size: tuple[int, int]
) -> None:
    body = send(client, query).get_json()
    assert (body["gradcam"]["label"], body["gradcam"]["media_type"]) == (body["label"], media_type)
    image = picture(base64.b64decode(body["gradcam"]["image"], validate=True))
    assert image.get_format_mimetype() == media_type
    assert (image.size, image.mode) == (size, "RGB")


def test_a_bare_heatmap_is_small_and_grey(client: FlaskClient, store: Path) -> None:
    loaded = Server(Settings(model_store=str(store), model_name=MODEL)).current()
    with loaded.pool.model() as model:
        rows, columns = model.heatmap_size
    gradcam = send(client, "?gradcam=1&gradcam_format=heatmap").get_json()["gradcam"]
    image = picture(base64.b64decode(gradcam["image"]))
    assert (gradcam["media_type"], image.size, image.mode) == ("image/png", (columns, rows), "L")


def test_no_overlay_unless_asked_for(client: FlaskClient) -> None:
    for query in ("", "?gradcam=0", "?gradcam=false"):
        assert "gradcam" not in send(client, query).get_json()


def test_labels_that_are_words_of_the_parameter_can_be_explained(store: Path) -> None:
    server = Server(Settings(model_store=str(store), model_name=MODEL))
    loaded = server.current()
    labels = ("0", "1", "true", "label:1")
    server._serving = dataclasses.replace(loaded, manifest=dataclasses.replace(loaded.manifest, labels=labels))
    client = create_app(server.settings, server).test_client()
    for label in labels:
        assert send(client, f"?gradcam=label:{label}").get_json()["gradcam"]["label"] == label
    assert "gradcam" not in send(client, "?gradcam=0").get_json()
    body = send(client, "?gradcam=1").get_json()
    assert body["gradcam"]["label"] == body["label"]
    assert send(client, "?gradcam=label:").status_code == 400


def test_another_label_can_be_explained(client: FlaskClient) -> None:
    body = send(client).get_json()
    other = body["predictions"][-1]["label"]
    for name in (other, f"label:{other}"):
        asked = send(client, f"?gradcam={name}&top_k=1").get_json()
        assert asked["label"] == body["label"] != asked["gradcam"]["label"] == other


@pytest.mark.parametrize(
    ("accept", "query", "media_type"),
    [
        ("image/*", "?gradcam=1", "image/jpeg"),
        ("image/png", "?gradcam=1", "image/png"),
        ("image/webp, application/json;q=0.5", "?gradcam=1", "image/webp"),
        ("image/*", "?gradcam=1&gradcam_format=png", "image/png"),
        ("image/*", "?gradcam=1&gradcam_format=heatmap", "image/png"),
    ],
)
def test_accept_image_gives_the_overlay_itself(client: FlaskClient, accept: str, query: str, media_type: str) -> None:
    reply = send(client, query, Accept=accept)
    assert (reply.status_code, reply.content_type) == (200, media_type)
    assert picture(reply.data).get_format_mimetype() == media_type
    body = send(client).get_json()
    assert reply.headers["X-Pointer-Label"] == body["label"]
    assert float(reply.headers["X-Pointer-Confidence"]) == pytest.approx(body["confidence"], abs=1e-5)
    assert reply.headers["X-Pointer-Version"] == "v1"
    assert "Accept" in reply.headers["Vary"]


@pytest.mark.parametrize("accept", ["*/*", "application/json, image/*;q=0.5", "text/html, */*;q=0.1"])
def test_json_is_given_unless_an_image_is_preferred(client: FlaskClient, accept: str) -> None:
    assert send(client, "?gradcam=1", Accept=accept).content_type == "application/json"


def test_a_turned_photo_has_an_upright_overlay(client: FlaskClient) -> None:
    upright = Image.open(io.BytesIO(PHOTO))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    file = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", exif=exif, quality=95)
    overlays = []
    for photo in (PHOTO, file.getvalue()):
        reply = send(client, "?gradcam=1&gradcam_format=png", photo, Accept="image/png")
        overlays.append(np.asarray(picture(reply.data), np.float32))
    assert overlays[0].shape == overlays[1].shape == (240, 320, 3)
    assert np.abs(overlays[0] - overlays[1]).mean() < 6
    assert np.abs(overlays[0] - overlays[1][:, ::-1]).mean() > 6, "the photo is symmetrical: the test shows nothing"


def test_the_model_is_described(client: FlaskClient, store: Path) -> None:
    reply = client.get("/model")
    manifest = json.loads((store / MODEL / "versions/v1/manifest.json").read_bytes())
    body = reply.get_json()
    assert (body["name"], body["version"], body["channel"]) == (MODEL, "v1", "production")
    for name in ("labels", "metrics", "thresholds", "variant", "created_at"):
        assert body[name] == manifest[name]
    assert set(body["input"]) == {"width", "height", "resize"}


def test_the_contract_is_served_as_it_is(client: FlaskClient) -> None:
    reply = client.get("/openapi.yaml")
    assert reply.data == (FUNCTIONS / "openapi.yaml").read_bytes()
    assert reply.mimetype == "application/yaml"


def test_the_contract_names_the_paths_and_slugs_that_exist(client: FlaskClient) -> None:
    import yaml

    document = yaml.safe_load((FUNCTIONS / "openapi.yaml").read_text())
    for path, methods in document["paths"].items():
        allowed = client.open(path, method="DELETE").headers["Allow"].split(", ")
        assert {method.upper() for method in methods} == set(allowed) - {"HEAD", "OPTIONS"}
    parameters = {one.get("name") for one in document["paths"]["/"]["post"]["parameters"]} - {None}
    assert all(name in problem(send(client, "?x=1"), 400, "invalid-request") for name in parameters)


def test_the_page_and_its_files(client: FlaskClient) -> None:
    total = 0
    for file in sorted((FUNCTIONS / "web").iterdir()):
        reply = client.get("/" if file.name == "index.html" else f"/{file.name}")
        assert reply.data == file.read_bytes()
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        again = client.get(reply.request.path, headers={"If-None-Match": reply.headers["ETag"]})
        assert again.status_code == 304
        assert "http" not in reply.text.replace("http-equiv", ""), "the page asks another server for something"
        total += len(reply.data)
    assert total < 15_000


def test_the_pages_links_work_here_and_behind_hosting(client: FlaskClient) -> None:
    rewrite = json.loads((FUNCTIONS.parent / "firebase.json").read_text())["hosting"]["rewrites"][0]["source"]
    assert rewrite == "/api/**"
    files = {file.name for file in (FUNCTIONS / "web").iterdir()}
    for link in re.findall(r'(?:href|src)="([^":]+)"', client.get("/").text):
        assert client.get(f"/{link}").status_code == 200
        assert link in files or link.startswith("api/"), f"Hosting has no {link}"


def test_hosting_sends_the_same_policy(client: FlaskClient) -> None:
    hosting = json.loads((FUNCTIONS.parent / "firebase.json").read_text())["hosting"]
    sent = {header["key"]: header["value"] for header in hosting["headers"][0]["headers"]}
    assert sent["Content-Security-Policy"] == client.get("/").headers["Content-Security-Policy"]


def test_head_has_headers_and_no_body(client: FlaskClient) -> None:
    for path in ("/", "/model", "/healthz", "/openapi.yaml"):
        reply = client.head(path)
        assert (reply.status_code, reply.data) == (200, b"")


def test_healthz_loads_nothing(tmp_path: Path) -> None:
    reply = client_for(tmp_path / "no store").get("/healthz")
    assert (reply.status_code, reply.get_json()) == (200, {"status": "ok"})
    assert not (tmp_path / "no store").exists()


@pytest.mark.parametrize("given", ["", "with spaces", "a" * 129, 'quote"', "line%0Abreak;"])
def test_a_request_id_that_is_not_sane_is_replaced(client: FlaskClient, given: str) -> None:
    reply = client.get("/healthz", headers={"X-Request-Id": given})
    assert re.fullmatch(r"[0-9a-f]{32}", reply.headers["X-Request-Id"])


def test_a_prediction_is_one_log_line_without_the_photo(
    client: FlaskClient, capsys: pytest.CaptureFixture[str]
) -> None:
    send(client)
    capsys.readouterr()
    body = send(client, "?gradcam=1", **{"X-Request-Id": "r1"}).get_json()
    (line,) = capsys.readouterr().out.splitlines()
    entry = json.loads(line)
    assert set(entry) == {
        "severity", "message", "request_id", "httpRequest", "version", "channel", "label", "confidence", "status",
        "score", "tta", "decode_ms", "queue_ms", "infer_ms", "encode_ms",
    }  # fmt: skip
    assert (entry["severity"], entry["request_id"], entry["version"]) == ("INFO", "r1", "v1")
    assert (entry["label"], entry["confidence"]) == (body["label"], body["confidence"])
    assert len(line) < 600


# What does not


NO_PHOTO: list[dict[str, Any]] = [
    {},
    {"data": {}, "content_type": "multipart/form-data"},
    {"data": b"", "content_type": "application/json"},
    {"json": {}},
]


@pytest.mark.parametrize("body", NO_PHOTO)
def test_no_photo(client: FlaskClient, body: dict[str, Any]) -> None:
    assert "received none" in problem(client.post("/", **body), 400, "invalid-request")


def both(name: str) -> dict[str, Any]:
    return {"data": {"image": (io.BytesIO(PHOTO), "a.jpg"), name: "uploads/cat.jpg"}}


TWO_PHOTOS: list[dict[str, Any]] = [
    form(("image", PHOTO), ("image", PHOTO)),
    both("object"),
    {"json": {"image": "aGk=", "object": "uploads/cat.jpg"}},
    {"data": b'{"image": "aGk=", "image": "aGk="}', "content_type": "application/json"},
]


@pytest.mark.parametrize("body", TWO_PHOTOS)
def test_two_photos(client: FlaskClient, body: dict[str, Any]) -> None:
    detail = problem(client.post("/", **body), 400, "invalid-request")
    assert detail == "Expected one photo, received 2."


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


def test_a_photo_that_takes_too_much_memory_is_refused_by_its_header(store: Path) -> None:
    client = client_for(store, max_image_memory=5_000_000)
    webp = photo_bytes((1000, 600), media="WEBP")
    detail = problem(send(client, photo=webp), 413, "too-large")
    assert "WebP photo is 1,000 x 600" in detail and "14 MB" in detail and "5 MB" in detail and "JPEG" in detail
    assert send(client, photo=photo_bytes((1000, 600))).status_code == 200


def test_a_form_that_is_too_large_is_not_told_that_its_photo_is() -> None:
    many = form(*[(f"field{number}", b"x") for number in range(25)])
    boundary, text = encode_multipart({"image": "x" * 600_000})
    long = {"data": text, "content_type": f"multipart/form-data; boundary={boundary}"}
    for body in (many, long):
        detail = problem(client_for("no store", max_image_bytes=1_000_000).post("/", **body), 413, "too-large")
        assert "at most 20 fields" in detail and "500,000 bytes of text" in detail


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


@pytest.mark.parametrize("text", ["%%%", "aGk", "aGk=\n", "aG k=", "a-_=", "é"])
def test_wrong_base64(client: FlaskClient, text: str) -> None:
    assert "base64" in problem(client.post("/", json={"image": text}), 400, "invalid-request")


def test_a_data_url_is_refused_with_the_remedy(client: FlaskClient) -> None:
    reply = client.post("/", json={"image": "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()})
    assert "after" not in problem(reply, 400, "invalid-request") or "data: URL" in reply.text
    assert "data: URL" in reply.text


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


def test_another_field_is_named(client: FlaskClient) -> None:
    assert "'photo'" in problem(client.post("/", **form(("photo", PHOTO))), 400, "invalid-request")
    text = client.post("/", data={"image": "photo.jpg"}, content_type="multipart/form-data")
    assert "image=@photo.jpg" in problem(text, 400, "invalid-request")


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("text/plain", {}),
        ("application/x-www-form-urlencoded", {}),
        ("video/mp4", {}),
        ("", {}),
        ("image/jpeg", {"Content-Encoding": "gzip"}),
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


def test_objects_are_forbidden_unless_a_place_is_set(store: Path) -> None:
    reply = client_for(store).post("/", json={"object": "uploads/cat.jpg"})
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


def test_a_busy_server_says_when_to_come_back(store: Path) -> None:
    server = Server(Settings(model_store=str(store), model_name=MODEL, interpreters=1, wait=0.05))
    client = create_app(server.settings, server).test_client()
    client.environ_base["pointer.stores"] = (str(store),)
    with server.current().pool.model():
        reply = send(client)
    problem(reply, 503, "overloaded")
    assert reply.headers["Retry-After"] == "1"
    assert send(client).status_code == 200


def test_a_fault_of_ours_is_logged_whole_and_told_without_internals(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(Settings(model_store=str(store), model_name=MODEL))
    # A manifest that names too few labels cannot be served; `current` refuses it, so it is put in by hand.
    loaded = server.current()
    server._serving = dataclasses.replace(loaded, manifest=dataclasses.replace(loaded.manifest, labels=()))
    capsys.readouterr()
    client = create_app(server.settings, server).test_client()
    client.environ_base["pointer.stores"] = (str(store),)
    reply = send(client)
    assert "IndexError" not in problem(reply, 500, "internal")
    (line,) = capsys.readouterr().out.splitlines()
    entry = json.loads(line)
    assert (entry["severity"], entry["request_id"]) == ("ERROR", reply.headers["X-Request-Id"])
    assert "IndexError" in entry["error"] and "predictions.py" in entry["stack_trace"]
