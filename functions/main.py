"""Declares the cloud functions; each is one call into `classifier`. Nothing heavy runs at import."""

from __future__ import annotations

import os
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from classifier.settings import Settings

if TYPE_CHECKING:
    from flask import Flask, Request, Response

    from classifier.endpoints.uploads import Labeller

# numpy's algebra library starts a thread for each CPU, which doubles the time that importing numpy takes, and no
# matrix here is large enough for two.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# gunicorn's threads: the framework takes four for each CPU, which is half of `concurrency`, and a few look at /healthz.
os.environ.setdefault("THREADS", "12")

# Read here, so that a setting that cannot be used stops the function from starting.
SETTINGS = Settings.from_env(os.environ)

# firebase-admin, which firebase_functions imports, is 0.2 s of a cold start's CPU time and 23 MB; a process that only
# answers HTTP needs neither. Discovery comes from firebase_functions itself, on_upload needs its events.
SERVES_HTTP = os.environ.get("FUNCTION_TARGET") in ("predict", "classify") and "firebase_functions" not in sys.modules

if os.environ.get("FUNCTION_TARGET") in ("predict", "classify"):
    # The framework starts gunicorn, has no option for its worker, and leaves it at gunicorn's default. The socket by
    # which gunicorn may be controlled is in the user's home folder, which a container's user has none of.
    from gunicorn.config import ControlSocketDisable, WorkerClass

    WorkerClass.default = "classifier.endpoints.connections.Worker"
    ControlSocketDisable.default = True

INSTANCES: dict[str, Any] = {
    "region": SETTINGS.function_location,
    "memory": SETTINGS.function_memory,
    "cpu": 1,
    "concurrency": 8,
    "timeout_sec": 60,
    "min_instances": 0,
    "max_instances": 10,
    "service_account": SETTINGS.function_account or None,
}
CORS_METHODS = ["GET", "HEAD", "POST"]

if SERVES_HTTP:
    from flask_cors import cross_origin

    def _on_request(function: Any) -> Any:
        """Do to a function what `https_fn.on_request` does where it is served."""
        if not SETTINGS.cors_origins:
            return function
        return cross_origin(origins=list(SETTINGS.cors_origins), methods=CORS_METHODS)(function)

    _on_call = _on_request
else:
    from firebase_functions import https_fn, options, storage_fn

    FOR_CALLERS: dict[str, Any] = {
        **INSTANCES,
        "secrets": list(SETTINGS.function_secrets),
        "cors": options.CorsOptions(cors_origins=list(SETTINGS.cors_origins), cors_methods=CORS_METHODS)
        if SETTINGS.cors_origins
        else None,
    }

    def _on_request(function: Any) -> Any:
        """Deploy a function as `FOR_CALLERS` says."""
        return https_fn.on_request(**FOR_CALLERS)(function)

    def _on_call(function: Any) -> Any:
        """Deploy a function as a callable one, whose protocol `classifier.endpoints.callable` answers."""
        served: Any = _on_request(function)
        declared: Any = https_fn.on_call(**FOR_CALLERS)(function)
        served.__firebase_endpoint__ = declared.__firebase_endpoint__
        return served


_one_at_a_time = threading.Lock()


def _delivered_until_it_succeeds(function: Any) -> Any:
    """Ask for retries, which the decorator of Storage's events has no option for."""
    function.__firebase_endpoint__.eventTrigger["retry"] = True
    return function


@_on_request
def predict(request: Request) -> Response:
    """Classify a photo, and answer everything else of openapi.yaml."""
    from classifier.endpoints.unread import answer

    with _one_at_a_time:
        app = _app()
    return answer(app, request)


def _answer_for_the_framework() -> None:
    """Answer what browsers and search engines ask for by themselves, which the framework says it has not."""
    from flask import current_app, has_app_context, request

    def answer_ours() -> Response | None:
        return predict(request) if request.path in ("/favicon.ico", "/robots.txt") else None

    if has_app_context():
        current_app.before_request(answer_ours)


if SERVES_HTTP and os.environ.get("FUNCTION_TARGET") == "predict":
    _answer_for_the_framework()


@_on_call
def classify(request: Request) -> Response:
    """Classify a photo for the Firebase SDKs. `endpoints.callable` says why it answers the protocol itself."""
    from classifier.endpoints.unread import answer

    with _one_at_a_time:
        app = _call_app()
    return answer(app, request)


if SETTINGS.upload_bucket and not SERVES_HTTP:  # a Firebase project has none before Storage is set up in it

    @_delivered_until_it_succeeds
    @storage_fn.on_object_finalized(bucket=SETTINGS.upload_bucket, **INSTANCES)
    def on_upload(event: Any) -> None:
        """Label a photo that was put into the bucket."""
        from classifier.endpoints.uploads import Upload

        with _one_at_a_time:
            labeller = _labeller()
        data = event.data
        upload = Upload(data.bucket, data.name, int(data.generation), int(data.size), data.content_type or "")
        labeller.label(upload, event.id)


@cache
def _app() -> Flask:
    from classifier.endpoints.app import create_app

    return create_app(SETTINGS)


@cache
def _call_app() -> Flask:
    from classifier.endpoints.callable import create_call_app

    return create_call_app(SETTINGS)


@cache
def _labeller() -> Labeller:
    from classifier.endpoints.uploads import Labeller

    return Labeller(SETTINGS)
