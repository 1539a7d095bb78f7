"""The function's log on standard output: one JSON object a line, in the fields that Cloud Logging reads.

At a terminal, which collects nothing, it is a line for a person instead.
"""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TextIO

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
    entry: dict[str, Any] = {"severity": severity, "message": message, **(_of_request.get() or {}), **fields}
    if error is not None:
        entry["error"] = f"{type(error).__name__}: {error}"
        entry["stack_trace"] = "".join(traceback.format_exception(error))
        if severity == "ERROR":
            entry["@type"] = REPORTED_ERROR
    entry = {name: value for name, value in entry.items() if value is not None}
    stream = _stream or sys.stdout
    line = readable(entry, stream.encoding) if stream.isatty() else json.dumps(entry, default=str)
    with _one_line_at_a_time:
        stream.write(f"{line}\n")
        stream.flush()


def readable(entry: Mapping[str, Any], encoding: str = "utf-8") -> str:
    """Write an event as a person reads it: ``200 pizza 99.7 % v1 16 ms`` for a prediction.

    What a terminal might obey is escaped, since a path is as its caller sent it; so is what ``encoding`` lacks.
    """
    request = entry.get("httpRequest", {})
    words = [request.get("status")]
    if "label" in entry:
        words += [f"photo {entry['index'] + 1}:"] if "index" in entry else []
        words += [entry["label"], f"{100 * entry['confidence']:.1f} %"]
        words += ["unknown" if entry.get("status") == "unknown" else None, entry.get("version")]
    elif "slug" in entry:
        words += [f"photo {entry['index'] + 1}:"] if "index" in entry else []
        words += [entry["slug"], request.get("requestMethod"), request.get("requestUrl")]
    else:
        words += [entry["message"].rstrip(".") if request else entry["message"], entry.get("reason")]
        words += [entry.get("version")] if request else []
    if "latency" in request:
        words.append(f"{1000 * float(request['latency'].removesuffix('s')):.0f} ms")
    if entry["severity"] != "INFO":
        told = (entry["message"] if "slug" in entry else None, entry.get("error"))
        words = [f"{entry['severity']}:", *words, *(f"({each})" for each in told if each)]
    line = " ".join(str(word) for word in words if word is not None)
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    if entry["severity"] == "ERROR" and "stack_trace" in entry:
        line += f"\n{entry['stack_trace'].rstrip()}"
    return line.encode(encoding or "utf-8", "backslashreplace").decode(encoding or "utf-8")


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
