"""One log line for each prediction and each request that fails, with what Cloud Logging shows of a request."""

from __future__ import annotations

import re
import time
import uuid

from flask import Response, g, request

from classifier.endpoints.traces import trace_fields
from classifier.logs import Severity, bind, log

LONGEST_TEXT = 200
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def begin(project: str) -> None:
    """Name the request at hand, and give its name and trace to every line that is written for it."""
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    g.began = time.perf_counter()
    trace = trace_fields(
        request.headers.get("traceparent", ""), request.headers.get("X-Cloud-Trace-Context", ""), project=project
    )
    bind({"request_id": g.request_id, **trace})


def note(severity: Severity, message: str, *, error: BaseException | None = None, **fields: object) -> None:
    """Say what the request's line will say; it is written when the reply is there."""
    g.note = (severity, message, error, fields)


def write(reply: Response) -> None:
    """Write the line, unless nothing was noted: pages and health checks have none.

    The query stays out, which may hold labels, and so do the address and whatever else the caller sent.
    """
    if "note" not in g:
        return
    severity, message, error, fields = g.pop("note")
    seconds = time.perf_counter() - g.began
    log(
        severity,
        message,
        error=error,
        httpRequest={
            "requestMethod": request.method[:LONGEST_TEXT],
            "requestUrl": request.path[:LONGEST_TEXT],
            "status": reply.status_code,
            "responseSize": str(reply.calculate_content_length() or 0),
            "userAgent": request.headers.get("User-Agent", "")[:LONGEST_TEXT],
            "latency": f"{seconds:.3f}s",
        },
        **fields,
    )


def end() -> None:
    """Forget the request."""
    bind(None)
