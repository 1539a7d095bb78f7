"""The callable function: Firebase's protocol around a prediction, for the Firebase SDKs of apps and pages.

The protocol (firebase.google.com/docs/functions/callable-reference): a POST of ``{"data": …}`` is answered with
``{"result": …}`` or with ``{"error": {"status": …, "message": …, "details": …}}``. The library's own handler is not
used: it reads a body of any size, checks tokens against accounts of its own choosing, and answers 500 to a body
that is not JSON. Here a call passes the admission, the limits and the log line that every request of `predict` passes.
"""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Flask, Request, Response, g, jsonify, request
from werkzeug import exceptions as http

from classifier import errors
from classifier.access.admission import Admission
from classifier.endpoints import counting, request_log
from classifier.endpoints.app import Lazy, create_app
from classifier.endpoints.bodies import read_body
from classifier.endpoints.feedback import FeedbackDesk, Said, read_correction
from classifier.endpoints.json_body import options_in, parse_json
from classifier.endpoints.problems import problem
from classifier.endpoints.query_string import MODEL, PARAMETERS
from classifier.endpoints.replies import add_headers, admit_model, caller_key
from classifier.endpoints.request_photos import FIELD, body_limit
from classifier.endpoints.text_photos import ONE_TEXT_AT_A_TIME, decode_base64
from classifier.serving.instance import Instance
from classifier.serving.models import Models
from classifier.serving.predictor import log_fields
from classifier.serving.query import Query, query_of
from classifier.serving.reply_body import body_of
from classifier.settings import Settings

FEEDBACK = "feedback"
STATUSES: dict[type[BaseException], str] = {
    errors.InvalidRequest: "INVALID_ARGUMENT",
    errors.InvalidImage: "INVALID_ARGUMENT",
    errors.TooLarge: "INVALID_ARGUMENT",
    errors.TooSlow: "DEADLINE_EXCEEDED",
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
    "DEADLINE_EXCEEDED": 504,
}
"""The protocol's HTTP status for each of its own."""


def create_call_app(settings: Settings, instance: Instance | None = None) -> Flask:
    """Make the app that answers calls; see `create_app`."""
    return create_app(settings, instance, routes=_routes, shape=failure)


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


def read_call(call: Request, settings: Settings) -> tuple[bytes, Query, str | None] | Said:
    """Return the photo of a call, what it asks for and of which model, or a correction and its photo.

    Raises:
        UnsupportedMedia: the body is not declared as JSON, or is encoded in another way than gzip.
        InvalidRequest: it is not ``{"data": {"image": "<base64>", …}}`` or ``{"data": {"feedback": {…}}}``, or a member
            cannot be used.
    """
    if call.mimetype != "application/json":
        raise errors.UnsupportedMedia(f"Expected application/json; received {call.mimetype or 'no Content-Type'}.")
    body = read_body(call, body_limit(settings))
    with ONE_TEXT_AT_A_TIME:
        data = _data(body)
        del body  # which has the photo once more
        if FEEDBACK in data:
            if len(data) > 1:
                raise errors.InvalidRequest("Expected data.feedback and nothing beside it.")
            return read_correction(data[FEEDBACK], settings)
        return _photo_and_query(data)


def _photo_and_query(data: dict[str, Any]) -> tuple[bytes, Query, str | None]:
    for name in data:
        if name not in (FIELD, *PARAMETERS):
            raise errors.InvalidRequest(f"Expected data with {FIELD}, {', '.join(PARAMETERS)}; received {name!r}.")
    if not isinstance(data.get(FIELD), str) or not data[FIELD]:
        raise errors.InvalidRequest("Expected data.image to be a photo in base64; received none.")
    options = options_in(data)
    query = query_of(options)
    return decode_base64(data.pop(FIELD)), query, options.get(MODEL)


def _routes(models: Models, admission: Admission) -> Blueprint:
    routes = Blueprint("pointer", __name__)
    desk = FeedbackDesk(models, admission, Lazy(models.settings.model_store))

    # The SDKs and the rewrites of Hosting differ in the path that reaches the function.
    @routes.post("/", defaults={"path": ""})
    @routes.post("/<path:path>")
    def call(path: str) -> Response:
        counting.begin()
        _expect_options_in_data(request)
        asked = read_call(request, models.settings)
        if isinstance(asked, Said):
            counting.leave_out()
            _expect_once(request, asked.model)
            kept, _ = desk.keep(asked)
            return jsonify(result=kept)
        content, query, name = asked
        _expect_once(request, name)
        admit_model(name, models, admission)
        predictor = models[g.model]
        loaded = predictor.version_for(content, caller_key())
        counting.note_version(loaded)
        answer = predictor(content, query, loaded)
        counting.note_answers([answer])
        request_log.note("INFO", "Predicted.", **log_fields(answer))
        body = body_of(answer.prediction, answer.loaded, predictor.settings.model_name)
        reply = jsonify(result={**body, "request_id": g.request_id})
        add_headers(reply, [answer], answer.loaded)
        return reply

    return routes


def _expect_options_in_data(call: Request) -> None:
    """Refuse options that would be passed over. The model alone may be in the address, as whoever admits reads it.

    Raises:
        InvalidRequest: another one is there.
    """
    passed_over = next((name for name in PARAMETERS if name != MODEL and name in call.args), None)
    if passed_over is not None:
        raise errors.InvalidRequest(
            f'Expected {passed_over} beside the photo, as in {{"data": {{"image": …, "{passed_over}": …}}}}; received '
            "it in the address."
        )


def _expect_once(call: Request, model: str | None) -> None:
    if model is not None and MODEL in call.args:
        raise errors.InvalidRequest("Expected model once; received it in the address and in the body.")


def _data(body: bytes) -> dict[str, Any]:
    envelope = parse_json(body)
    if not isinstance(envelope, dict) or set(envelope) != {"data"} or not isinstance(envelope["data"], dict):
        raise errors.InvalidRequest('Expected {"data": {"image": "<base64>"}} and nothing beside data.')
    return dict(envelope["data"])
