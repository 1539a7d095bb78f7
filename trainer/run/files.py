"""Files that are the old one or the new one, whatever happens while they are written."""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from classifier.errors import InvalidRequest

PARTIAL = ".partial-"
"""How the name of a file begins that is not complete, or that only matters while a process runs."""


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        InvalidRequest: the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequest(f"{path} is not JSON: {error}. Put it back as it was, or start a new run.") from error


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Have `write` fill a file beside `path`, flush it to disk and rename it to `path`.

    Raises:
        OSError: it cannot be written, with the name of `path`; what was written of it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name keeps its ending: Keras and NumPy go by it.
    beside = path.with_name(f"{PARTIAL}{path.name}")
    try:
        with _without_afterwords():
            write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, RuntimeError) as error:
        # On a full disk the rest would take the room that is needed to go on.
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        number = getattr(error, "errno", None)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


@contextmanager
def _without_afterwords() -> Iterator[None]:
    """Keep HDF5 from printing tracebacks when it cannot close a file that it could not write: the error says it all."""
    hooks = sys.excepthook, sys.unraisablehook

    def unraisable(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            hooks[1](lost)  # which raises it again

    sys.excepthook, sys.unraisablehook = (lambda *said: None), unraisable
    try:
        yield
    except (OSError, RuntimeError) as error:
        # What is open in the frames of the failed write is closed now.
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        raise
    finally:
        sys.excepthook, sys.unraisablehook = hooks
