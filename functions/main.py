"""Declares the cloud functions; each is one call into `classifier`. Nothing heavy runs at import."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import TYPE_CHECKING

from firebase_functions import https_fn, options

from classifier.settings import Settings

if TYPE_CHECKING:
    from flask import Flask, Request, Response

# numpy's algebra library starts a thread for each CPU, which doubles the time that importing numpy takes, and no
# matrix here is large enough for two.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Read here, so that a setting that cannot be used stops the function from starting.
SETTINGS = Settings.from_env(os.environ)

_one_app = threading.Lock()


@https_fn.on_request(
    region="us-central1",
    memory=options.MemoryOption.MB_512,
    cpu=1,
    concurrency=8,
    timeout_sec=60,
    min_instances=0,
    max_instances=10,
    cors=options.CorsOptions(cors_origins=list(SETTINGS.cors_origins), cors_methods=["GET", "HEAD", "POST"])
    if SETTINGS.cors_origins
    else None,
)
def predict(request: Request) -> Response:
    """Classify a photo, and answer everything else of openapi.yaml."""
    from classifier.app import answer

    with _one_app:
        app = _app()
    return answer(app, request)


@cache
def _app() -> Flask:
    from classifier.app import create_app

    return create_app(SETTINGS)
