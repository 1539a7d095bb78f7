"""One function that is measured: it is started in several rounds, and this is what each round shows of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

from bench.processes import Memory, Reply, serve

LABEL, OVERLAY = "/", "/?gradcam=1"
STEPS = ("decode", "queue", "infer", "encode")
UNMEASURED_LABELS, UNMEASURED_OVERLAYS = 5, 2

Kind = Literal["empty", "peer", "pointer"]


class Plan(NamedTuple):
    """How much is asked of a function in a round."""

    labels: int
    overlays: int
    clients: int
    """How many ask at the same time in the end."""
    seconds: float
    """How long they do."""


@dataclass(frozen=True)
class Round:
    """What one start showed."""

    first_ms: float
    """From the start of the process to its first label."""
    first_cpu_ms: float
    """User and system time until then."""
    label_ms: list[float]
    overlay_ms: list[float]
    label_steps: dict[str, list[float]]
    """Pointer's own milliseconds for each step of a label."""
    encode_ms: list[float]
    """Pointer's own milliseconds for drawing and encoding an overlay."""
    a_second: float
    """Labels a second, with several clients."""
    memory: Memory
    """At the end, behind all of that."""


@dataclass
class Measured:
    """A function and its rounds."""

    name: str
    kind: Kind
    source: Path
    environment: dict[str, str]
    forward_ms: float = math.nan
    """The forward pass alone; Pointer's only."""
    answer: tuple[str, float] = ("", math.nan)
    """Label and confidence of the photo."""
    rounds: list[Round] = field(default_factory=list)

    def of_rounds(self, figure: Callable[[Round], float]) -> float:
        """Return the median over the rounds."""
        return median(figure(each) for each in self.rounds)

    def of_requests(self, figures: Callable[[Round], list[float]], share: float = 0.5) -> float:
        """Return the percentile over the requests of all rounds; NaN where there were none."""
        return percentile([value for each in self.rounds for value in figures(each)], share)

    def step(self, name: str) -> float:
        """Return the median milliseconds of a label's step."""
        return self.of_requests(lambda each: each.label_steps[name])

    @property
    def rest_ms(self) -> float:
        """The median of what is in no step of a label: HTTP, the framework, JSON, the log."""
        rests: list[float] = []
        for each in self.rounds:
            steps = zip(*each.label_steps.values(), strict=True)
            rests += [whole - sum(parts) for whole, parts in zip(each.label_ms, steps, strict=True)]
        return percentile(rests, 0.5)

    def figures(self) -> dict[str, Any]:
        """Return the figures over all rounds, for `--json`."""
        figures: dict[str, Any] = {
            "first_ms": self.of_rounds(lambda each: each.first_ms),
            "first_best_ms": min(each.first_ms for each in self.rounds),
            "first_cpu_ms": self.of_rounds(lambda each: each.first_cpu_ms),
            "label_p50_ms": self.of_requests(lambda each: each.label_ms),
            "label_p99_ms": self.of_requests(lambda each: each.label_ms, 0.99),
            "overlay_p50_ms": self.of_requests(lambda each: each.overlay_ms),
            "overlay_p99_ms": self.of_requests(lambda each: each.overlay_ms, 0.99),
            "labels_a_second": self.of_rounds(lambda each: each.a_second),
            "pss_mb": self.of_rounds(lambda each: each.memory.pss),
            "rss_mb": self.of_rounds(lambda each: each.memory.rss),
        }
        if self.kind == "pointer":
            figures |= {f"{step}_p50_ms": self.step(step) for step in STEPS[:3]}
            figures["encode_p50_ms"] = self.of_requests(lambda each: each.encode_ms)
            figures |= {"rest_p50_ms": self.rest_ms, "forward_p50_ms": self.forward_ms}
        numbers = {name: round(value, 2) for name, value in figures.items() if not math.isnan(value)}
        return {"name": self.name, **numbers}


def measure(function: Measured, photo: bytes, folder: Path, plan: Plan) -> Round:
    """Start the function once, ask it as planned, and end it.

    Raises:
        RuntimeError: it does not start, or answers anything but 200.
    """
    label_ms, overlay_ms, encode_ms = [], [], []
    steps: dict[str, list[float]] = {step: [] for step in STEPS if function.kind == "pointer"}
    with serve(function.source, folder, function.environment) as served:
        first_ms = served.first(LABEL, photo)
        first_cpu_ms = served.cpu_milliseconds()
        for number in range(-UNMEASURED_LABELS, plan.labels):
            reply = served.post(LABEL, photo)
            if number >= 0:
                label_ms.append(reply.milliseconds)
                taken = server_timing(reply)
                for step, values in steps.items():
                    values.append(taken[step])
        if function.kind != "empty":
            answer = json.loads(reply.body)
            function.answer = answer["label"], answer["confidence"]
            for number in range(-UNMEASURED_OVERLAYS, plan.overlays):
                reply = served.post(OVERLAY, photo)
                if number >= 0:
                    overlay_ms.append(reply.milliseconds)
                    encode_ms.append(server_timing(reply).get("encode", math.nan))
        a_second = served.rate(LABEL, photo, plan.clients, plan.seconds)
        memory = served.memory()
    return Round(first_ms, first_cpu_ms, label_ms, overlay_ms, steps, encode_ms, a_second, memory)


def server_timing(reply: Reply) -> dict[str, float]:
    """Return the milliseconds of each step, as the reply's header tells them; nothing where it has none."""
    header = reply.headers.get("Server-Timing", "")
    return {step: float(value) for step, value in re.findall(r"(\w+);dur=([\d.]+)", header)}


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed; NaN of no values."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else math.nan
