"""Clients that others' generators make of openapi.yaml, calling a real server. `make test-clients` runs this file."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.contract import DOCUMENT
from tests.support.processes import ROOT
from tests.support.serving import Serving, photo_bytes, serve

HERE = Path(__file__).parent
PYTHON = ROOT / ".venv/clients/bin/python"
"""Of an environment of its own, with the generator and what the code needs that it writes."""
CONFIGURATION = {
    "content_type_overrides": {
        **dict.fromkeys(("image/*", "image/jpeg", "image/png", "image/webp"), "application/octet-stream"),
        "application/yaml": "text/plain",
    },
    "post_hooks": [],
}
"""The generator knows these media types by no other name, and would have ruff format what nobody reads."""
PHOTO = base64.b64encode(photo_bytes()).decode()
GOT = {
    "one": ["red", "image/jpeg", 2, "v1"],
    "several": ["red", 422],
    "refused": ["urn:pointer:problem:invalid-request", True],
    "model": ["v1", "uint8"],
}


@pytest.fixture(scope="module")
def server(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serve(published, tmp_path_factory.mktemp("server")) as serving:
        yield serving


def test_a_client_by_openapi_python_client(server: Serving, tmp_path: Path) -> None:
    """It leaves out what it cannot read, with a warning; here there is none."""
    (tmp_path / "configuration.json").write_text(json.dumps(CONFIGURATION))
    generate = [
        PYTHON, "-m", "openapi_python_client", "generate", "--path", DOCUMENT, "--config", "configuration.json",
        "--output-path", "pointer_client", "--meta", "none", "--fail-on-warning",
    ]  # fmt: skip
    made = subprocess.run(generate, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stdout + made.stderr
    assert got(str(PYTHON), HERE / "python_client.py", server, PYTHONPATH=str(tmp_path)) == GOT


def test_a_client_by_openapi_typescript_and_openapi_fetch(server: Serving) -> None:
    """Its types are those of clients/typescript/pointer.d.ts, with which `make check-web` checks this program."""
    assert got("node", HERE / "typescript_client.mjs", server) == GOT


def got(interpreter: str, program: Path, server: Serving, **env: str) -> object:
    """Run a program that calls the server; what it says it got."""
    command = [interpreter, program, server.url, PHOTO]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
