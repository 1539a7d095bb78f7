"""Sample photos and model card: shown where whoever published the version said so, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from classifier.registry.manifest import Manifest
from classifier.registry.public_files import CARD_FILE
from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.local import LocalStore
from tests.support.app_client import client_for, problem
from tests.support.bundles import write_bundle
from tests.support.serving import MODEL

SHOWN = ("golden/0.png", "golden/2.png", CARD_FILE)


@pytest.fixture(scope="module", name="shown")
def shown_fixture(tmp_path_factory: pytest.TempPathFactory, tiny_bundle_original: Path) -> Path:
    """A store whose v1 shows two photos and its card; v2 shows nothing."""
    store = tmp_path_factory.mktemp("shown") / "store"
    registry = Registry(LocalStore(store), MODEL)
    registry.publish(tiny_bundle_original, who="kim", replay=golden.replay, public=SHOWN)
    registry.publish(tiny_bundle_original, who="kim", replay=golden.replay)
    registry.promote("v1", who="kim", reason="", replay=golden.replay)
    return store


@pytest.fixture(name="app")
def app_fixture(shown: Path) -> FlaskClient:
    return client_for(shown)


def test_the_model_names_samples_card_and_since_when_it_serves(app: FlaskClient, shown: Path) -> None:
    body = app.get("/model").get_json()
    assert [(each["label"], each["media_type"]) for each in body["samples"]] == [
        ("blue", "image/png"),
        ("grey", "image/png"),
    ]
    assert (body["card"], body["feedback"]) == ("model/card", True)
    history = json.loads((shown / MODEL / "channels.json").read_text())["history"]
    assert body["since"] == history[-1]["time"]
    assert client_for(shown, feedback_limit="").get("/model").get_json()["feedback"] is False


def test_a_sample_is_the_photo_for_ever(app: FlaskClient, shown: Path) -> None:
    version = shown / MODEL / "versions/v1"
    for sample, name in zip(app.get("/model").get_json()["samples"], SHOWN, strict=False):
        reply = app.get(f"/{sample['url']}")
        assert reply.data == (version / name).read_bytes()
        assert (reply.mimetype, len(reply.data)) == (sample["media_type"], sample["bytes"])
        assert set(reply.headers["Cache-Control"].split(", ")) == {"public", "max-age=31536000", "immutable"}
        assert reply.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        again = app.get(f"/api/{sample['url']}", headers={"If-None-Match": reply.headers["ETag"]})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", reply.headers["ETag"])


def test_the_card_is_asked_for_again_each_time(app: FlaskClient) -> None:
    reply = app.get("/model/card")
    assert (reply.text, reply.mimetype) == ("# Tells four colours apart\n", "text/markdown")
    assert reply.headers["Cache-Control"] == "no-cache"
    assert app.get("/model/card", headers={"If-None-Match": reply.headers["ETag"]}).status_code == 304


def test_no_other_file_is_to_be_had(app: FlaskClient, shown: Path) -> None:
    files = json.loads((shown / MODEL / "versions/v1/manifest.json").read_text())["files"]
    hidden = [entry["sha256"] for name, entry in files.items() if name not in SHOWN[:2]]
    assert len(hidden) >= 6
    for sha256 in (*hidden, "0" * 64, "..", "golden%2F1.png"):
        problem(app.get(f"/model/samples/{sha256}"), 404, "not-found")
    assert app.get("/model/samples/").status_code == app.get("/model/samples").status_code == 404


def test_a_version_that_shows_nothing(published: Path) -> None:
    app = client_for(published)
    body = app.get("/model").get_json()
    assert "samples" not in body and "card" not in body
    detail = problem(app.get("/model/card"), 404, "not-found")
    assert detail == (
        "Expected a version that shows its model card; v1 shows none. `admin_cli publish RUN --card` "
        "publishes one that does."
    )
    (sha256,) = {
        each["sha256"]
        for name, each in json.loads((published / MODEL / "versions/v1/manifest.json").read_text())["files"].items()
        if name == "golden/0.png"
    }
    problem(app.get(f"/model/samples/{sha256}"), 404, "not-found")


def test_callers_without_a_token_get_neither(shown: Path) -> None:
    sha256 = json.loads((shown / MODEL / "versions/v1/manifest.json").read_text())["files"]["golden/0.png"]["sha256"]
    closed = client_for(shown, access="auth", project="demo-pointer")
    for path in (f"/model/samples/{sha256}", "/model/card"):
        problem(closed.get(path), 401, "unauthenticated")


def test_bytes_that_are_not_what_was_published_are_not_sent(shown: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(shown, tmp_path / "store")
    app = client_for(tmp_path / "store")
    sample = app.get("/model").get_json()["samples"][0]
    (tmp_path / "store" / MODEL / "versions/v1/golden/0.png").write_bytes(b"another photo")
    problem(app.get(f"/{sample['url']}"), 503, "corrupt-version")


def test_what_a_bundle_says_itself_does_not_count(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", public=("golden/0.png",))
    registry = Registry(LocalStore(tmp_path / "store"), MODEL)
    assert registry.publish(bundle, who="kim", replay=lambda *_: None).public == ()
    stored = json.loads(registry.store.read(f"{MODEL}/versions/v1/manifest.json").data)
    assert "public" not in stored, "a release before it reads what it always did"
    named = registry.publish(bundle, who="kim", replay=lambda *_: None, public=("golden/0.png",))
    assert Manifest.from_json(named.to_json()).public == ("golden/0.png",)
