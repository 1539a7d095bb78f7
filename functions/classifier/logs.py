"""The function's log: one JSON object a line on standard output, in the fields that Cloud Logging reads."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TextIO

Severity = Literal["INFO", "WARNING", "ERROR"]
REPORTED_ERROR = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"
"""Makes Error Reporting group an entry by the stack in its ``stack_trace``."""

_one_line_at_a_time = threading.Lock()
_stream: TextIO | None = None
_of_request: ContextVar[Mapping[str, object] | None] = ContextVar("of_request", default=None)


def log(severity: Severity, message: str, *, error: BaseException | None = None, **fields: object) -> None:
    """Write one event, with the fields of the request that is answered, if any.

    Args:
        severity: as Cloud Logging names it.
        message: one sentence.
        error: adds its name, and its stack as one field, so that it stays one line.
        fields: whatever JSON can hold; None is left out.
    """
    entry: dict[str, object] = {"severity": severity, "message": message, **(_of_request.get() or {}), **fields}
    if error is not None:
        entry["error"] = f"{type(error).__name__}: {error}"
        entry["stack_trace"] = "".join(traceback.format_exception(error))
        if severity == "ERROR":
            entry["@type"] = REPORTED_ERROR
    line = json.dumps({name: value for name, value in entry.items() if value is not None}, default=str) + "\n"
    with _one_line_at_a_time:
        stream = _stream or sys.stdout
        stream.write(line)
        stream.flush()


def bind(fields: Mapping[str, object] | None) -> None:
    """Give these fields to every event that this thread writes from now on; None ends it."""
    _of_request.set(fields)


@contextmanager
def written_to(stream: TextIO) -> Iterator[None]:
    """Write every thread's events to ``stream`` meanwhile, for a program whose standard output is its own."""
    global _stream
    before, _stream = _stream, stream
    try:
        yield
    finally:
        _stream = before
