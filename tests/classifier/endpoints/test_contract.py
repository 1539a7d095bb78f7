"""openapi.yaml against the server: its examples work, its statuses can be reached, and what it forbids is noticed."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask, request
from flask.testing import FlaskClient
from openapi_spec_validator import validate
from werkzeug.test import TestResponse

from classifier.endpoints import problems
from classifier.endpoints.app import create_app
from classifier.endpoints.unread import answer
from classifier.registry.public_files import CARD_FILE
from classifier.serving.instance import Instance
from classifier.settings import Settings
from tests.support.app_client import client_for
from tests.support.bundles import TINY_LABELS
from tests.support.contract import DOCUMENT, Contract, operations
from tests.support.processes import ROOT
from tests.support.schemathesis_hooks import SAMPLE
from tests.support.serving import MODEL, Serving, copy_store, photo_bytes, publish, serve

PHOTO = photo_bytes()
DATA: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
CONTRACT = Contract(DATA)
BODIES: dict[str, dict[str, Any]] = {
    "multipart/form-data": {"files": {"image": PHOTO}, "data": {"gradcam": "pizza", "gradcam_format": "png"}},
    "image/*": {"data": PHOTO, "headers": {"Content-Type": "image/jpeg"}},
    "application/octet-stream": {"data": PHOTO, "headers": {"Content-Type": "application/octet-stream"}},
}
"""What is sent as a body whose examples are no text."""
EXAMPLES_AT_MOST = "25"


CORRECTION = {"request_id": "abc-1", "label": "pizza"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_bundle_original: Path) -> Path:
    """A store whose model has the labels of the document's examples."""
    labels = DATA["paths"]["/model"]["get"]["responses"]["200"]["content"]["application/json"]["example"]["labels"]
    bundle = shutil.copytree(tiny_bundle_original, tmp_path_factory.mktemp("contract") / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    renamed = dict(zip(TINY_LABELS, labels, strict=True))
    manifest["labels"] = labels
    for case in manifest["golden"]:
        case["label"] = renamed[case["label"]]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    publish(bundle.parent / "store", bundle, public=("golden/0.png", CARD_FILE))
    return bundle.parent / "store"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    (folder / "uploads").mkdir()
    (folder / "uploads/cat.jpg").write_bytes(PHOTO)
    return folder


@pytest.fixture(scope="module")
def server(store: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serve(
        store, tmp_path_factory.mktemp("server"), PHOTO_STORE=str(photos), FEEDBACK_LIMIT="100000/day"
    ) as serving:
        yield serving


# The document by itself


def test_the_document_is_openapi() -> None:
    validate(DATA)
    ids = [operation["operationId"] for _, _, operation in operations(DATA)]
    assert len(set(ids)) == len(ids)


def examples_in(value: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Find each example of the document, with its schema."""
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from examples_in(each, f"{where}/{index}")
    elif isinstance(value, dict):
        schema = value["schema"] if isinstance(value.get("schema"), dict) else value
        if "example" in value:
            yield where, schema, value["example"]
        if isinstance(value.get("examples"), dict):
            for name, example in value["examples"].items():
                yield f"{where}/{name}", schema, example["value"]
        for name, each in value.items():
            if name not in ("example", "examples"):
                yield from examples_in(each, f"{where}/{name}")


def test_every_example_fits_its_schema() -> None:
    found = list(examples_in(DATA))
    wrong = {where: CONTRACT.errors(schema, example) for where, schema, example in found}
    assert not {where: errors for where, errors in wrong.items() if errors}
    assert len(found) > 30


def test_an_example_shows_every_body_that_is_text_every_header_and_every_parameter() -> None:
    for path, method, operation in operations(DATA):
        for parameter in map(CONTRACT.resolved, operation.get("parameters", [])):
            assert "example" in parameter or "examples" in parameter, (path, method, parameter["name"])
        for status, response in operation["responses"].items():
            response = CONTRACT.resolved(response)
            for media_type, content in response.get("content", {}).items():
                if "json" in media_type:
                    assert "example" in content or "examples" in content, (path, method, status)
            for name, header in response.get("headers", {}).items():
                header = CONTRACT.resolved(header)
                schema = CONTRACT.resolved(header["schema"])
                assert "example" in header or "const" in schema, (path, method, status, name)


def test_the_problems_of_the_document_are_those_of_the_table() -> None:
    """The titles and statuses of its examples are what the server says."""
    table = {kind.slug: [] for kind in problems.TABLE.values()}
    for kind in problems.TABLE.values():
        table[kind.slug].append((kind.status, kind.title))
    for where, _, example in examples_in(DATA["components"]["responses"]):
        if isinstance(example, dict) and "title" in example:
            slug = example["type"].rpartition(":")[2]
            assert (example["status"], example["title"]) in table[slug], where


# The document against a server


def request_examples() -> Iterator[Any]:
    """Each example of a parameter or of a body, as a request: its path, method and what `requests` takes."""
    for path, method, operation in operations(DATA):
        media_types = operation.get("requestBody", {}).get("content", {})
        base = {"files": {"image": PHOTO}} if media_types else {}
        if path == "/feedback":
            base = {"json": CORRECTION}
        yield pytest.param(path, method, base, id=f"{method} {path}")
        for media_type, content in media_types.items():
            if media_type in BODIES:
                yield pytest.param(path, method, BODIES[media_type], id=f"{method} {path} {media_type}")
                continue
            for name, example in content["examples"].items():
                sent = {"data": json.dumps(example["value"]), "headers": {"Content-Type": media_type}}
                yield pytest.param(path, method, sent, id=f"{method} {path} {media_type} {name}")
        for parameter in map(CONTRACT.resolved, operation.get("parameters", [])):
            shown = parameter.get("examples") or {"": {"value": parameter["example"]}}
            for name, example in shown.items():
                sent = {**base}
                if parameter["in"] == "query":
                    needs_gradcam = parameter["name"].startswith("gradcam_")
                    sent["params"] = {parameter["name"]: example["value"]} | ({"gradcam": "1"} if needs_gradcam else {})
                elif parameter["in"] == "path":
                    pass  # where there is such a thing: `placed`
                elif parameter["name"] == "Content-Encoding":
                    headers = {"Content-Type": "image/jpeg", "Content-Encoding": example["value"]}
                    sent = {"data": gzip.compress(PHOTO), "headers": headers}
                else:
                    sent["headers"] = {**base.get("headers", {}), parameter["name"]: example["value"]}
                yield pytest.param(path, method, sent, id=f"{method} {path} {parameter['name']} {name}")


@pytest.mark.parametrize(("path", "method", "sent"), list(request_examples()))
def test_every_example_of_a_request_works(server: Serving, path: str, method: str, sent: dict[str, Any]) -> None:
    reply = server.ask(method.upper(), placed(path), **sent)  # which holds the reply against the document
    partly = "Range" in sent.get("headers", {})
    expected = (200, 201) if path == "/feedback" else (206 if partly else 200,)
    assert reply.status_code in expected, reply.text[:500]


def placed(path: str) -> str:
    """Put the sample that the store has into a path."""
    return path.replace("{sha256}", SAMPLE)


def ask(client: FlaskClient, path: str, method: str, **given: Any) -> TestResponse:
    if method == "post" and "data" not in given and "json" not in given:
        given = (
            {"json": CORRECTION, **given}
            if path == "/feedback"
            else {"data": PHOTO, "content_type": "image/jpeg", **given}
        )
    return client.open(path, method=method.upper(), **given)


class _Late(io.RawIOBase):
    """A body that does not come in time, as gunicorn's socket tells it."""

    def read(self, size: int = -1) -> bytes:
        raise TimeoutError


def provoked(store: Path, photos: Path, tmp_path: Path, capfd: Any) -> dict[int, Callable[[str, str], TestResponse]]:
    """For each status how to get it from an operation."""
    settings = Settings(model_store=str(store), model_name=MODEL, photo_store=str(photos), max_image_bytes=200_000)

    def client(**changes: Any) -> FlaskClient:
        return create_app(dataclasses.replace(settings, **changes)).test_client()

    def known(path: str, method: str) -> TestResponse:
        here = client()
        return ask(here, path, method, headers={"If-None-Match": here.get(path).headers["ETag"]})

    def limited(path: str, method: str) -> TestResponse:
        here = client(rate_limit="1/day")
        ask(here, path, method)
        return ask(here, path, method)

    def late(path: str, method: str) -> TestResponse:
        framework, app = Flask("framework"), create_app(settings)
        framework.add_url_rule(path, view_func=lambda: answer(app, request), methods=[method.upper()])
        media_type = "application/json" if path == "/feedback" else "image/jpeg"
        sent = {"CONTENT_TYPE": media_type, "wsgi.input": _Late(), "wsgi.input_terminated": True}
        return framework.test_client().open(path, method=method.upper(), environ_overrides=sent)

    def broken(path: str, method: str) -> TestResponse:
        app = create_app(settings, Instance(settings))
        app.view_functions = dict.fromkeys(app.view_functions, lambda **_: 1 // 0)
        app.view_functions["pointer.model"] = lambda: 1 // 0
        return ask(app.test_client(), path, method)

    here = client()
    return {
        200: partial(ask, here),
        206: partial(ask, here, headers={"Range": "bytes=5-9"}),
        304: known,
        400: partial(ask, here, query_string="top_k=0&model=food&model=food"),
        401: partial(ask, client(access="auth", project="demo-pointer")),
        403: partial(ask, client(photo_store=""), json={"object": "uploads/cat.jpg"}),
        404: lambda path, method: (
            ask(here, path, method, json={"object": "uploads/dog.jpg"})
            if path == "/"
            else ask(here, path, method, query_string={"model": "cats"})
        ),
        406: partial(ask, here, headers={"Accept": "text/html"}),
        408: late,
        412: partial(ask, here, headers={"If-Match": '"other"'}),
        413: partial(ask, here, data=bytes(200_001), content_type="image/jpeg"),
        415: partial(ask, here, data=b"photo", content_type="text/plain"),
        416: partial(ask, here, headers={"Range": "bytes=9999999999-"}),
        422: partial(ask, here, data=b"photo", content_type="image/jpeg"),
        429: limited,
        500: broken,
        503: partial(ask, client(model_store=str(tmp_path / "nothing"))),
    }


def provoked_by_corrections(store: Path) -> dict[int, Callable[[str, str], TestResponse]]:
    """What differs for corrections; the first of them is kept, the second known."""
    here = client_for(store, max_image_bytes=1000)
    photo = {"label": "pizza", "consent": True, "image": base64.b64encode(bytes(1001)).decode()}

    def again(path: str, method: str) -> TestResponse:
        ask(here, path, method)
        return ask(here, path, method)

    return {
        404: partial(ask, here, json={**CORRECTION, "model": "cats"}),
        200: again,
        201: partial(ask, here, json={**CORRECTION, "label": None}),
        400: partial(ask, here, json={"label": "pizza"}),
        403: partial(ask, client_for(store, feedback_limit="")),
        413: partial(ask, here, json=photo),
        422: partial(ask, here, json={**photo, "image": "aGVsbG8="}),
        503: partial(ask, client_for(store / MODEL / "channels.json")),  # a file is no store
    }


ELSEWHERE = {(path, 403) for path in DATA["paths"] if path.startswith("/model")} | {("/models", 503)}
"""What takes a user without the claim, or keys that cannot be had: tests/classifier/access has them."""


def test_every_documented_status_occurs(store: Path, photos: Path, tmp_path: Path, capfd: Any) -> None:
    ways = provoked(store, photos, tmp_path, capfd)
    of_corrections = provoked_by_corrections(copy_store(store, tmp_path / "copy"))
    for path, method, operation in operations(DATA):
        for status in map(int, operation["responses"]):
            if (path, status) in ELSEWHERE:
                continue
            way = (of_corrections if path == "/feedback" and status in of_corrections else ways)[status]
            reply = way(placed(path), method)
            assert reply.status_code == status, (path, method, status, reply.text[:500])


def test_schemathesis_finds_nothing(server: Serving, tmp_path: Path) -> None:
    """Properties of the whole contract, with data that it allows and data that it forbids; the same in each run."""
    (tmp_path / "schemathesis.toml").write_text(
        "[checks.negative_data_rejection]\n"
        "expected-statuses = [400, 401, 403, 404, 406, 412, 413, 415, 416, 422]\n"
        "[checks.positive_data_acceptance]\n"
        'expected-statuses = ["2xx", 304, 412, 416]\n'
    )
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", DOCUMENT, "--url", server.url, "--checks", "all",
            "--max-examples", EXAMPLES_AT_MOST, "--seed", "1", "--generation-deterministic",
            "--request-timeout", "20", "--no-color", "--warnings", "off",
        ],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2_000:]
    tested = re.search(r"Operations:\s+(\d+) selected / (\d+) total", done.stdout)
    assert tested and tested[1] == tested[2] == str(len(list(operations(DATA)))), done.stdout[-3_000:]
