"""What promotions, canaries and shadows cost those who are being served: requests lost, slowest answers, and memory.

    python bench/swaps.py [--architecture mobilenet_v2] [--variant int8-dynamic] [--clients 8] [--json FILE]

One real functions-framework process answers clients that ask without a pause. Steady seconds and seconds with a swap
every second alternate, so that other programs' load hits both alike: five promotions and two rollbacks in each round.
Another process is swapped fifty times under one client, for the memory; a third gets canaries that are started, raised,
aborted and promoted under the same clients, and a shadow that looks at every photo (see rollouts.py). The versions have
the same random weights, made at the first call (see bundles.py); a model's content does not matter to these figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

from bench import bundles, rollouts, written  # noqa: E402
from bench.load import asking, until_served, wait_for, windows_of  # noqa: E402
from bench.measured import percentile  # noqa: E402
from bench.processes import Served, serve  # noqa: E402
from bench.serving import machine, some_photo  # noqa: E402
from classifier.registry.rules import Registry  # noqa: E402
from classifier.storage.local import LocalStore  # noqa: E402

TTL = 0.2
ROUND = ("v2", "v3", "v4", "-", "v5", "-", "v6")
"""Promotions, and rollbacks to the version before; it ends with another version than the one it begins with."""
BETWEEN_SWAPS = 1.0
FEW_SWAPS = 5


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="mobilenet_v2", help="(default: %(default)s)")
    parser.add_argument("--variant", choices=bundles.VARIANTS, default="int8-dynamic", help="(default: %(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="that ask at the same time (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="of seven swaps under load (default: %(default)s)")
    parser.add_argument("--swaps", type=int, default=50, help="for the memory (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    source = bundles.stores(options.architecture)[options.variant]
    photo = some_photo()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        registry = versions_of(source, folder)
        settings = {
            "MODEL_STORE": str(folder / "store"),
            "MODEL_NAME": bundles.MODEL,
            "POINTER_TTL": str(TTL),
            "TRUSTED_PROXIES": "1",
            "STATS_EVERY": "1",
            "RESULT_CACHE_BYTES": "0",  # the same photo is sent again and again, and the model is to be measured
        }
        with serve(ROOT / "functions" / "main.py", folder, settings) as served:
            served.first("/", photo)
            figures = measure_load(served, registry, photo, options.clients, options.rounds)
        with serve(ROOT / "functions" / "main.py", folder, settings) as served:
            served.first("/", photo)
            figures |= measure_memory(served, registry, photo, options.swaps)
        with serve(ROOT / "functions" / "main.py", folder, settings) as served:
            served.first("/", photo)
            figures |= rollouts.measure_canary(served, registry, photo, options.clients, options.rounds)
            for clients in (1, options.clients):
                figures |= rollouts.measure_shadow(served, registry, photo, clients, options.rounds)
    figures |= {"architecture": options.architecture, "variant": options.variant, "clients": options.clients}
    print_figures(figures)
    if options.json:
        options.json.write_text(json.dumps({**machine(), **figures}, indent=2) + "\n")


def versions_of(source: Path, folder: Path) -> Registry:
    """Publish the one version of a store six times, into ``folder/store``, and promote the first."""
    published = source / bundles.MODEL / "versions" / "v1"
    manifest, _ = Registry(LocalStore(source), bundles.MODEL).manifest("v1")
    bundle = folder / "bundle"
    bundle.mkdir()
    for name in manifest.files:
        (bundle / name).symlink_to(published / name)
    (bundle / "manifest.json").write_bytes(replace(manifest, version=None, model=None, created_by=None).to_json())
    registry = Registry(LocalStore(folder / "store"), bundles.MODEL)
    for _ in range(6):
        registry.publish(bundle, who="bench", replay=lambda *_: None)
    registry.promote("v1", who="bench", reason="to be measured", replay=lambda *_: None)
    return registry


def measure_load(
    served: Served, registry: Registry, photo: bytes, clients: int, rounds: int
) -> dict[str, float | int | str | bool]:
    """Return the figures of swaps under load."""
    pointed, windows = ["v1"], []
    worker = max(served.tree(), key=resident)
    with asking(served.port, photo, clients) as asked:
        wait_for(asked, 50 * clients)
        # The peak so far is that of starting; writing 5 makes the kernel forget it.
        steady_memory = served.memory().pss
        Path(f"/proc/{worker}/clear_refs").write_text("5")
        steady_peak = peak(worker)
        for _ in range(rounds):
            windows.append((time.perf_counter(), False))
            time.sleep(len(ROUND) * (BETWEEN_SWAPS + 2 * TTL))
            windows.append((time.perf_counter(), True))
            for action in ROUND:
                version = swap(registry, action)
                pointed.append(version)
                until_served(asked, version)
                time.sleep(BETWEEN_SWAPS)
        windows.append((time.perf_counter(), False))
        peak_memory = peak(worker)
    answered = list(asked)
    took = windows_of(answered, windows)
    return {
        "requests": len(answered),
        "failures": sum(not each.version for each in answered),
        "versions_pointed_at": {each.version for each in answered} <= set(pointed),
        "swaps_under_load": rounds * len(ROUND),
        "steady_p50_ms": percentile(took[False], 0.5),
        "swapping_p50_ms": percentile(took[True], 0.5),
        "steady_p99_ms": percentile(took[False], 0.99),
        "swapping_p99_ms": percentile(took[True], 0.99),
        "steady_max_ms": max(took[False]),
        "swapping_max_ms": max(took[True]),
        "pss_steady_mb": steady_memory,
        "rss_steady_mb": steady_peak,
        "rss_peak_mb": peak_memory,
        "load": round(os.getloadavg()[0], 1),
    }


def measure_memory(served: Served, registry: Registry, photo: bytes, swaps: int) -> dict[str, float | int | str | bool]:
    """Return the memory after a few swaps and after all: medians of a second, in which the swap comes to rest."""
    memory = {}
    with asking(served.port, photo, 1) as asked:
        for number in range(1, swaps + 1):
            until_served(asked, swap(registry, f"v{number % 5 + 1}"))
            if number in (FEW_SWAPS, swaps):
                memory[number] = median(each_after(0.2, lambda: served.memory().pss, times=5))
    return {"swaps": swaps, "pss_early_mb": memory[FEW_SWAPS], "pss_late_mb": memory[swaps]}


def each_after(seconds: float, measure: Callable[[], float], times: int) -> Iterator[float]:
    """Yield so many measurements, each after a pause."""
    for _ in range(times):
        time.sleep(seconds)
        yield measure()


def swap(registry: Registry, action: str) -> str:
    """Promote a version, or roll back where the action is "-"; return what the pointer names now."""
    if action == "-":
        return registry.rollback(who="bench", reason="a swap", replay=lambda *_: None).to_version
    registry.promote(action, who="bench", reason="a swap", replay=lambda *_: None)
    return action


def resident(process: int) -> float:
    """Return a process's resident memory in MB (10^6 bytes)."""
    return _status(process, "VmRSS")


def peak(process: int) -> float:
    """Return the most that a process was resident since its peak was reset, in MB."""
    return _status(process, "VmHWM")


def _status(process: int, name: str) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) * 1024 / 1e6


def print_figures(figures: dict[str, float | int | str | bool]) -> None:
    """Print the figures, so that a person can read them."""
    ratio = float(figures["swapping_p99_ms"]) / float(figures["steady_p99_ms"])
    growth = float(figures["pss_late_mb"]) / float(figures["pss_early_mb"]) - 1
    print(
        f"{figures['architecture']} {figures['variant']}, {figures['clients']} clients, load {figures['load']}\n"
        f"requests    {figures['requests']}, {figures['failures']} failed, "
        f"{figures['swaps_under_load']} swaps under load"
        f"{'' if figures['versions_pointed_at'] else '; a version answered that was never pointed at'}\n"
        f"{'ms':12}{'p50':>8}{'p99':>8}{'max':>8}"
    )
    for name in ("steady", "swapping"):
        print(f"{name:12}" + "".join(f"{figures[f'{name}_{each}_ms']:8.1f}" for each in ("p50", "p99", "max")))
    print(
        f"p99 during the swaps is {ratio:.2f} times the steady one\n"
        f"memory      {figures['pss_steady_mb']:.0f} MB in all (PSS) before the first swap, "
        f"{figures['pss_early_mb']:.0f} after {FEW_SWAPS} swaps, "
        f"{figures['pss_late_mb']:.0f} after {figures['swaps']} ({growth:+.1%})\n"
        f"worker      {figures['rss_steady_mb']:.0f} MB resident, at most {figures['rss_peak_mb']:.0f} during a swap"
    )
    rollouts.print_figures(figures)


if __name__ == "__main__":
    written.program(main)
