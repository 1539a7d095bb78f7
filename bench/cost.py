"""Prints what predictions cost a month: the table of docs/deploy.md, from its formula and Google's unit prices.

Run it with the seconds and prices of your own: python bench/cost.py --seconds 0.2 --memory 1 --cpu 1
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

CPU_SECOND = 0.000024
GIB_SECOND = 0.0000025
REQUEST = 0.40 / 1e6
FREE_CPU_SECONDS = 180_000
FREE_GIB_SECONDS = 360_000
FREE_REQUESTS = 2_000_000
"""US dollars, request-based billing, regions of tier 1; free in each month: https://cloud.google.com/run/pricing."""

PREDICTIONS = (10_000, 100_000, 1_000_000, 10_000_000)


@dataclass(frozen=True)
class Instance:
    """What a prediction keeps busy."""

    memory: float
    """GiB."""
    cpu: float
    seconds: float
    """Billed for one prediction: Google rounds up to 0.1."""


INSTANCES = (Instance(0.5, 1, 0.1), Instance(1, 1, 0.1), Instance(1, 1, 0.2), Instance(2, 1, 0.5))


def dollars(predictions: int, instance: Instance) -> float:
    """Return the price of a month's predictions that come one at a time, after the free tier."""
    seconds = predictions * instance.seconds
    cpu = max(0.0, seconds * instance.cpu - FREE_CPU_SECONDS) * CPU_SECOND
    memory = max(0.0, seconds * instance.memory - FREE_GIB_SECONDS) * GIB_SECOND
    return cpu + memory + max(0, predictions - FREE_REQUESTS) * REQUEST


def table(instances: tuple[Instance, ...] = INSTANCES) -> str:
    """Return the table in Markdown."""
    head = "| memory | CPU | billed for one | " + " | ".join(f"{count:,}" for count in PREDICTIONS) + " |"
    lines = [head, "| ---: " * (3 + len(PREDICTIONS)) + "|"]
    for instance in instances:
        prices = " | ".join(f"${dollars(count, instance):,.2f}" for count in PREDICTIONS)
        lines.append(f"| {instance.memory * 1024:.0f} MiB | {instance.cpu:g} | {instance.seconds:g} s | {prices} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or that of one instance."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--memory", type=float, default=0.5, help="GiB (default 0.5)")
    parser.add_argument("--cpu", type=float, default=1, help="CPUs (default 1)")
    parser.add_argument("--seconds", type=float, help="billed for one prediction; without it: the table of the docs")
    given = parser.parse_args()
    print(table((Instance(given.memory, given.cpu, given.seconds),)) if given.seconds else table())


if __name__ == "__main__":
    main()
