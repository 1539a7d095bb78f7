"""The function's log: one JSON object a line on standard output, in the fields that Cloud Logging reads."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from typing import Literal

_one_line_at_a_time = threading.Lock()


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
        sys.stdout.write(line)
        sys.stdout.flush()
