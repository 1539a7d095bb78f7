"""Exports for other servers: each appears whole under the next number of its folder, and is not changed any more.

TensorFlow Serving serves the highest number of such a folder, and moves on when a higher one appears; what is not a
number it passes over.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

ExportKind = Literal["saved_model", "onnx", "coreml"]
"""Name of the folder in a run's folder."""


def add_export(folder: Path, write: Callable[[Path], Any]) -> Path:
    """Have `write` fill a new folder, flush it to disk and give it the next number; return where it is then.

    Args:
        folder: of the numbers; it is made.
        write: gets an empty folder. Where it raises, nothing is left of it.

    Raises:
        OSError: it cannot be written.
    """
    partial = partial_export(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write(partial)
        for file in partial.rglob("*"):
            if file.is_file():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
        folder.mkdir(exist_ok=True)
        placed = folder / str(
            1 + max((int(each.name) for each in folder.iterdir() if each.name.isdecimal()), default=0)
        )
        partial.rename(placed)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return placed


def partial_export(folder: Path) -> Path:
    """Return where an export is made; after a crash it is there still, until the next one."""
    return folder.with_name(f"{folder.name}.partial")
