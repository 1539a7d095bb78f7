"""Errors as RFC 9457 problems: one table from each class of error to its status, slug and title."""

from __future__ import annotations

import json
from typing import NamedTuple

from flask import Response
from werkzeug import exceptions as http

from classifier import errors

MEDIA_TYPE = "application/problem+json"
LONGEST_DETAIL = 2000
"""Characters: a detail quotes what was sent, which may be as large as a body."""
CHALLENGES = {
    "id-token": 'Bearer realm="pointer"',
    "app-check": 'FirebaseAppCheck realm="pointer", header="X-Firebase-AppCheck"',
}
"""RFC 9110 wants a challenge with every 401. App Check has no registered scheme; this name is ours."""


class Kind(NamedTuple):
    """How one class of error is told to a caller; ``detail`` replaces the error's own words where it is given."""

    status: int
    slug: str
    title: str
    detail: str | None = None


TABLE: dict[type[BaseException], Kind] = {
    errors.InvalidRequest: Kind(400, "invalid-request", "The request cannot be understood"),
    errors.CannotExplain: Kind(400, "cannot-explain", "This model does not explain itself in this way"),
    errors.Unauthenticated: Kind(401, "unauthenticated", "Callers have to say who they are"),
    errors.Forbidden: Kind(403, "forbidden", "The settings do not allow this"),
    errors.NotFound: Kind(404, "not-found", "There is no such thing"),
    errors.TooSlow: Kind(408, "too-slow", "The request did not arrive in time"),
    errors.Conflict: Kind(409, "conflict", "Somebody else was faster"),
    errors.Refused: Kind(409, "refused", "A rule forbids this"),
    errors.TooLarge: Kind(413, "too-large", "The photo or the request is too large"),
    errors.UnsupportedMedia: Kind(415, "unsupported-media", "The body has a media type that is not read here"),
    errors.InvalidImage: Kind(422, "invalid-image", "This is not a photo that can be read"),
    errors.RateLimited: Kind(429, "rate-limited", "Too many requests"),
    errors.NotReady: Kind(503, "not-ready", "No version has been promoted yet"),
    errors.Corrupt: Kind(503, "corrupt-version", "The promoted version is damaged"),
    errors.Unavailable: Kind(
        503,
        "store-unavailable",
        "The store cannot be reached",
        "The store cannot be reached at the moment. Try again later; the function's log names the cause.",
    ),
    errors.AccessUnavailable: Kind(
        503,
        "access-unavailable",
        "Callers cannot be checked",
        "Tokens cannot be checked at the moment. Try again later; the function's log names the cause.",
    ),
    errors.Overloaded: Kind(503, "overloaded", "Too many requests at once"),
    http.HTTPException: Kind(400, "invalid-request", "The request cannot be understood"),
    http.BadRequest: Kind(400, "invalid-request", "The request cannot be understood"),
    http.NotFound: Kind(404, "not-found", "There is no such thing"),
    http.MethodNotAllowed: Kind(405, "method-not-allowed", "This path does not know the method"),
    http.NotAcceptable: Kind(406, "not-acceptable", "There is no reply of a type that is accepted"),
    http.PreconditionFailed: Kind(412, "precondition-failed", "Another version serves than was asked for"),
    http.RequestEntityTooLarge: Kind(413, "too-large", "The request is too large"),
    http.UnsupportedMediaType: Kind(415, "unsupported-media", "The body has a media type that is not read here"),
    http.RequestedRangeNotSatisfiable: Kind(416, "range-not-satisfiable", "The file has no such bytes"),
    Exception: Kind(
        500,
        "internal",
        "Something went wrong here",
        "This is a fault of the server. Its log has the request_id.",
    ),
}


def kind_of(error: BaseException) -> Kind:
    """Return the table's entry of the error's class, or of the nearest class that it inherits from."""
    cls = next(cls for cls in type(error).__mro__ if cls in TABLE)
    if cls is http.HTTPException and isinstance(error, http.HTTPException) and error.code:
        return Kind(error.code, error.name.lower().replace(" ", "-"), error.name)
    return TABLE[cls]


def body_of_problem(error: Exception) -> dict[str, object]:
    """Return an error as the members of a problem, but for what only its request knows."""
    kind = kind_of(error)
    spoken = error.description if isinstance(error, http.HTTPException) else str(error)
    detail = kind.detail or spoken or kind.title
    body: dict[str, object] = {
        "type": f"urn:pointer:problem:{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail if len(detail) <= LONGEST_DETAIL else f"{detail[: LONGEST_DETAIL - 1]}…",
    }
    if isinstance(error, errors.InvalidManifest):
        body["field"] = error.field
    if isinstance(error, errors.Overloaded | errors.RateLimited):
        body["retry_after"] = error.retry_after
    return body


def problem(error: Exception, request_id: str) -> Response:
    """Shape an error as the reply to its request."""
    kind = kind_of(error)
    body = {**body_of_problem(error), "request_id": request_id}
    reply = Response(json.dumps(body), kind.status, content_type=MEDIA_TYPE)
    if isinstance(error, errors.Unauthenticated):
        for token in error.wanted:
            reply.headers.add("WWW-Authenticate", CHALLENGES[token])
    if isinstance(error, errors.Overloaded | errors.RateLimited):
        reply.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, http.MethodNotAllowed) and error.valid_methods:
        reply.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    if isinstance(error, http.RequestedRangeNotSatisfiable):
        reply.headers["Content-Range"] = f"bytes */{error.length}"
    return reply
