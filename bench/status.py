"""How long `admin_cli status` takes for a year of busy instances.

    python bench/status.py [--instances 10] [--labels 100] [--minutes 60] [--past 20] [--runs 5] [--write PAGE]

Writes what they leave where `admin_cli status --compact` is run every hour, by default 20 minutes past: an object a
day, those of the last three days by the hour, and one a minute of each instance in the hours that are not over. Then
it runs that compaction, and lets the instances write for 60 minutes more, until just before the next one. Then it
starts `admin_cli status --since 365d --json` as a user does, in turn with `admin_cli list`, which is the floor: the
start of the program and a few reads. The store is a folder, then an emulator over HTTP on this machine: its processor
time and a new connection for each request, which a real bucket does not need, are within the seconds, and the distance
of a real bucket is not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

from bench import written  # noqa: E402
from bench.buckets import BUCKET, emulated_bucket  # noqa: E402
from classifier.registry.bundle import entry_of  # noqa: E402
from classifier.registry.manifest import InputSpec, Manifest  # noqa: E402
from classifier.registry.rules import Registry  # noqa: E402
from classifier.storage.opening import open_store  # noqa: E402
from classifier.storage.protocol import ObjectStore  # noqa: E402
from classifier.traffic.compaction import compact  # noqa: E402
from classifier.traffic.counts import CONFIDENCE_BUCKETS, LATENCY_EDGES, Counts  # noqa: E402
from classifier.traffic.spans import Span  # noqa: E402

MODEL = "food"
DAYS = 365
BY_THE_HOUR = 3
"""Days whose hours can be told apart still."""
VERSIONS = 12
"""A new one each month; each is a canary in the days before."""
REQUESTS = 60
"""A minute and instance."""
PROGRAM = "from admin_cli.main import main; main()"
STATUS = ("status", "--since", f"{DAYS}d", "--json")
FLOOR = ("list",)


def main() -> None:
    """Measure, and print a line for each store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--minutes", type=int, default=60, help="since the last compaction (default: %(default)s)")
    parser.add_argument("--past", type=int, default=20, help="the hour, at which that was (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="of each command (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure("a folder", f"{folder}/store", {}, options)
    with emulated_bucket() as environment:
        measure("a bucket", f"gs://{BUCKET}/models", environment, options)


def measure(name: str, url: str, environment: Mapping[str, str], options: argparse.Namespace) -> None:
    """Fill a store, start both commands in turn, and print what they took."""
    store = open_store(url)
    labels = [f"label {number:03}" for number in range(options.labels)]
    publish(store, labels)
    now = datetime.now(UTC)
    compacted = now - timedelta(minutes=options.minutes)
    # All of it is put so far back that the compaction was so many minutes past an hour.
    back = timedelta(minutes=(compacted.minute - options.past) % 60)
    for span_name, content in year(compacted - back, labels, options.instances):
        store.write(f"{MODEL}/stats/{span_name}", content)
    compact(store, MODEL, compacted - back)
    for span_name, content in minutes(compacted - back, now - back, labels, options.instances):
        store.write(f"{MODEL}/stats/{span_name}", content)
    stored = list(store.list(f"{MODEL}/stats/"))
    objects, size = len(stored), sum(item.size for item in stored)
    taken: dict[tuple[str, ...], list[Taken]] = {STATUS: [], FLOOR: []}
    for number in range(-1, options.runs):  # the first compiles what is not compiled yet, and fills the page cache
        for command in taken if number % 2 else reversed(taken):
            one, said = run(command, url, environment)
            if command == STATUS:
                check(said, objects)
            if number >= 0:
                taken[command].append(one)
    seconds, cpu = (
        {command: [each[which] for each in several] for command, several in taken.items()} for which in (0, 1)
    )
    status, floor = median(seconds[STATUS]), median(seconds[FLOOR])
    print(
        f"{name}: {objects:,} objects, {size / 1e6:.1f} MB\n"
        f"  status --since {DAYS}d  {status:.2f} s ({min(seconds[STATUS]):.2f} to {max(seconds[STATUS]):.2f}), "
        f"{status / floor:.1f} times list's {floor:.2f} s\n"
        f"  its processor time   {median(cpu[STATUS]):.2f} s, {median(cpu[STATUS]) / median(cpu[FLOOR]):.1f} times "
        f"list's {median(cpu[FLOOR]):.2f} s; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


class Taken(NamedTuple):
    """What a run took, in seconds."""

    seconds: float
    """From the start of the process to its end."""
    cpu: float
    """Of user and system time."""


def run(command: Sequence[str], url: str, environment: Mapping[str, str]) -> tuple[Taken, str]:
    """Start the program; return what it took, and what it printed."""
    settings = {"MODEL_STORE": url, "MODEL_NAME": MODEL, "PYTHONPATH": f"{ROOT / 'functions'}:{ROOT}", **environment}
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command], env={**os.environ, **settings}, stdout=subprocess.PIPE, check=True
    )
    seconds, after = time.perf_counter() - began, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Taken(seconds, cpu), done.stdout.decode()


def check(said: str, objects: int) -> None:
    """Expect every request to have been counted, and drift to be known.

    Raises:
        AssertionError: it is not so.
    """
    status = json.loads(said)
    assert status["objects"] == objects, (status["objects"], objects)
    assert all(row["drift"]["labels"] is not None for row in status["rows"])


def publish(store: ObjectStore, labels: Sequence[str]) -> None:
    """Publish versions, with what each said of its 25 test photos a label; nothing here loads a model."""
    rows = [f"{label}/{number}.jpg,{label},{label},0.9,{label}{number:059}" for label in labels for number in range(25)]
    table = "\n".join(["image_path,label,predicted,confidence,sha256", *rows]).encode()
    files = {"model.tflite": b"a model", "report/test_predictions.csv": table}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        manifest = Manifest(
            labels=tuple(labels),
            input=InputSpec(224, 224),
            files={name: entry_of(content) for name, content in files.items()},
            created_at="2026-01-31T12:00:00Z",
        )
        Path(folder, "manifest.json").write_bytes(manifest.to_json())
        registry = Registry(store, MODEL)
        for _ in range(VERSIONS):
            registry.publish(Path(folder), who="bench", replay=lambda *_: None)
        registry.promote(f"v{VERSIONS}", who="bench", reason="to be measured", replay=lambda *_: None)


def year(until: datetime, labels: Sequence[str], instances: int) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of what was counted, as compactions every hour found it at the end."""
    rng = random.Random(7)
    # The last one left the hour that was not over for 15 minutes then.
    running_from = (until - timedelta(minutes=75)).replace(minute=0, second=0, microsecond=0)
    first_by_the_hour = until.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=BY_THE_HOUR - 1)
    for days in range(DAYS - 1, BY_THE_HOUR - 1, -1):
        start = first_by_the_hour - timedelta(days=days - BY_THE_HOUR + 1)
        parts = tuple(f"{start:%Y-%m-%d}T{number:02}-{uuid.uuid4().hex[:8]}" for number in range(24))
        yield f"{start:%Y-%m-%d}.json", span(rng, start, timedelta(days=1), labels, instances * 1440, days, parts)
    start = first_by_the_hour
    while start < running_from:
        parts = tuple(uuid.uuid4().hex[:16] for _ in range(60 * instances))
        yield (
            f"{start:%Y-%m-%d}/{start:%H}.json",
            span(rng, start, timedelta(hours=1), labels, instances * 60, 0, parts),
        )
        start += timedelta(hours=1)
    yield from minutes(running_from, until, labels, instances)


def minutes(since: datetime, until: datetime, labels: Sequence[str], instances: int) -> Iterator[tuple[str, bytes]]:
    """Yield what instances wrote between two times, one a minute each."""
    rng = random.Random(8)
    while since < until:
        for _ in range(instances):
            content = span(rng, since, timedelta(minutes=1), labels, 1, 0, ())
            yield f"{since:%Y-%m-%d}/{since:%H}/{since:%H%M%S}-{uuid.uuid4().hex[:16]}.json", content
        since += timedelta(minutes=1)


def span(
    rng: random.Random,
    start: datetime,
    length: timedelta,
    labels: Sequence[str],
    minutes: int,
    days_ago: int,
    parts: tuple[str, ...],
) -> bytes:
    """Return the counts of a span of time, in so many minutes of instances, with a canary three days of ten."""
    counts = Counts()
    serving = max(1, VERSIONS - days_ago * VERSIONS // DAYS)
    kinds = [(f"v{serving}", "production", 0.9)]
    if serving < VERSIONS and days_ago % 10 < 3:
        kinds.append((f"v{serving + 1}", "canary", 0.1))
    for version, channel, share in kinds:
        row = counts.row(version, channel)
        row.requests = row.photos = max(1, round(minutes * REQUESTS * share))
        row.statuses = Counter({"200": row.requests})
        row.labels = Counter(rng.choices(labels, k=min(row.photos, 1000)))
        row.unknown = row.photos // 50
        row.confidence = [rng.randrange(row.photos) for _ in range(CONFIDENCE_BUCKETS)]
        row.latency = [rng.randrange(row.requests) for _ in range(len(LATENCY_EDGES) + 1)]
    times = [(each).isoformat(timespec="milliseconds").replace("+00:00", "Z") for each in (start, start + length)]
    return Span(uuid.uuid4().hex[:16], times[0], times[1], counts, parts).to_json()


if __name__ == "__main__":
    written.program(main)
