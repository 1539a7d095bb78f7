"""Writing files on this machine: each whole or not at all, whenever the program is killed."""

from __future__ import annotations

from pathlib import Path

from classifier.errors import InvalidRequest

PARTIAL = ".partial"
"""At the end of the name of a file that is not whole yet."""


def write_file(path: Path, content: bytes) -> None:
    """Write a file, and the folders that it needs, in place of one that may be there.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}{PARTIAL}")
    partial.write_bytes(content)
    partial.replace(path)


def write_html(path: Path, page: str) -> None:
    """Write what --html asks for.

    Raises:
        InvalidRequest: it cannot be written.
    """
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"Expected --html FILE that can be written; {path}: {error.strerror}.") from error
