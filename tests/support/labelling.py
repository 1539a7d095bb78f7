"""Labelling folders and buckets with Apache Beam, which is in an environment of its own, and reading the rows.

`label` is the command as people run it. `Engine` is the program that it starts, kept for many jobs, because Beam takes
seconds to import.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from admin_cli.labelling import job_of, resolved
from admin_cli.options import open_registry
from tests.support.commands import PROGRAM, Done, environment_of, process
from tests.support.serving import MODEL

PYTHON = Path(sys.prefix, "batch", "bin", "python")
needs_beam = pytest.mark.skipif(not PYTHON.is_file(), reason="no Apache Beam: make batch installs it")
ROWS = """
import base64, json, sys
from pyarrow import dataset
table = dataset.dataset(sys.argv[1], partitioning="hive").to_table()
for row in table.to_pylist():
    print(json.dumps(row, default=lambda value: base64.b64encode(value).decode()))
"""


def label(*arguments: str | Path, **env: str | Path) -> Done:
    """Run the command with one worker in its own process, which starts the fastest."""
    workers = () if "--workers" in arguments else ("--workers", "1")
    return process("label", *workers, *arguments, **env)


LOOP = """
import json, os, sys
events = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from batch.main import run
from classifier.errors import PointerError
def tell(event, **facts):
    print(json.dumps({"event": event, **facts}), file=events, flush=True)
for line in sys.stdin:
    try:
        run(*json.loads(line), tell)
        tell("end")
    except PointerError as error:
        tell("error", kind=type(error).__name__, message=str(error))
"""


class Failed(Exception):
    """What the program raised."""


class Engine:
    """Runs commands of the labelling program in one process."""

    def __init__(self, **env: str) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with this
        self._process = subprocess.Popen(
            [PYTHON, "-c", LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**environment_of(**env)},
        )  # fmt: skip

    def run(self, command: str, values: Mapping[str, Any], *options: str) -> dict[str, dict[str, Any]]:
        """Return the last event of each kind. Raises `Failed`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, values, options]) + "\n")
        self._process.stdin.flush()
        found: dict[str, dict[str, Any]] = {}
        for line in self._process.stdout:
            event = json.loads(line)
            found[event["event"]] = event
            if event["event"] == "error":
                raise Failed(f"{event['kind']}: {event['message']}")
            if event["event"] == "end":
                return found
        self.log.seek(0)
        raise AssertionError(self.log.read().decode()[-3000:])

    def label(self, job: Mapping[str, Any], *options: str, **how: Any) -> dict[str, dict[str, Any]]:
        """Run a labelling with one worker, in this process."""
        defaults = {"runner": "local", "workers": 1, "sample": 0, "against": "", "candidates": 0, "candidates_to": ""}
        return self.run("label", {"job": job, "how": {**defaults, **how}}, *options)

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self.log.close()


@pytest.fixture(scope="session", name="engine")
def engine_fixture() -> Iterator[Engine]:
    """A process with Beam, for all tests of this worker."""
    engine = Engine()
    yield engine
    engine.end()


def job_for(
    store: Path | str, photos: Path | str, out: Path | str, version: str = "v1", **changes: Any
) -> dict[str, Any]:
    """Return a job as `admin_cli label` describes it."""
    return {
        **job_of(str(store), MODEL, resolved(open_registry(str(store), MODEL), version)),
        "photos": str(photos), "out": str(out), **changes,
    }  # fmt: skip


def rows(out: Path | str, **env: str) -> list[dict[str, Any]]:
    """Return all rows of all labellings, sorted by version and path."""
    done = subprocess.run(
        [PYTHON, "-c", ROWS, out], capture_output=True, text=True, timeout=60, env={**os.environ, **env}
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return sorted(found, key=lambda row: (row["version"], row["path"], row["generation"]))


def start(*arguments: str | Path, **env: str | Path) -> subprocess.Popen[str]:
    """Start the command, and go on."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "label", *map(str, arguments)],
        env=environment_of(**env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.02)


def descendants(process: int) -> list[int]:
    """Return the processes that one has started, with those that these have started."""
    parents = dict(_parents())
    found = [process]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def _parents() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text()
            except OSError:  # it has ended
                continue
            yield int(folder.name), int(status.rpartition(")")[2].split()[1])
