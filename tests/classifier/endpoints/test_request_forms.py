"""The forms in which clients send photos: each that is beyond doubt is taken, what may mean two things is not."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import tracemalloc
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from classifier.serving.instance import Instance
from tests.support.app_client import PHOTO, client_for, form, problem, send, settings_for
from tests.support.encoded_photos import ENCODINGS, saved
from tests.support.serving import photo_bytes

TEXT = base64.b64encode(PHOTO).decode()
URL_SAFE = base64.urlsafe_b64encode(PHOTO).decode()
LINES = base64.encodebytes(PHOTO).decode()
OTHER = photo_bytes(color=(30, 200, 30))
JPEG = b"Content-Type: image/jpeg"


def part(disposition: bytes | str, content: bytes | str, *headers: bytes) -> bytes:
    """One part of a form, as its bytes are sent."""
    disposition, content = (each.encode() if isinstance(each, str) else each for each in (disposition, content))
    head = b"\r\n".join((b"Content-Disposition: form-data; " + disposition, *headers))
    return b"--x\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def parts(*each: bytes) -> dict[str, Any]:
    return {"data": b"".join(each) + b"--x--\r\n", "content_type": "multipart/form-data; boundary=x"}


def as_json(value: object) -> dict[str, Any]:
    return {"data": json.dumps(value), "content_type": "application/json"}


def zipped(body: Mapping[str, Any], coding: str = "gzip") -> dict[str, Any]:
    data = body["data"]
    content = gzip.compress(data if isinstance(data, bytes) else data.encode())
    return {**body, "data": content, "headers": {"Content-Encoding": coding}}


def answered(client: FlaskClient, body: Mapping[str, Any], query: str = "") -> dict[str, Any]:
    reply = client.post("/" + query, **body)
    assert reply.status_code == 200, reply.text
    return {**reply.get_json(), "request_id": ""}


PICTURE = part('name="image"; filename="a.jpg"', PHOTO, JPEG)
RAW = {"data": PHOTO, "content_type": "image/jpeg"}
FORMS: dict[str, dict[str, Any]] = {
    "data URL": as_json({"image": f"data:image/jpeg;base64,{TEXT}"}),
    "data URL without a type": as_json({"image": f"DATA:;charset=utf-8; Base64,{LINES}"}),
    "base64 in lines": as_json({"image": LINES}),
    "base64 in lines of Windows": as_json({"image": LINES.replace("\n", "\r\n")}),
    "base64 without padding": as_json({"image": TEXT.rstrip("=")}),
    "base64 for URLs": as_json({"image": URL_SAFE}),
    "base64 for URLs, in lines, without padding": as_json(
        {"image": f" {URL_SAFE[:76]}\n{URL_SAFE[76:].rstrip('=')}\n"}
    ),
    "a part without a file name": parts(part('name="image"', PHOTO, JPEG)),
    "a part without a file name or a type": parts(part('name="image"', PHOTO)),
    "a part in base64": parts(part('name="image"', TEXT)),
    "a part with a data URL": parts(part('name="image"', f"data:image/jpeg;base64,{TEXT}")),
    "the field file": form(("file", PHOTO)),
    "the field photo": form(("photo", PHOTO)),
    "the field image[]": form(("image[]", PHOTO)),
    "the field without a name": parts(part('name=""; filename="a.jpg"', PHOTO)),
    "a file name in Latin-1": parts(part(b'name="image"; filename="caf\xe9.jpg"', PHOTO)),
    "a file name in Shift-JIS": parts(part('name="image"; filename="表.jpg"'.encode("shift_jis"), PHOTO)),
    "a file name in Shift-JIS with a quote lost": parts(part('name="image"; filename="表"'.encode("shift_jis"), PHOTO)),
    "an input that was left empty": parts(PICTURE, part('name="other"; filename=""', b"")),
    "no type": {"data": PHOTO},
    "curl's type": {"data": PHOTO, "content_type": "application/x-www-form-urlencoded"},
    "S3's type": {"data": PHOTO, "content_type": "binary/octet-stream"},
    "a photo in gzip": zipped(RAW),
    "a photo in x-gzip": zipped(RAW, "X-GZip"),
    "JSON in gzip": zipped(as_json({"image": TEXT})),
    "a form in gzip": zipped(parts(PICTURE)),
    "curl's type in gzip": zipped({"data": PHOTO, "content_type": "application/x-www-form-urlencoded"}),
    "an encoding without a name": {**RAW, "headers": {"Content-Encoding": ""}},
    "the encoding Identity": {**RAW, "headers": {"Content-Encoding": "Identity"}},
}


@pytest.fixture(scope="module")
def expected(client: FlaskClient) -> dict[str, Any]:
    return answered(client, RAW)


@pytest.mark.parametrize("name", FORMS)
def test_a_photo_in_any_form_gets_the_same_answer(client: FlaskClient, expected: dict[str, Any], name: str) -> None:
    assert answered(client, FORMS[name]) == expected


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_photo_of_any_format_needs_no_type(client: FlaskClient, encoding: str) -> None:
    photo = saved(encoding)
    assert answered(client, {"data": photo}) == answered(client, parts(part('name="image"', photo)))


@pytest.mark.parametrize("size", [500_000, 1_500_000])
def test_a_part_without_a_file_name_may_be_as_large_as_one_with(published: Path, size: int) -> None:
    client = client_for(published, max_image_bytes=2_000_000)
    assert answered(client, parts(part('name="image"', PHOTO + bytes(size - len(PHOTO)))))["label"] == "red"


@pytest.mark.parametrize(
    "names", [("image[]", "image[]"), ("image[0]", "image[1]"), ("photo1", "photo2"), ("a_1", "a-2")]
)
def test_several_photos_may_be_numbered(client: FlaskClient, names: tuple[str, str]) -> None:
    results = answered(client, form((names[0], PHOTO), (names[1], OTHER)))["results"]
    assert [result["label"] for result in results] == ["red", "green"]


def test_several_photos_may_be_without_file_names(client: FlaskClient) -> None:
    body = parts(part('name="image"', PHOTO), PICTURE, part('name="image"', base64.b64encode(OTHER)))
    assert [result["label"] for result in answered(client, body)["results"]] == ["red", "red", "green"]


# Options beside the photo

BESIDE: dict[str, dict[str, Any]] = {
    "text parts": parts(
        part('name="top_k"', "2"), PICTURE, part('name="gradcam"', "green\r\n", b"Content-Type: text/plain"),
        part('name="gradcam_format"', "png"), part('name="gradcam_size"', " 64 "), part('name="tta"', "TRUE"),
    ),
    "members": as_json(
        {"image": TEXT, "top_k": 2, "gradcam": "green", "gradcam_format": "png", "gradcam_size": 64, "tta": True}
    ),
    "members as some languages write them": as_json(
        {"image": TEXT, "top_k": 2.0, "gradcam": "green", "gradcam_format": "png", "gradcam_size": 64.0, "tta": 1}
    ),
    "members beside a stored photo": as_json(
        {"object": "uploads/cat.jpg", "top_k": 2, "gradcam": "green", "gradcam_format": "png", "gradcam_size": 64}
        | {"tta": 1}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_options_beside_the_photo_are_those_of_the_query(client: FlaskClient, name: str) -> None:
    query = "?top_k=2&gradcam=green&gradcam_format=png&gradcam_size=64&tta=1"
    expected = answered(client, RAW, query)
    assert (expected["gradcam"]["media_type"], expected["tta"]) == ("image/png", True)
    assert answered(client, BESIDE[name]) == expected


def test_options_may_come_from_both_places(client: FlaskClient) -> None:
    body = parts(PICTURE, part('name="gradcam"', "1"))
    split = answered(client, body, "?gradcam_size=64&top_k=1")
    assert split == answered(client, RAW, "?gradcam=1&gradcam_size=64&top_k=1")
    overlay = client.post("/?gradcam_format=webp", headers={"Accept": "image/*"}, **body)
    assert (overlay.status_code, overlay.content_type) == (200, "image/webp")


@pytest.mark.parametrize(("value", "explained"), [(True, True), (1, True), (1.0, True), ("1", True), (False, False),
                                                  (0, False), ("0", False), (None, False)])  # fmt: skip
def test_gradcam_in_json_may_be_a_number(client: FlaskClient, value: object, explained: bool) -> None:
    assert ("gradcam" in answered(client, as_json({"image": TEXT, "gradcam": value}))) == explained


# What stays refused, with the form that works

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "base64 with blanks": (as_json({"image": TEXT[:40] + " " + TEXT[41:]}), "%2B"),
    "base64 of two alphabets": (as_json({"image": TEXT[:40] + "+_" + TEXT[42:]}), "data:image/jpeg;base64,"),
    "base64 cut short": (as_json({"image": (TEXT.rstrip("=") + "AAA")[: len(TEXT) // 4 * 4 - 3]}), "cut short"),
    "a data URL without base64": (as_json({"image": "data:image/svg+xml,<svg/>"}), "without base64"),
    "a data URL without a comma": (as_json({"image": "data:image/jpeg;base64" + TEXT}), "without base64"),
    "two fields": (form(("image", PHOTO), ("mask", PHOTO)), "'image' and in 'mask'"),
    "a name instead of a photo": (parts(part('name="image"', "photo.jpg")), "-F image=@photo.jpg"),
    "an option that is none": (parts(PICTURE, part('name="topk"', "3")), "'topk'"),
    "an option that is a file": (parts(PICTURE, part('name="gradcam"; filename="a.jpg"', PHOTO)), "field 'image'"),
    "an option twice": (parts(PICTURE, part('name="top_k"', "3"), part('name="top_k"', "4")), "top_k once"),
    "an option in Latin-1": (parts(PICTURE, part('name="gradcam"', b"caf\xe9")), "UTF-8"),
    "a form without a boundary": ({**parts(PICTURE), "content_type": "multipart/form-data"}, "boundary"),
    "a member twice": ({"data": '{"top_k": 1, "top_k": 2}', "content_type": "application/json"}, "'top_k' 2 times"),
    "a member that is none": (as_json({"image": TEXT, "topk": 3}), "'topk'"),
    "half a number": (as_json({"image": TEXT, "top_k": 2.5}), "a whole number; received 2.5"),
    "text for a number": (as_json({"image": TEXT, "top_k": "2"}), 'a whole number; received "2"'),
    "a number for a label": (as_json({"image": TEXT, "gradcam": 2}), "true, false or a label; received 2"),
    "gzip that is none": ({**RAW, "headers": {"Content-Encoding": "gzip"}}, "not in gzip"),
    "gzip cut short": ({**zipped(RAW), "data": gzip.compress(PHOTO)[:-9]}, "cut short"),
    "gzip with more": ({**zipped(RAW), "data": gzip.compress(PHOTO) + b"more"}, "after its end"),
    "nothing in gzip": ({**zipped(RAW), "data": b""}, "cut short"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_clear_is_refused_with_a_remedy(client: FlaskClient, name: str) -> None:
    body, remedy = REFUSED[name]
    assert remedy in problem(client.post("/", **body), 400, "invalid-request")


@pytest.mark.parametrize(
    ("body", "remedy"),
    [
        ({"data": json.dumps({"image": TEXT})}, "-H 'Content-Type: application/json'"),
        ({"data": b"BMW is a car, not a bitmap"}, "-F image=@photo.jpg"),
        ({"data": "image=photo.jpg", "content_type": "application/x-www-form-urlencoded"}, "no photo in it"),
        ({"data": PHOTO, "content_type": "text/plain"}, "received text/plain."),
        ({**RAW, "headers": {"Content-Encoding": "br"}}, "received 'br'"),
        ({**RAW, "headers": {"Content-Encoding": "gzip, gzip"}}, "received 'gzip, gzip'"),
    ],
)
def test_another_type_is_refused_with_a_remedy(client: FlaskClient, body: dict[str, Any], remedy: str) -> None:
    assert remedy in problem(client.post("/", **body), 415, "unsupported-media")


def test_an_option_in_the_query_and_beside_the_photo(client: FlaskClient) -> None:
    detail = problem(client.post("/?top_k=3", **parts(PICTURE, part('name="top_k"', "3"))), 400, "invalid-request")
    assert detail == "Expected top_k once; received it in the address and beside the photo."


def test_options_beside_the_photo_are_checked_as_those_of_the_query_are(client: FlaskClient) -> None:
    for name, value in (("top_k", "0"), ("gradcam_size", "64"), ("gradcam", ""), ("tta", "yes")):
        problem(client.post("/", **parts(PICTURE, part(f'name="{name}"', value))), 400, "invalid-request")


# Limits

BOMB = gzip.compress(bytes(30_000_000), 9)


@pytest.mark.parametrize("kind", ["image/jpeg", "application/json", "multipart/form-data; boundary=x", ""])
def test_what_inflates_without_end_is_refused_within_the_limit(client: FlaskClient, kind: str) -> None:
    assert len(BOMB) < 50_000
    body = {"data": BOMB, "content_type": kind, "headers": {"Content-Encoding": "gzip"}}
    tracemalloc.start()
    try:
        problem(client.post("/", **body), 413, "too-large")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


LARGE = photo_bytes() + bytes(300_000)


@pytest.mark.parametrize(
    "body",
    [
        {"data": LARGE},
        zipped({"data": LARGE, "content_type": "image/jpeg"}),
        zipped(as_json({"image": base64.b64encode(LARGE).decode()})),
        as_json({"image": "data:image/jpeg;base64," + base64.b64encode(LARGE).decode()}),
        parts(part('name="image"', LARGE)),
        parts(part('name="image"', base64.b64encode(LARGE))),
    ],
)
def test_over_the_byte_limit(client: FlaskClient, body: dict[str, Any]) -> None:
    assert "300,000 bytes" in problem(client.post("/", **body), 413, "too-large")


def test_a_photo_of_just_the_limit_is_taken_in_gzip(published: Path) -> None:
    client = client_for(published, max_image_bytes=len(PHOTO))
    assert answered(client, zipped(RAW))["label"] == "red"
    more = {"data": PHOTO + b"\0", "content_type": "image/jpeg"}
    assert problem(client.post("/", **zipped(more)), 413, "too-large") == problem(
        client.post("/", **more), 413, "too-large"
    )


def test_photos_of_every_form_count(published: Path) -> None:
    client = client_for(published, max_photos=2, rate_limit="3/day")
    three = parts(PICTURE, part('name="image"', PHOTO), part('name="image"', TEXT))
    assert "at most 2 photos" in problem(client.post("/", **three), 413, "too-large")
    two = parts(part('name="image"', PHOTO), part('name="image"', TEXT))
    reply = client.post("/", **two)
    assert (reply.status_code, reply.headers["RateLimit"].split(";")[1]) == (200, "r=0")


# Labels in another spelling


@pytest.fixture(scope="module")
def labelled(published: Path) -> FlaskClient:
    """A client of a model with labels of several words."""
    server = Instance(settings_for(published))
    loaded = server.current()
    labels = ("beef_tartare", "crème-brûlée", "Ice Cream", "ice_cream")
    server._serving = dataclasses.replace(loaded, manifest=dataclasses.replace(loaded.manifest, labels=labels))
    return client_for(published, server)


@pytest.mark.parametrize(
    ("asked", "label"),
    [
        ("Beef Tartare", "beef_tartare"),
        ("beef-tartare", "beef_tartare"),
        (" BEEF  TARTARE\t", "beef_tartare"),
        ("label:Beef Tartare", "beef_tartare"),
        (unicodedata.normalize("NFD", "crème-brûlée"), "crème-brûlée"),
        (unicodedata.normalize("NFD", "Crème Brûlée"), "crème-brûlée"),
        ("ice_cream", "ice_cream"),
        (" Ice Cream", "Ice Cream"),
    ],
)
def test_a_label_in_another_spelling(labelled: FlaskClient, asked: str, label: str) -> None:
    reply = labelled.post("/", query_string={"gradcam": asked}, **RAW)
    assert reply.get_json()["gradcam"]["label"] == label
    assert answered(labelled, parts(PICTURE, part('name="gradcam"', asked)))["gradcam"]["label"] == label


def test_a_spelling_of_two_labels_is_refused_with_both(labelled: FlaskClient) -> None:
    detail = problem(send(labelled, "?gradcam=ICE-CREAM"), 400, "invalid-request")
    assert (
        detail
        == "Expected gradcam to be one of 'Ice Cream', 'ice_cream', written in the same way; received 'ICE-CREAM'."
    )
    assert "beef_tartare" in problem(send(labelled, "?gradcam=beeftartare"), 400, "invalid-request")
