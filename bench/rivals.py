"""Eight processes that change what serves at the same moment, round after round. Part of `bench/reliability.py`.

After each round the history has to have an entry for everything that took effect and for nothing else, each going on
from what the one before left, and the channels have to be what it tells.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.buckets import BUCKET, ROOT, emulated_bucket
from classifier.registry.rules import Registry
from classifier.storage.opening import open_store
from tests.support.bundles import write_bundle
from tests.support.rivalry import Told, replay

RIVALS = 8
MODEL = "food"
VERSIONS = 4
WISHES = (
    "promote v1", "promote v2", "promote v3", "promote v4", "promote v2", "promote v3", "rollback", "rollback",
    "canary v3 10", "canary v4 50", "abort", "shadow v2 0.5", "stop", "gate 0.3", "gate 0.4",
)  # fmt: skip
"""What a rival may want; half of it concerns production."""
PROGRAM = f"""
import sys
from classifier.registry.rules import Registry
from classifier.storage.opening import open_store
from tests.support.rivalry import wish
registry = Registry(open_store(sys.argv[1]), {MODEL!r})
for line in sys.stdin:
    entry = wish(registry, line.strip(), who=sys.argv[2])
    print(entry.id if entry else "", flush=True)
"""
"""One of them: does what it is told, a line at a time, and answers with the id of its entry."""


class Rivalry(NamedTuple):
    """What came of the rounds on one store."""

    store: str
    rounds: int
    wishes: int
    took_effect: int
    """Entries of the history, each for one wish."""
    inconsistent: int
    """Rounds behind which the history and the channels did not agree, or an entry was missing or nobody's."""
    seconds: float


def measure(rounds: int) -> Iterator[Rivalry]:
    """Let them change a folder, then a bucket."""
    with tempfile.TemporaryDirectory() as folder:
        yield rivalry("a folder", f"{folder}/store", rounds)
    with emulated_bucket():
        yield rivalry("a bucket", f"gs://{BUCKET}/rivals", rounds)


def rivalry(name: str, url: str, rounds: int) -> Rivalry:
    """Let eight processes change one store, and look at it behind each round."""
    registry = Registry(open_store(url), MODEL)
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder, "bundle"))
        for _ in range(VERSIONS):
            registry.publish(bundle, who="bench", replay=replay)
    registry.promote("v1", who="bench", reason="", replay=replay)
    chance, told, known = random.Random(7), Told(), 0
    took_effect = wishes = inconsistent = 0
    began = time.perf_counter()
    with ExitStack() as stack:
        rivals = [stack.enter_context(rival(url, number)) for number in range(RIVALS)]
        for _ in range(rounds):
            wanted = [chance.choice(WISHES) for _ in rivals]
            for each, text in zip(rivals, wanted, strict=True):
                tell(each, text)
            done = {said for each in rivals if (said := answer(each))}
            wishes, took_effect = wishes + len(wanted), took_effect + len(done)
            channels = registry.channels()
            fresh = channels.history[known:]
            try:
                for entry in fresh:
                    told.take(entry)
                told.expect(channels, lambda version: registry.manifest(version)[1])
                agrees = {entry.id for entry in fresh if entry.who != "bench"} == done
            except (AssertionError, KeyError, IndexError):
                agrees = False
            known = len(channels.history)
            inconsistent += not agrees
    return Rivalry(name, rounds, wishes, took_effect, inconsistent, time.perf_counter() - began)


@contextmanager
def rival(url: str, number: int) -> Iterator[subprocess.Popen[str]]:
    """Start a process that does what it is told, a line at a time."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url, f"rival {number}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'functions'}:{ROOT}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def tell(process: subprocess.Popen[str], text: str) -> None:
    """Tell a rival what it wants."""
    assert process.stdin is not None
    process.stdin.write(f"{text}\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> str:
    """Return the id of the entry that it made; "" where its wish did not take effect.

    Raises:
        RuntimeError: it has ended.
    """
    assert process.stdout is not None
    said = process.stdout.readline()
    if not said:
        raise RuntimeError("A rival has ended, with an error that nobody expected.")
    return said.strip()
