"""How fast folders are labelled, with how much memory, and what a listing of a million names takes.

    python bench/batch.py [--photos 600] [--rounds 3] [--architecture mobilenet_v2] [--many 20000] [--names 1000000]

Needs the environment of `make batch`. Photos are rendered JPEGs of 1024 x 768, each of which is decoded. In each
round take turns: (b) decoding and forward passes alone, in one process and in two at once; (a) a plain loop over
`open_model`; and labellings with one and two worker processes. Their rate is of the files that they wrote after the
first, by their times: workers take seconds to start, whatever there is to do. Ratios are those of one round; the median
of the rounds is shown, with their range. On a machine that has other things to do, what counts is photos for a second
of processor time: a labelling's is that of all its processes, less that of one of 32 photos, which is their start.
Memory is the largest that any of its processes had (VmHWM).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

from admin_cli.labelling import job_of, resolved  # noqa: E402
from admin_cli.options import open_registry  # noqa: E402
from bench import bundles, written  # noqa: E402

PYTHON = Path(sys.prefix, "batch", "bin", "python")
FEW = 32
DISTINCT = 40
"""Rendered photos; the others are those with other bytes behind their end."""
LOOP = """
import sys, time
from pathlib import Path
from classifier import open_model
paths = sorted(Path(sys.argv[3]).iterdir())
model = open_model(sys.argv[1], sys.argv[2], cpus=1)
model.predict(paths[0])
began, cpu = time.perf_counter(), time.process_time()
for path in paths:
    model.predict(path)
print(len(paths) / (time.perf_counter() - began), len(paths) / (time.process_time() - cpu))
"""
ALONE = """
import sys, time
from pathlib import Path
from classifier import open_model
from classifier.photo.preprocessing import load_array
from classifier.serving.model import Model
opened = open_model(sys.argv[1], sys.argv[2], cpus=1)
spec, model = opened.manifest.input, Model(opened._pool.content)
contents = [path.read_bytes() for path in sorted(Path(sys.argv[3]).iterdir())]
model.run(load_array(contents[0], spec))
print("ready", flush=True)
sys.stdin.readline()
began, cpu = time.perf_counter(), time.process_time()
for content in contents:
    model.run(load_array(content, spec))
print(len(contents) / (time.perf_counter() - began), len(contents) / (time.process_time() - cpu))
"""
ROWS = """
import hashlib, json, sys
from pyarrow import dataset
rows = dataset.dataset(sys.argv[1], partitioning="hive").to_table().to_pylist()
print(hashlib.sha256(json.dumps(sorted(map(str, rows))).encode()).hexdigest(), len(rows))
"""
LISTING = """
import sys, time
from batch.listing import listing
from batch.plan import Plan
from pathlib import Path
def peak():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))
began = time.monotonic()
with Plan() as plan:
    plan.list(listing(sys.argv[1]).photos)
    print(plan.count_todo(), time.monotonic() - began, peak())
"""


class Labelled(NamedTuple):
    """One labelling."""

    rate: float
    """Photos a second."""
    whole: float
    """Photos a second from the start of the program to its end."""
    memory: float
    """MB."""
    processor: float
    """Seconds of all its processes."""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--architecture", default="mobilenet_v2")
    parser.add_argument("--variant", default="int8")
    parser.add_argument("--many", type=int, default=20_000)
    parser.add_argument("--names", type=int, default=1_000_000)
    options = parser.parse_args()
    if not PYTHON.is_file():
        sys.exit("Expected Apache Beam in an environment of its own: make batch")
    store = bundles.stores(options.architecture)[options.variant]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if options.photos:
            speed(store, folder, options.photos, options.rounds, f"{options.architecture}, {options.variant}")
        if options.many:
            memory(store, folder, (1000, options.many))
        if options.names:
            listings((10_000, options.names))


def speed(store: Path, folder: Path, photos: int, rounds: int, what: str) -> None:
    """Print photos a second, and what they are to those of decoding and forward passes alone."""
    render(folder / "photos", photos, (1024, 768))
    render(folder / "few", FEW, (1024, 768))
    found: dict[str, list[float]] = {}
    digests = set()
    for number in range(rounds):
        figures: dict[str, float] = {}
        for processes in (1, 2):
            figures[f"alone {processes}"], figures[f"CPU alone {processes}"] = alone(
                store, folder / "photos", processes
            )
            out = folder / f"labels-{number}-{processes}"
            few = label(store, folder / "few", folder / f"few-{number}-{processes}", processes)
            done = label(store, folder / "photos", out, processes)
            figures[f"label {processes}"] = done.rate
            figures[f"CPU label {processes}"] = (photos - FEW) / (done.processor - few.processor)
            digests.add(run(PYTHON, ROWS, out))
        said = run(sys.executable, LOOP, store, bundles.MODEL, folder / "photos").split()
        figures["loop"], figures["CPU loop"] = map(float, said)
        for name, value in figures.items():
            found.setdefault(name, []).append(value)
        print(f"round {number + 1}: " + ", ".join(f"{name} {value:.1f}" for name, value in figures.items()), flush=True)
    print(f"\n{what}, {photos} JPEGs of 1024 x 768, photos/s (median of {rounds} rounds)")
    for name in ("alone 1", "loop", "label 1", "alone 2", "label 2"):
        print(f"  {name:8} {median(found[name]):7.1f}   per CPU second {median(found[f'CPU {name}']):7.1f}")
    pairs = (("label 2", "label 1"), ("label 1", "alone 1"), ("label 2", "alone 2"), ("label 1", "loop"))
    for name, over in (*pairs, *((f"CPU {one}", f"CPU {other}") for one, other in pairs)):
        ratios = [one / other for one, other in zip(found[name], found[over], strict=True)]
        print(f"  {name} / {over}: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"  rows the same whatever the number of workers: {len(digests) == 1}", flush=True)


def memory(store: Path, folder: Path, counts: Sequence[int]) -> None:
    """Print the largest process of labellings of few photos and of many."""
    for count in counts:
        render(folder / f"many-{count}", count, (160, 120))
        for workers in (1, 2):
            done = label(store, folder / f"many-{count}", folder / f"labels-{count}-{workers}", workers)
            print(
                f"{count:,} photos, {workers} workers: {done.memory:.0f} MB, {done.whole:.0f} photos/s in all",
                flush=True,
            )


def listings(counts: Sequence[int]) -> None:
    """Print what it takes to list and plan so many names of a bucket; the emulator's time is within it."""
    for count in counts:
        with subprocess.Popen(
            [sys.executable, ROOT / "tests/support/gcs_emulator.py", "bench"], stdout=subprocess.PIPE, text=True
        ) as emulator:
            try:
                address = f"http://127.0.0.1:{str(emulator.stdout and emulator.stdout.readline()).strip()}"
                said = run(
                    sys.executable, LISTING, f"gs://generated-{count}/**/*.jpg", STORAGE_EMULATOR_HOST=address
                ).split()
            finally:
                emulator.terminate()
        print(
            f"{int(said[0]):,} names listed and planned in {float(said[1]):.0f} s, {int(said[2]) / 1024:.0f} MB",
            flush=True,
        )


def render(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Write JPEGs."""
    from bench.preprocessing import rendered_scene

    folder.mkdir()
    contents = []
    for seed in range(min(DISTINCT, count)):
        file = io.BytesIO()
        rendered_scene(size, seed=seed).save(file, "JPEG", quality=90)
        contents.append(file.getvalue())
    for number in range(count):
        (folder / f"{number:06}.jpg").write_bytes(contents[number % len(contents)] + number.to_bytes(4, "big"))


def alone(store: Path, photos: Path, processes: int) -> tuple[float, float]:
    """Return the photos a second of so many processes that only decode and run the model, and those a CPU second."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", ALONE, store, bundles.MODEL, photos],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
        )
        for _ in range(processes)
    ]  # fmt: skip
    for each in started:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    for each in started:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    said = [tuple(map(float, each.communicate()[0].split())) for each in started]
    return sum(rate for rate, _ in said), sum(rate for _, rate in said) / processes


def label(store: Path, photos: Path, out: Path, workers: int) -> Labelled:
    """Label a folder."""
    pointer = resolved(open_registry(str(store), bundles.MODEL), "production")
    job = {**job_of(str(store), bundles.MODEL, pointer), "photos": str(photos), "out": str(out)}
    how = {"runner": "local", "workers": workers, "sample": 0, "against": "", "candidates": 0, "candidates_to": ""}
    began, todo, peak, used = time.monotonic(), 0, 0.0, processor()
    with subprocess.Popen(
        [PYTHON, "-m", "batch.main", "label", json.dumps({"job": job, "how": how})],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "error":
                sys.exit(event["message"])
            todo = event.get("todo", todo)
            peak = max(peak, largest_of_session(process.pid))
    seconds = time.monotonic() - began
    files = sorted(path.stat().st_mtime for path in out.rglob("*.parquet"))
    each = todo / len(files)
    rate = each * (len(files) - 1) / (files[-1] - files[0])
    return Labelled(rate, todo / seconds, peak, processor() - used)


def processor() -> float:
    """Return the processor seconds of the processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def largest_of_session(session: int) -> float:
    """Return the most memory that a process of a session has had, in MB."""
    most = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            stat = (status.parent / "stat").read_text().rpartition(")")[2].split()
            if int(stat[3]) == session:
                line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
                most = max(most, int(line.split()[1]) / 1024)
        except (OSError, StopIteration):  # it has ended
            continue
    return most


def run(python: Path | str, program: str, *arguments: object, **env: str) -> str:
    """Return what a program prints."""
    return subprocess.run(
        [python, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, env={**environment(), **env},
    ).stdout  # fmt: skip


def environment() -> dict[str, str]:
    """Return the environment with the project importable."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'functions'}"}


if __name__ == "__main__":
    written.program(main)
