"""Predictions over HTTP: photos in every form, the query, overlays, and what is logged."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from classifier.serving.instance import Instance
from tests.support.app_client import PHOTO, client_for, form, picture, send, settings_for
from tests.support.serving import MODEL


def test_a_prediction_is_complete(client: FlaskClient, published: Path) -> None:
    reply = send(client, **{"X-Request-Id": "upload-42"})
    body = reply.get_json()
    manifest = json.loads((published / MODEL / "versions/v1/manifest.json").read_bytes())
    assert list(body) == [
        "label", "confidence", "label_idx", "status", "score", "tta", "predictions", "model", "request_id"
    ]  # fmt: skip
    assert body["label"] == manifest["labels"][body["label_idx"]] == body["predictions"][0]["label"]
    assert body["confidence"] == body["predictions"][0]["confidence"] == round(body["confidence"], 6)
    confidences = [one["confidence"] for one in body["predictions"]]
    assert confidences == sorted(confidences, reverse=True)
    assert sum(confidences) == pytest.approx(1, abs=1e-4)
    assert {one["label"] for one in body["predictions"]} == set(manifest["labels"])
    assert body["model"] == {"name": MODEL, "version": "v1", "channel": "production", "task": "single-label"}
    assert body["request_id"] == reply.headers["X-Request-Id"] == "upload-42"
    # The tiny model's file has no score of its own.
    assert (body["score"], body["tta"]) == (body["confidence"], False)
    steps = ", ".join(rf"{step};dur=[\d.]+" for step in ("decode", "queue", "infer", "encode"))
    assert re.fullmatch(steps, reply.headers["Server-Timing"])


def test_golden_photos_get_their_labels(client: FlaskClient, published: Path) -> None:
    version = published / MODEL / "versions/v1"
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


def test_status_is_unknown_below_the_versions_own_threshold(
    client: FlaskClient, tmp_path: Path, published: Path
) -> None:
    server = Instance(settings_for(published))
    loaded = server.current()
    for threshold, status in ((0.0, "ok"), (1.1, "unknown")):
        manifest = dataclasses.replace(loaded.manifest, thresholds={"unknown": threshold})
        server._serving = dataclasses.replace(loaded, manifest=manifest)
        body = send(client_for(published, server)).get_json()
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


def test_a_bare_heatmap_is_small_and_grey(client: FlaskClient, published: Path) -> None:
    loaded = Instance(settings_for(published)).current()
    with loaded.pool.model() as model:
        blank = np.zeros((model.height, model.width, 3), np.uint8)
        rows, columns = model.run(blank).heatmaps.shape[1:]
    gradcam = send(client, "?gradcam=1&gradcam_format=heatmap").get_json()["gradcam"]
    image = picture(base64.b64decode(gradcam["image"]))
    assert (gradcam["media_type"], image.size, image.mode) == ("image/png", (columns, rows), "L")


def test_no_overlay_unless_asked_for(client: FlaskClient) -> None:
    for query in ("", "?gradcam=0", "?gradcam=false"):
        assert "gradcam" not in send(client, query).get_json()


def test_labels_that_are_words_of_the_parameter_can_be_explained(published: Path) -> None:
    server = Instance(settings_for(published))
    loaded = server.current()
    labels = ("0", "1", "true", "label:1")
    server._serving = dataclasses.replace(loaded, manifest=dataclasses.replace(loaded.manifest, labels=labels))
    client = client_for(published, server)
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
        "score", "tta", "views", "cached", "decode_ms", "queue_ms", "infer_ms", "encode_ms",
    }  # fmt: skip
    assert (entry["severity"], entry["request_id"], entry["version"]) == ("INFO", "r1", "v1")
    assert (entry["label"], entry["confidence"]) == (body["label"], body["confidence"])
    assert len(line) < 600
