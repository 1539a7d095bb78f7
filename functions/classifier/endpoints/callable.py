"""The callable function: Firebase's protocol around a prediction, for the Firebase SDKs of apps and pages.

The protocol (firebase.google.com/docs/functions/callable-reference): a POST of ``{"data": …}`` is answered with
``{"result": …}`` or with ``{"error": {"status": …, "message": …, "details": …}}``. The library's own handler is not
used: it reads a body of any size, checks tokens against accounts of its own choosing, and answers 500 to a body
that is not JSON. Here a call passes the gate, the limits and the log line that every request of `predict` passes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Flask, Request, Response, g, jsonify, request
from werkzeug import exceptions as http

from classifier import errors
from classifier.endpoints import request_log
from classifier.endpoints.app import create_app
from classifier.endpoints.problems import problem
from classifier.endpoints.query_string import PARAMETERS
from classifier.endpoints.replies import add_headers
from classifier.endpoints.request_photos import (
    FIELD,
    ONE_JSON_AT_A_TIME,
    body_limit,
    decode_base64,
    parse_json,
    read_body,
)
from classifier.serving.instance import Server
from classifier.serving.predictor import Predictor, log_fields
from classifier.serving.query import Query, query_of
from classifier.serving.reply_body import body_of
from classifier.settings import Settings

STATUSES: dict[type[BaseException], str] = {
    errors.InvalidRequest: "INVALID_ARGUMENT",
    errors.InvalidImage: "INVALID_ARGUMENT",
    errors.TooLarge: "INVALID_ARGUMENT",
    errors.Unauthenticated: "UNAUTHENTICATED",
    errors.Forbidden: "PERMISSION_DENIED",
    errors.NotFound: "NOT_FOUND",
    errors.Conflict: "ABORTED",
    errors.Refused: "ABORTED",
    errors.RateLimited: "RESOURCE_EXHAUSTED",
    errors.NotReady: "UNAVAILABLE",
    errors.Corrupt: "UNAVAILABLE",
    errors.Unavailable: "UNAVAILABLE",
    errors.Overloaded: "UNAVAILABLE",
    http.HTTPException: "INVALID_ARGUMENT",
    Exception: "INTERNAL",
}
"""Each class of error, or the nearest that it inherits from; ``details`` is the problem that `predict` would answer."""
CODES = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
}
"""The protocol's HTTP status for each of its own."""

_INT64 = ("type.googleapis.com/google.protobuf.Int64Value", "type.googleapis.com/google.protobuf.UInt64Value")
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "gradcam": ((bool, str), "true, false or a label"),
    "gradcam_format": ((str,), "a string"),
    "gradcam_size": ((int,), "a whole number"),
    "top_k": ((int,), "a whole number"),
    "tta": ((bool,), "true or false"),
}


def create_call_app(settings: Settings, server: Server | None = None) -> Flask:
    """Make the app that answers calls; see `create_app`."""
    return create_app(settings, server, routes=_routes, shape=failure)


def failure(error: Exception, request_id: str) -> Response:
    """Shape an error as the protocol tells it. Headers such as Retry-After stay those of the problem."""
    reply = problem(error, request_id)
    details = json.loads(reply.get_data())
    status = status_of(error)
    told = {"status": status, "message": details["detail"], "details": details}
    reply.set_data(json.dumps({"error": told}))
    reply.status_code = CODES[status]
    reply.content_type = "application/json"
    return reply


def status_of(error: BaseException) -> str:
    """Return the protocol's status of an error."""
    return next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)


def read_call(call: Request, settings: Settings) -> tuple[bytes, Query]:
    """Return the photo of a call and what it asks for.

    Raises:
        UnsupportedMedia: the body is not declared as JSON.
        InvalidRequest: it is not ``{"data": {"image": "<base64>", …}}``, or a member cannot be used.
    """
    if call.mimetype != "application/json" or call.headers.get("Content-Encoding", "identity") != "identity":
        raise errors.UnsupportedMedia(
            f"Expected application/json without Content-Encoding; received {call.mimetype or 'no Content-Type'}."
        )
    body = read_body(call, body_limit(settings))
    with ONE_JSON_AT_A_TIME:
        return _photo_and_query(body)


def _photo_and_query(body: bytes) -> tuple[bytes, Query]:
    data = _data(body)
    for name in data:
        if name not in (FIELD, *PARAMETERS):
            raise errors.InvalidRequest(f"Expected data with {FIELD}, {', '.join(PARAMETERS)}; received {name!r}.")
    image = data.pop(FIELD, None)
    if not isinstance(image, str) or not image:
        raise errors.InvalidRequest("Expected data.image to be a photo in base64; received none.")
    query = query_of({name: _text(name, value) for name, value in data.items() if value is not None})
    return decode_base64(image), query


def _routes(predictor: Predictor) -> Blueprint:
    routes = Blueprint("pointer", __name__)

    # The SDKs and the rewrites of Hosting differ in the path that reaches the function.
    @routes.post("/", defaults={"path": ""})
    @routes.post("/<path:path>")
    def call(path: str) -> Response:
        content, query = read_call(request, predictor.settings)
        answer = predictor(content, query)
        request_log.note("INFO", "Predicted.", **log_fields(answer))
        body = body_of(answer.prediction, answer.loaded, predictor.settings.model_name)
        reply = jsonify(result={**body, "request_id": g.request_id})
        add_headers(reply, [answer], answer.loaded)
        return reply

    return routes


def _data(body: bytes) -> dict[str, Any]:
    envelope = parse_json(body)
    if not isinstance(envelope, dict) or set(envelope) != {"data"} or not isinstance(envelope["data"], dict):
        raise errors.InvalidRequest('Expected {"data": {"image": "<base64>"}} and nothing beside data.')
    return dict(envelope["data"])


def _text(name: str, value: object) -> str:
    """Write a member as the query of `predict` would have it."""
    types, expected = _TYPES[name]
    value = _unwrapped(value)
    # JSON's true is not a number, though Python's is.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise errors.InvalidRequest(f"Expected data.{name} to be {expected}; received another type.")
    return str(int(value)) if isinstance(value, bool) else str(value)


def _unwrapped(value: object) -> object:
    """Undo what the SDKs of phones make of a 64-bit number, because JavaScript has none."""
    if isinstance(value, Mapping) and value.get("@type") in _INT64:
        number = value.get("value")
        if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) <= 20:
            return int(number)
    return value
