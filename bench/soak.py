"""A function under everything at once for minutes. Part of `bench/reliability.py`.

Clients ask without a pause and others correct what it says, while versions are promoted and rolled back, canaries and
a shadow come and go, and its bucket (an emulator behind a proxy) answers 503, hangs, breaks off in the middle of an
answer or is not there, half of the time. Whoever changes versions reaches the bucket undisturbed. Every request has an
outcome, and at the end the bucket is asked what became of each correction that was taken.
"""

from __future__ import annotations

import base64
import itertools
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from bench.buckets import BUCKET, ROOT, emulated_bucket
from bench.load import CALLERS, send
from bench.processes import Served, serve
from classifier.errors import Conflict, NotFound, Refused
from classifier.registry.rules import Registry
from classifier.storage.opening import open_store
from classifier.traffic.feedback import Feedback
from classifier.traffic.reading import read_since
from tests.support.bundles import TINY_LABELS, build_tiny_bundle, colour_photo
from tests.support.fault_proxy import Fault, Proxy, fault_proxy

CLIENTS = 4
VERSIONS = 4
FAULTS: tuple[Fault, ...] = ("503", "hang", "cut", "refuse")
FAULTY, WHOLE = 6.0, 6.0
"""Seconds that a fault lasts, and that follow it."""
BETWEEN_CHANGES = 1.5
BETWEEN_CORRECTIONS = 0.5
SETTLES = 8.0
"""Seconds at the end without faults, in which counts are written."""
PHOTOS = [(label, colour_photo(label, seed=seed)) for seed in range(8) for label in TINY_LABELS]
MODEL = "food"


class Soaked(NamedTuple):
    """What came of it."""

    seconds: float
    photos: Counter[str]
    """Requests with a photo by outcome: a status, or what became of the connection."""
    wrong: int
    """Answers of 200 with another label than that of the photo, or a version that nobody pointed at."""
    corrections: Counter[str]
    lost_corrections: int
    """That were taken, with 200 or 201, and are not in the bucket."""
    changes: int
    faults: int
    counted: int
    """Requests with a photo that the function's counts tell of."""
    memory_start: float
    """MB (PSS) of all its processes behind the first seconds."""
    memory_end: float
    memory_most: float

    @property
    def sent(self) -> int:
        """Requests with a photo."""
        return sum(self.photos.values())


def measure(minutes: float) -> Soaked:
    """Soak a function for so many minutes."""
    with emulated_bucket() as environment, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        registry = Registry(open_store(f"gs://{BUCKET}/soak"), MODEL)
        bundle = build_tiny_bundle(folder / "bundle")
        for _ in range(VERSIONS):
            registry.publish(bundle, who="bench", replay=_replay)
        registry.promote("v1", who="bench", reason="", replay=_replay)
        with fault_proxy(environment["STORAGE_EMULATOR_HOST"]) as proxy:
            settings = {
                "MODEL_STORE": f"gs://{BUCKET}/soak", "MODEL_NAME": MODEL, "STORAGE_EMULATOR_HOST": proxy.url,
                "POINTER_TTL": "0.5", "STATS_EVERY": "2", "TRUSTED_PROXIES": "1", "FEEDBACK_LIMIT": "1000000/day",
                "RESULT_CACHE_BYTES": "0",
            }  # fmt: skip
            with serve(ROOT / "functions" / "main.py", folder, settings) as served:
                served.first("/", PHOTOS[0][1])
                return _soak(served, registry, proxy, minutes * 60)


def _soak(served: Served, registry: Registry, proxy: Proxy, seconds: float) -> Soaked:
    ended, healed = threading.Event(), threading.Event()
    photos = Counter({"200": 1})  # the first
    corrections: Counter[str] = Counter()
    wrong: list[str] = []
    taken: list[str] = []
    changes = [0]
    lock = threading.Lock()
    began_at, began = datetime.now(UTC) - timedelta(minutes=5), time.monotonic()

    def count(where: Counter[str], outcome: str) -> None:
        with lock:
            where[outcome] += 1

    def ask(number: int) -> None:
        for turn in itertools.count(number, CLIENTS):
            if ended.is_set():
                return
            label, photo = PHOTOS[turn % len(PHOTOS)]
            outcome, body = send(served.port, "/", photo, "image/png", f"10.0.0.{turn % CALLERS + 1}")
            count(photos, outcome)
            if outcome == "200" and json.loads(body)["label"] != label:
                wrong.append(label)

    def correct() -> None:
        for turn in itertools.count():
            if healed.wait(BETWEEN_CORRECTIONS):
                return
            label = TINY_LABELS[turn % len(TINY_LABELS)]
            photo = colour_photo(label, seed=1000 + turn)  # the same one again would be no new correction
            said = {"label": label, "request_id": f"r{turn}", "consent": True}
            said["image"] = base64.b64encode(photo).decode()
            outcome, body = send(served.port, "/feedback", json.dumps(said).encode(), "application/json", "10.1.0.1")
            count(corrections, outcome)
            if outcome in ("200", "201"):  # 200: a first try arrived, whose answer the fault took
                taken.append(str(json.loads(body)["id"]))

    def operate() -> None:
        for change in itertools.cycle(_changes(registry)):
            if healed.wait(BETWEEN_CHANGES):
                return
            with suppress(Conflict, NotFound, Refused):
                change()
                changes[0] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    threads += [threading.Thread(target=correct), threading.Thread(target=operate)]
    for each in threads:
        each.start()
    time.sleep(min(5.0, seconds / 4))
    memory = [served.memory().pss]
    faults = 0
    try:
        for fault in itertools.cycle(FAULTS):
            if time.monotonic() - began > seconds - FAULTY - WHOLE:
                break
            proxy.set(fault)
            faults += 1
            time.sleep(FAULTY)
            proxy.set("")
            time.sleep(WHOLE)
            memory.append(served.memory().pss)
        healed.set()
        time.sleep(SETTLES)
    finally:
        healed.set()
        ended.set()
        for each in threads:
            each.join()
    for _ in range(3):  # counts are written in a request
        time.sleep(1.0)
        outcome, _ = send(served.port, "/", PHOTOS[0][1], "image/png", "10.0.0.1")
        photos[outcome] += 1
    time.sleep(2.0)
    memory.append(served.memory().pss)
    there = {case.correction.id for case in Feedback(registry.store, MODEL).cases()}
    rows = read_since(registry.store, MODEL, began_at, datetime.now(UTC)).rows
    counted = sum(row.requests for row in rows.values())
    return Soaked(
        time.monotonic() - began, photos, len(wrong), corrections, len(set(taken) - there), changes[0], faults, counted,
        memory[0], memory[-1], max(memory),
    )  # fmt: skip


def _changes(registry: Registry) -> list[Callable[[], object]]:
    """Return what whoever changes versions does, over and over."""
    by: dict[str, Any] = {"who": "bench", "reason": "soak"}

    def promote(version: str) -> Callable[[], object]:
        return lambda: registry.promote(version, replay=_replay, **by)

    return [
        promote("v2"),
        lambda: registry.start_canary("v3", 20.0, replay=_replay, **by),
        lambda: registry.start_canary("v3", 50.0, replay=_replay, **by),
        lambda: registry.abort_canary(**by),
        promote("v4"),
        lambda: registry.start_shadow("v1", 0.5, replay=_replay, **by),
        lambda: registry.stop_shadow(**by),
        lambda: registry.rollback(replay=_replay, **by),
        promote("v3"),
        promote("v1"),
    ]


def _replay(*_: object) -> None:
    """Golden cases are not what is measured."""


def lines(soaked: Soaked) -> Iterator[str]:
    """Yield what was found."""
    answered = soaked.photos["200"]
    lost = sum(count for outcome, count in soaked.photos.items() if outcome.startswith("no answer"))
    yield (
        f"{soaked.seconds / 60:.1f} minutes, {CLIENTS} clients, {soaked.changes} changes of versions, "
        f"{soaked.faults} faults of the bucket of {FAULTY:g} s each"
    )
    yield (
        f"photos: {soaked.sent:,} sent, {answered:,} answered, {soaked.sent - answered - lost:,} refused or failed, "
        f"{lost:,} lost, {soaked.wrong} wrong"
    )
    yield from (f"  {outcome}: {count:,}" for outcome, count in soaked.photos.most_common() if outcome != "200")
    said = ", ".join(f"{count:,} {outcome}" for outcome, count in soaked.corrections.most_common())
    yield f"corrections by answer: {said}; {soaked.lost_corrections} taken and lost"
    yield f"counted by the function: {soaked.counted:,} photo requests of {soaked.sent:,}"
    yield (
        f"memory: {soaked.memory_start:.0f} MB behind the first seconds, {soaked.memory_end:.0f} at the end, "
        f"{soaked.memory_most:.0f} at most"
    )
