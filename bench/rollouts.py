"""What canaries and shadows cost those who are being served. Part of ``python bench/swaps.py``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bench.load import SWAPPED_WITHIN, Asked, asking, wait_for, windows_of
from bench.measured import percentile
from classifier.registry.channels import SHADOW
from classifier.traffic.reading import read_since

if TYPE_CHECKING:
    from bench.processes import Served
    from classifier.registry.rules import Registry

BETWEEN = 1.0
STEADY = 6.0
WHO, WHY = "bench", "to be measured"
Figures = dict[str, float | int | str | bool]


def measure_canary(served: Served, registry: Registry, photo: bytes, clients: int, rounds: int) -> Figures:
    """Start, raise, abort, start again and promote canaries under load; steady seconds alternate with these."""
    before = _production(registry)
    other = "v2" if before == "v1" else "v1"
    with asking(served.port, photo, clients) as asked:
        wait_for(asked, 50 * clients)
        marks = []
        for number in range(rounds):
            marks.append((time.perf_counter(), False))
            time.sleep(STEADY)
            marks.append((time.perf_counter(), True))
            _roll_out(asked, registry, other if number % 2 == 0 else before)
        marks.append((time.perf_counter(), False))
    took = windows_of(asked, marks)
    return {
        "canary_requests": len(asked),
        "canary_failures": sum(not each.version for each in asked),
        "canary_changes": 5 * rounds,
        "canary_answers": sum(each.channel == "canary" for each in asked),
        **_percentiles("canary_steady", took[False]),
        **_percentiles("canary_changing", took[True]),
        "canary_load": round(os.getloadavg()[0], 1),
    }


def measure_shadow(served: Served, registry: Registry, photo: bytes, clients: int, rounds: int) -> Figures:
    """Let a shadow look at every photo under load; seconds without one alternate with these."""
    began = datetime.now(UTC) - timedelta(seconds=1)
    with asking(served.port, photo, clients) as asked:
        wait_for(asked, 20 * clients)
        marks = []
        for _ in range(rounds):
            marks.append((time.perf_counter(), False))
            time.sleep(STEADY)
            registry.start_shadow("v3", 1.0, who=WHO, reason=WHY, replay=_replay)
            time.sleep(3 * BETWEEN)  # it is loaded meanwhile, which is what canaries show above
            marks.append((time.perf_counter(), True))
            time.sleep(STEADY)
            registry.stop_shadow(who=WHO, reason=WHY)
            marks.append((time.perf_counter(), False))
            time.sleep(BETWEEN)
    time.sleep(1.5)
    with asking(served.port, photo, 1) as last:  # whose request writes the last counts
        wait_for(last, 5)
    took = windows_of(asked, marks)
    rows = read_since(registry.store, registry.model, began, datetime.now(UTC)).rows
    seen = [row for kind, row in rows.items() if kind.channel == SHADOW]
    name = f"shadow_{clients}"
    return {
        f"{name}_failures": sum(not each.version for each in asked),
        f"{name}_photos": sum(row.photos for row in seen),
        f"{name}_dropped": sum(row.shadow["dropped"] for row in seen),
        **_percentiles(f"{name}_off", took[False]),
        **_percentiles(f"{name}_on", took[True]),
    }


def print_figures(figures: Figures) -> None:
    """Print the figures, so that a person can read them."""
    print(
        f"canaries    {figures['canary_requests']} requests, {figures['canary_failures']} failed, "
        f"{figures['canary_changes']} changes, {figures['canary_answers']} answers by the canary\n"
        f"{'ms':24}{'p50':>8}{'p99':>8}{'max':>8}"
    )
    _line(figures, "steady", "canary_steady")
    _line(figures, "while they change", "canary_changing")
    ratio = float(figures["canary_changing_p99_ms"]) / float(figures["canary_steady_p99_ms"])
    print(f"p99 while canaries change is {ratio:.2f} times the steady one")
    for clients in (1, figures["clients"]):
        name = f"shadow_{clients}"
        print(
            f"a shadow of all photos, {clients} {'client' if clients == 1 else 'clients'} without a pause: "
            f"{figures[f'{name}_photos']} photos classified, {figures[f'{name}_dropped']} dropped, "
            f"{figures[f'{name}_failures']} requests failed"
        )
        _line(figures, "without", f"{name}_off")
        _line(figures, "with", f"{name}_on")


def _line(figures: Figures, title: str, name: str) -> None:
    print(f"{title:24}" + "".join(f"{figures[f'{name}_{each}_ms']:8.1f}" for each in ("p50", "p99", "max")))


def _percentiles(name: str, took: list[float]) -> Figures:
    return {
        f"{name}_p50_ms": percentile(took, 0.5),
        f"{name}_p99_ms": percentile(took, 0.99),
        f"{name}_max_ms": max(took),
    }


def _production(registry: Registry) -> str:
    pointer = registry.channels(newest=0).production
    return pointer.version if pointer else ""


def _roll_out(asked: list[Asked], registry: Registry, version: str) -> None:
    """Start a canary, raise its share, abort it, start it again and promote it."""

    def start(percent: float) -> None:
        registry.start_canary(version, percent, who=WHO, reason=WHY, replay=_replay)
        seen()

    def seen(channel: str = "canary") -> None:
        _until(asked, lambda fresh: any((each.channel, each.version) == (channel, version) for each in fresh))
        time.sleep(BETWEEN)

    start(25)
    start(50)
    registry.abort_canary(who=WHO, reason=WHY)
    _until(asked, lambda fresh: len(fresh) >= 100 and all(each.channel == "production" for each in fresh[-100:]))
    start(50)
    registry.promote(version, who=WHO, reason=WHY, replay=_replay)
    seen("production")


def _replay(*_: object) -> None:
    """Golden cases are not what is measured."""


def _until(asked: list[Asked], settled: Callable[[list[Asked]], bool]) -> None:
    until, seen = time.perf_counter() + SWAPPED_WITHIN, len(asked)
    while not settled(asked[seen:]):
        if time.perf_counter() > until:
            raise RuntimeError("A canary was changed, and that was not seen in the replies.")
        time.sleep(0.02)
