"""The function does in the bucket what docs/deploy.md lets it do, and nothing else: read, and create in two folders."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path
from typing import Any

import pytest

from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.json_api import JsonApiStore
from classifier.storage.protocol import MUST_NOT_EXIST
from tests.support.app_client import client_for
from tests.support.bundles import colour_photo
from tests.support.processes import ROOT
from tests.support.serving import MODEL

GREEN = colour_photo("green")


def granted() -> list[str]:
    """The folders of the condition that docs/deploy.md gives the function's account."""
    text = (ROOT / "docs/deploy.md").read_text()
    account = r"--member=serviceAccount:\$SERVING \\\n\s+--role=roles/storage.objectCreator "
    found = re.search(account + r"(.*?)\n\s*gcloud", text, re.DOTALL)
    assert found
    return re.findall(r"startsWith\('\$objects/([a-z]+/)'\)", found[1])


def test_what_a_function_writes_is_what_it_is_granted(
    json_api_store: JsonApiStore, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the emulator, which knows no accounts: what Cloud Storage would answer with 403 fails here."""
    assert granted() == ["feedback/", "stats/"]
    registry = Registry(json_api_store, MODEL)
    registry.publish(tiny_bundle, who="tester", replay=golden.replay)
    registry.promote("v1", who="tester", reason="", replay=golden.replay)
    written: list[str] = []
    write = JsonApiStore.write

    def create(self: JsonApiStore, name: str, data: Any, *, if_generation: int | None = None, **options: Any) -> int:
        allowed = tuple(f"{MODEL}/{folder}" for folder in granted())
        assert name.startswith(allowed), f"403: {name} is not under {allowed}"
        assert if_generation == MUST_NOT_EXIST, "403: objectCreator replaces nothing"
        written.append(name)
        return write(self, name, data, if_generation=if_generation, **options)

    def delete(self: JsonApiStore, name: str) -> None:
        raise AssertionError(f"403: objectCreator deletes nothing: {name}")

    monkeypatch.setattr(JsonApiStore, "write", create)
    monkeypatch.setattr(JsonApiStore, "delete", delete)
    client = client_for(json_api_store.url, stats_every=0.001)
    for _ in range(3):
        assert client.post("/", data=GREEN, content_type="image/png").status_code == 200
        time.sleep(0.01)
    image = base64.b64encode(GREEN).decode()
    reply = client.post("/feedback", json={"label": "red", "image": image, "consent": True})
    assert reply.status_code == 201
    assert {name.split("/")[1] for name in written} == {"feedback", "stats"}
