"""Hosting, functions and auth together, as firebase-tools emulates them. `make test-emulators` runs this file.

Storage's emulator is a download that is not needed anywhere else: `on_upload` is tested in
tests/classifier/endpoints/test_uploads.py.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.emulators.suite import Suite, alive, emulators
from tests.support.serving import photo_bytes, publish

PHOTO = photo_bytes()
CALL = {"data": {"image": base64.b64encode(PHOTO).decode(), "gradcam": True}}
# curl's and others' "Expect: 100-continue" is refused by Hosting's emulator; requests sends none.


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_bundle_original: Path) -> Path:
    folder = tmp_path_factory.mktemp("published") / "store"
    publish(folder, tiny_bundle_original)
    return folder


@pytest.fixture(scope="module", params=["public", "auth"])
def suite(request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    folder = tmp_path_factory.mktemp(request.param)
    with emulators(folder, MODEL_STORE=str(store), MODEL_NAME="food", access=request.param) as running:
        group = running.process.pid
        yield running
    assert alive(group) == []


def test_a_page_comes_from_hosting_with_its_headers(suite: Suite) -> None:
    page = requests.get(suite.hosting, timeout=30)
    assert page.status_code == 200 and "<title>" in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_the_rewrite_reaches_the_function(suite: Suite) -> None:
    assert requests.get(f"{suite.hosting}/api/healthz", timeout=60).json() == {"status": "ok"}


def test_a_photo_and_a_call(suite: Suite) -> None:
    """With ACCESS=auth only whoever is signed in gets an answer, whichever way it is asked for."""
    public = suite.access == "public"
    urls = (f"{suite.hosting}/api/", suite.function("predict"))
    tokens = [{}] if public else [{}, {"Authorization": "Bearer a.b.c"}]
    for headers in tokens:
        for url in urls:
            reply = requests.post(url, files={"image": PHOTO}, headers=headers, timeout=60)
            assert reply.status_code == (200 if public else 401), reply.text
            if public:
                assert reply.json()["label"] == "red"
        called = requests.post(suite.function("classify"), json=CALL, headers=headers, timeout=60)
        if public:
            result = called.json()["result"]
            assert result["label"] == result["gradcam"]["label"] == "red"
        else:
            assert (called.status_code, called.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    signed_in = {"Authorization": f"Bearer {suite.sign_up()}"}
    for url in urls:
        reply = requests.post(url, files={"image": PHOTO}, headers=signed_in, timeout=60)
        assert (reply.status_code, reply.json().get("label")) == (200, "red"), reply.text
    called = requests.post(suite.function("classify"), json=CALL, headers=signed_in, timeout=60)
    assert called.json()["result"]["model"]["version"] == "v1"
