"""A client of the app over a published bundle, and what its tests send it and expect of it."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from classifier.endpoints.app import create_app
from classifier.serving.instance import Instance
from classifier.settings import Settings
from tests.support.serving import FUNCTIONS, MODEL, photo_bytes, publish

PHOTO = photo_bytes()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, tiny_bundle_original: Path) -> Path:
    """A store whose v1 is the tiny bundle, which no test may change."""
    folder = tmp_path_factory.mktemp("published") / "store"
    publish(folder, tiny_bundle_original)
    return folder


@pytest.fixture(scope="module")
def client(published: Path, tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """A client of an app with small limits and a folder of photos that may be named."""
    photos = tmp_path_factory.mktemp("photos")
    (photos / "uploads").mkdir()
    (photos / "uploads" / "cat.jpg").write_bytes(PHOTO)
    (photos / "uploads" / "large.jpg").write_bytes(bytes(300_001))
    return client_for(published, photo_store=str(photos), max_image_bytes=300_000)


def settings_for(store: Path | str, **changes: Any) -> Settings:
    """Settings without a result cache, because tests send the same photo again, and without statistics."""
    return dataclasses.replace(
        Settings(model_store=str(store), model_name=MODEL, result_cache_bytes=0, stats_every=0.0), **changes
    )


def client_for(store: Path | str, server: Instance | None = None, **changes: Any) -> FlaskClient:
    """A client of an app with these settings; with a server, of one with the server's."""
    settings = server.settings if server else settings_for(store, **changes)
    client = create_app(settings, server).test_client()
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
