"""What is read beside predictions: the model, the contract, the page and its files."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from flask.testing import FlaskClient
from PIL import Image

from tests.support.app_client import client_for, problem, send
from tests.support.serving import FUNCTIONS, MODEL

CONTRACT = ("contract.css", "contract.html")
"""The contract as a page, whose text may name addresses."""
ON_DEMAND = ("device.css", "device.js", "device_worker.js", "pixels.js")
"""What a browser loads only where ON_DEVICE is set."""


def test_the_model_is_described(client: FlaskClient, published: Path) -> None:
    reply = client.get("/model")
    manifest = json.loads((published / MODEL / "versions/v1/manifest.json").read_bytes())
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
    parameters = {one["name"] for one in document["paths"]["/"]["post"]["parameters"] if one.get("in") == "query"}
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
        asked = b"".join(re.findall(rb'(?:src|href)="[^"]*"', reply.data)) if file.name in CONTRACT else reply.data
        assert not re.search(rb"https?:|//[a-z]+\.", asked), "the page asks another server for something"
        total += len(reply.data) if file.name not in CONTRACT + ON_DEMAND else 0
    assert total < 90_000


def test_what_browsers_and_search_engines_ask_for_by_themselves(client: FlaskClient) -> None:
    """An icon of two sizes, and that nobody is to search here; open to all, as the page is."""
    closed = client_for("no store", access="auth", project="demo-pointer")
    for one in (client, closed):
        icon = one.get("/favicon.ico")
        assert (icon.status_code, icon.mimetype) == (200, "image/vnd.microsoft.icon")
        assert Image.open(io.BytesIO(icon.data)).info["sizes"] == {(16, 16), (32, 32)}
        robots = one.get("/robots.txt")
        assert (robots.mimetype, robots.text.split("\n")) == ("text/plain", ["User-agent: *", "Disallow: /", ""])


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
