"""Starts the program that labels whole buckets, which has Apache Beam, and hands on what it tells."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import typer

from classifier.errors import NotFound, PointerError
from classifier.exit_codes import EXIT_CODES

PACKAGE = "apache_beam"
BESIDE = Path("batch", "bin", "python")
"""The environment that `make batch` makes, in the one that this program runs in."""
TAIL = 20
"""Lines of what the program's libraries said that are shown when it breaks down."""


def events(command: str, values: Mapping[str, Any], options: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Run a command of it, and yield what it tells.

    Args:
        command: such as "label".
        values: what it needs, as JSON can hold it.
        options: Beam's own, as they are.

    Raises:
        NotFound: Apache Beam is not installed.
        PointerError: what the program raised.
    """
    with tempfile.TemporaryFile() as said, _started(command, values, options, said) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "error":
                    raise _error(event)
                yield event
        except BaseException:
            _end(process)
            raise
        if process.wait():
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").splitlines()
            typer.echo("\n".join(lines[-TAIL:]), err=True)
            raise PointerError(
                f"The labelling program ended with exit code {process.returncode}; above is what it said last. What "
                "was labelled is there: the same command goes on."
            )


def _started(command: str, values: Mapping[str, Any], options: Sequence[str], said: IO[bytes]) -> subprocess.Popen[str]:
    paths = [path for path in sys.path if path and (Path(path) / "batch" / "main.py").is_file()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [_python(), "-m", "batch.main", command, json.dumps(values), *options],
        stdin=subprocess.PIPE,  # it ends when nobody holds the other end
        stdout=subprocess.PIPE,
        stderr=said,
        text=True,
        encoding="utf-8",
        env=environment,
        start_new_session=True,  # so that its workers end with it, and Ctrl-C is told to them once, from here
    )


def _python() -> str:
    """Return the Python that has Apache Beam: this one, or that of the environment within this one.

    Raises:
        NotFound: neither.
    """
    if find_spec(PACKAGE) is not None:
        return sys.executable
    beside = Path(sys.prefix, BESIDE)
    if beside.is_file():
        return str(beside)
    raise NotFound(
        "Expected Apache Beam to label whole buckets; it is not installed. In a clone `make batch` sets it up beside "
        ".venv; elsewhere pip install '.[batch]', in an environment without '.[trainer]' (docs/batch.md)."
    )


def _end(process: subprocess.Popen[str]) -> None:
    """End the program with its workers; those of a cluster go on."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _error(event: Mapping[str, Any]) -> PointerError:
    kinds = (kind for kind, code in EXIT_CODES if code == event["code"])
    return next(kinds, PointerError)(str(event["message"]))
