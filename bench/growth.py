"""What a long history and many versions cost. Part of `bench/reliability.py`.

Cold starts of a function whose pointer has a history of so many entries, in turn; and `admin_cli list`, `status` and
`promote` as a user starts them, in a store of so many versions.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.buckets import ROOT
from bench.processes import serve
from classifier.registry.channels import CHANNELS_FILE
from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.local import LocalStore
from tests.support.bundles import build_tiny_bundle, colour_photo

MODEL = "food"
HISTORIES = (0, 1_000, 10_000)
VERSIONS = (10, 30, 100, 300, 1_000, 2_000)
COMMANDS = ("list", "status", "promote")
PROGRAM = "from admin_cli.main import main; main()"


class Start(NamedTuple):
    """Cold starts behind one history."""

    entries: int
    bytes: int
    """Of the pointer."""
    milliseconds: list[float]
    """From the start of the process to its first label."""


class Grown(NamedTuple):
    """A store of so many versions."""

    versions: int
    seconds: dict[str, float]
    """Of each command, the median."""
    processor: dict[str, float]
    """Processor time of the same, in seconds, which other programs change less."""


def starts(times: int) -> list[Start]:
    """Start a function behind each history so many times, in turn."""
    photo = colour_photo("red")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = build_tiny_bundle(folder / "bundle")
        found = []
        for entries in HISTORIES:
            store = folder / f"store-{entries}"
            registry = Registry(LocalStore(store), MODEL)
            registry.publish(bundle, who="bench", replay=golden.replay)
            registry.promote("v1", who="bench", reason="first", replay=golden.replay)
            found.append(Start(entries, lengthen(store / MODEL / CHANNELS_FILE, entries), []))
        for number in range(-1, times):  # the first compiles what is not compiled yet, and fills the page cache
            for each in found if number % 2 else found[::-1]:
                settings = {
                    "MODEL_STORE": str(folder / f"store-{each.entries}"), "MODEL_NAME": MODEL, "STATS_EVERY": "0"
                }  # fmt: skip
                with serve(ROOT / "functions" / "main.py", folder, settings) as served:
                    first = served.first("/", photo)
                if number >= 0:
                    each.milliseconds.append(first)
    return found


def lengthen(file: Path, entries: int) -> int:
    """Give a pointer so many changes of the gate before the last promotion; return its bytes."""
    channels = json.loads(file.read_bytes())
    (promoted,) = channels["history"]
    changes = [
        {
            "id": f"{number:032x}", "time": "2026-01-31T12:00:00Z", "who": "bench", "action": "gate", "channel": "gate",
            "from": f"class_drop={number % 9 / 10:g}", "to": f"class_drop={(number + 1) % 9 / 10:g}",
            "reason": "a change as long as those that people write",
        }
        for number in range(entries)
    ]  # fmt: skip
    channels["history"] = [*changes, promoted]
    file.write_text(json.dumps(channels, indent=2) + "\n")
    return file.stat().st_size


def curve(times: int, largest: int = VERSIONS[-1]) -> Iterator[Grown]:
    """Publish version after version, and start each command so many times at each number of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = build_tiny_bundle(folder / "bundle")
        registry = Registry(LocalStore(folder / "store"), MODEL)
        known = 0
        for versions in (each for each in VERSIONS if each <= largest):
            with _never_on_disk():
                while known < versions:
                    registry.publish(bundle, who="bench", replay=lambda *_: None)
                    known += 1
            if not registry.channels(newest=0).production:
                registry.promote("v1", who="bench", reason="first", replay=lambda *_: None)
            taken: dict[str, list[tuple[float, float]]] = {command: [] for command in COMMANDS}
            for number in range(times):
                promoted = ("promote", f"v{versions - number % 2}", "--force", "--reason", "curve")
                for command, arguments in zip(COMMANDS, (("list",), ("status",), promoted), strict=True):
                    taken[command].append(run(folder, arguments))
            wall, processor = (
                {command: median(each[which] for each in several) for command, several in taken.items()}
                for which in (0, 1)
            )
            yield Grown(versions, wall, processor)


@contextmanager
def _never_on_disk() -> Iterator[None]:
    """Write without waiting for the disk: to publish is not what is measured."""
    wait = os.fsync
    os.fsync = lambda fd: None
    try:
        yield
    finally:
        os.fsync = wait


def run(folder: Path, arguments: Sequence[str]) -> tuple[float, float]:
    """Start `admin_cli` in a folder; return its seconds, and those of the processor.

    Raises:
        RuntimeError: it failed.
    """
    environment = {
        **os.environ, "MODEL_STORE": str(folder / "store"), "MODEL_NAME": MODEL,
        "PYTHONPATH": f"{ROOT / 'functions'}:{ROOT}",
    }  # fmt: skip
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
