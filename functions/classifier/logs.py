"""The function's log: one JSON object a line on standard output, in the fields that Cloud Logging reads."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

_one_line_at_a_time = threading.Lock()
_stream: TextIO | None = None


def log(
    severity: Literal["INFO", "WARNING", "ERROR"],
    message: str,
    *,
    error: BaseException | None = None,
    **fields: object,
) -> None:
    """Write one event; ``error`` adds its stack as one field, so that it stays one line."""
    entry: dict[str, object] = {"severity": severity, "message": message, **fields}
    if error is not None:
        entry["error"] = f"{type(error).__name__}: {error}"
        entry["stack"] = "".join(traceback.format_exception(error))
    line = json.dumps(entry, default=str) + "\n"
    with _one_line_at_a_time:
        stream = _stream or sys.stdout
        stream.write(line)
        stream.flush()


@contextmanager
def written_to(stream: TextIO) -> Iterator[None]:
    """Write every thread's events to ``stream`` meanwhile, for a program whose standard output is its own."""
    global _stream
    before, _stream = _stream, stream
    try:
        yield
    finally:
        _stream = before
