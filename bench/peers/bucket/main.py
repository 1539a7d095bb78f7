"""The classic function where its model lies in a bucket: fetched at the first request with Google's own client."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import flask
import functions_framework

FOLDER = Path(tempfile.mkdtemp())
os.environ["KERAS_MODEL"] = str(FOLDER / "model.keras")
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from bench.peers.classic import main as classic  # noqa: E402


@cache
def fetch() -> None:
    """Download the model and its labels."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
    bucket = storage.Client(project="bench", credentials=anonymous).bucket(os.environ["KERAS_BUCKET"])
    for name in ("model.keras", "labels.json"):
        bucket.blob(f"keras/{name}").download_to_filename(FOLDER / name)


@functions_framework.http
def predict(request: flask.Request) -> Any:
    """Answer as the classic function does."""
    fetch()
    return classic.predict(request)
