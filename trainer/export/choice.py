"""Chooses the file that is served: every variant is measured as it would serve; the fastest good one is taken."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console, JustifyMethod
from rich.table import Table

from classifier.errors import Corrupt, InvalidRequest, PointerError
from classifier.serving.footprint import added_memory
from classifier.serving.model import Model
from classifier.settings import available_cpus
from trainer.data.source import PhotoSource
from trainer.evaluation.served import run_model
from trainer.export.litert import FLOAT32, VARIANTS, reason
from trainer.metrics.comparison import CERTAINTY, Comparison, compare
from trainer.networks.gradcam import gradient_tape_heatmaps, relative_error
from trainer.run.config import VariantName

HEATMAP_TOLERANCE = 1e-4
"""Largest relative difference allowed between the exported heatmaps and GradientTape's."""
LATENCY_RUNS = 30
ROUNDING = 1e-9
NOISE = 0.03
"""Share by which two latencies may differ and still be the same."""
LOG_LOSS_PER_TOLERANCE = 10.0
"""Nats by which the log-loss may rise for a tolerance of 1: 0.05 nats for the usual half a point of top-1."""
LEAST_LOG_LOSS = 0.01
"""Nats by which it may rise whatever the tolerance."""


@dataclass(frozen=True)
class Variant:
    """One exported file and what was measured on it."""

    name: str
    content: bytes
    top_1: float
    """Share of the measured photos classified rightly."""
    comparison: Comparison
    """With float32."""
    heatmap_correlation: float
    """Mean Pearson correlation of the top label's heatmap with float32's."""
    latency_ms: float
    """Median of one forward pass with the CPUs that it is served with."""
    latency_all_cpus_ms: float
    """The same with all CPUs of this machine."""
    memory: int | None
    """Bytes that loading and running it adds to a process; None where the system does not tell."""

    def row(self) -> dict[str, float | int]:
        """Return the figures for the manifest's table."""
        memory = {} if self.memory is None else {"memory_bytes": self.memory}
        return {
            "top_1": round(self.top_1, 6),
            **self.comparison.row(),
            "heatmap_correlation": round(self.heatmap_correlation, 6),
            "latency_ms": round(self.latency_ms, 3),
            "latency_all_cpus_ms": round(self.latency_all_cpus_ms, 3),
            "bytes": len(self.content),
            **memory,
        }


@dataclass(frozen=True)
class Choice:
    """The variants, and which of them is served."""

    served: Variant
    variants: tuple[Variant, ...]
    failures: dict[str, str]
    """Why the other variants could not be made or run, by name."""
    refused: dict[str, str]
    """What speaks against those that may not be served, by name."""
    overridden: bool = False
    """Whether the served one was asked for by name."""

    @property
    def warning(self) -> str | None:
        """What is to be said of a file that is served against the rules."""
        objection = self.refused.get(self.served.name)
        return f"{self.served.name} {objection}; it is served because --variant asks for it." if objection else None

    def table(self) -> dict[str, dict[str, Any]]:
        """Return the manifest's ``variants``: figures by name, or ``{"failed": why}``."""
        rows: dict[str, dict[str, Any]] = {variant.name: dict(variant.row()) for variant in self.variants}
        if self.overridden:
            rows[self.served.name]["overridden"] = True
        rows |= {name: {"failed": why} for name, why in self.failures.items()}
        return {name: rows[name] for name in VARIANTS if name in rows}

    def show(self, console: Console, photos: int, cpus: int) -> None:
        """Print the table, measured on so many validation photos for a function with so many CPUs."""
        every = available_cpus()
        table = Table(title=f"variants on {photos} validation photos", title_justify="left", box=None, pad_edge=False)
        times = [_on(cpus), *([_on(every)] if every != cpus else [])]
        for column in ("", "variant", "top-1", "log-loss", "same\nlabel", "heatmaps", *times, "MB", "MB in\nmemory"):
            justify: JustifyMethod = "left" if column in ("", "variant") else "right"
            table.add_column(column, justify=justify, vertical="bottom", no_wrap=True)
        for variant in self.variants:
            measured = (variant.latency_ms, variant.latency_all_cpus_ms)[: len(times)]
            table.add_row(
                "*" if variant is self.served else "",
                variant.name,
                f"{variant.top_1:.1%}",
                f"{variant.comparison.log_loss_increase:+.3f}",
                f"{variant.comparison.agreement:.1%}",
                f"{variant.heatmap_correlation:.3f}",
                *(f"{latency:.1f}" for latency in measured),
                f"{len(variant.content) / 1e6:.1f}",
                "-" if variant.memory is None else f"{variant.memory / 1e6:.0f}",
            )
        console.print(table)
        lines = [f"{name} could not be made: {why}" for name, why in self.failures.items()]
        lines += [f"{name} {why}" for name, why in self.refused.items() if name != self.served.name]
        lines += [self.resolved(photos), *([f"warning: {self.warning}"] if self.warning else [])]
        for line in lines:
            console.print(line, highlight=False, markup=False)

    def resolved(self, photos: int) -> str:
        """Say what so many photos can tell of the served file, or of the others where it is float32."""
        compared = [variant for variant in self.variants if variant.name != FLOAT32]
        named = [variant for variant in compared if variant is self.served] or compared
        if not named:
            return f"{photos} photos were measured on float32 alone."
        points = max(variant.comparison.top_1_resolved for variant in named) * 100
        nats = max(variant.comparison.log_loss_resolved for variant in named)
        return (
            f"On {photos} photos a loss of less than {points:.1f} points of top-1, or of {nats:.3f} in log-loss, "
            "cannot be told from chance."
        )


def check_heatmaps(backbone: keras.Model, head: keras.Model, content: bytes, photos: list[NDArray[np.uint8]]) -> float:
    """Return the largest relative error of a float32 file's heatmaps against GradientTape's.

    Raises:
        Corrupt: it is over `HEATMAP_TOLERANCE`.
    """
    model = Model(content)
    error = max(
        relative_error(_heatmaps(model, photo), gradient_tape_heatmaps(backbone, head, photo)) for photo in photos
    )
    if error > HEATMAP_TOLERANCE:
        raise Corrupt(f"Expected heatmaps within {HEATMAP_TOLERANCE} of GradientTape's; received {error:.2e}.")
    return error


def measure_variants(
    contents: dict[str, bytes], source: PhotoSource, rows: NDArray[np.intp], truth: NDArray[np.int32], threads: int
) -> tuple[list[Variant], dict[str, str]]:
    """Measure each file on the same photos, and compare it with the float32 one.

    Args:
        contents: files by name, float32 among them.
        source: the photos.
        rows: which of them.
        truth: class number of each row.
        threads: of the forward pass as it will be served, whose latency and memory are measured.

    Returns:
        What was measured, and why the other files cannot be run.

    Raises:
        Corrupt: the float32 file cannot be run, or what it gives is not finite.
    """
    failures = {}
    outputs = {}
    for name, content in contents.items():
        try:
            outputs[name] = _finite(run_model(content, source, rows))
        except (PointerError, RuntimeError, ValueError) as error:
            if name == FLOAT32:
                raise
            failures[name] = reason(error)
    files, photo = {name: contents[name] for name in outputs}, source.array(int(rows[0]))
    served, every = latencies(files, photo, threads), latencies(files, photo, available_cpus())
    reference = outputs[FLOAT32]
    expected = np.stack([probabilities for probabilities, _ in reference])
    variants = []
    for name, output in outputs.items():
        given = np.stack([probabilities for probabilities, _ in output])
        same = given.argmax(axis=1) == expected.argmax(axis=1)
        correlations = [
            _correlation(heatmap, wanted)
            for (_, heatmap), (_, wanted), comparable in zip(output, reference, same, strict=True)
            if comparable
        ]
        variants.append(
            Variant(
                name,
                contents[name],
                float((given.argmax(axis=1) == truth).mean()),
                compare(expected, given, truth),
                float(np.mean(correlations)) if correlations else 0.0,
                served[name],
                every[name],
                added_memory(contents[name], threads),
            )
        )
    return variants, failures


def choose(
    variants: list[Variant], failures: dict[str, str], tolerance: float, wanted: VariantName | None = None
) -> Choice:
    """Choose the fastest variant that may be served; see `objection`.

    Of those as fast as the fastest within `NOISE`, it is the smallest file. `wanted` is taken as it is, with a warning
    where something speaks against it.

    Raises:
        InvalidRequest: the wanted variant could not be made.
    """
    refused = {
        variant.name: said
        for variant in variants
        if variant.name != FLOAT32 and (said := objection(variant.comparison, tolerance))
    }
    if wanted is None:
        good = [variant for variant in variants if variant.name not in refused]
        limit = min(variant.latency_ms for variant in good) * (1 + NOISE)
        fastest = [variant for variant in good if variant.latency_ms <= limit]
        served = min(fastest, key=lambda variant: (len(variant.content), variant.latency_ms))
        return Choice(served, tuple(variants), failures, refused)
    found = [variant for variant in variants if variant.name == wanted]
    if not found:
        raise InvalidRequest(
            f"Expected --variant to be one that can be made; {wanted} cannot: {failures.get(wanted, 'not exported')}."
        )
    return Choice(found[0], tuple(variants), failures, refused, overridden=True)


def objection(found: Comparison, tolerance: float) -> str | None:
    """Return what speaks against serving a file, or None.

    Its top-1 may be at most `tolerance` (a share) below float32's on the measured photos. On few photos that is luck:
    so the most by which its log-loss may rise, by the paired bound, must be small too.
    """
    if found.top_1_loss > tolerance + ROUNDING:
        return (
            f"loses {found.top_1_loss * 100:.1f} points of top-1 against float32, more than the tolerance of "
            f"{tolerance * 100:.1f}"
        )
    allowed = max(LEAST_LOG_LOSS, LOG_LOSS_PER_TOLERANCE * tolerance)
    if found.log_loss_increase_high > allowed:
        return (
            f"may lose {found.log_loss_increase_high:.3f} in log-loss against float32 ({CERTAINTY:.0%} bound), more "
            f"than {allowed:.3f}"
        )
    return None


def latencies(
    contents: dict[str, bytes], photo: NDArray[np.uint8], threads: int, runs: int = LATENCY_RUNS
) -> dict[str, float]:
    """Return the median milliseconds of each file's forward pass, measured in turn so that all see the same noise.

    A pass that is not timed goes before each one that is: the threads of the file before go on spinning for a while,
    and a file that serves has the CPUs to itself.
    """
    models = {name: Model(content, threads=threads) for name, content in contents.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(runs):
        for name, model in models.items():
            model.run(photo)
            began = time.perf_counter()
            model.run(photo)
            times[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def _heatmaps(model: Model, photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    output = model.run(photo)
    return np.stack([output.heatmap(label) for label in range(model.classes)])


def _finite(
    output: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return the output as it is.

    Raises:
        Corrupt: it holds something that is no finite number, as float16 does where a network's values overflow it.
    """
    if not all(np.isfinite(values).all() for photo in output for values in photo):
        raise Corrupt("Expected probabilities and heatmaps that are finite; the file gives others.")
    return output


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    if a.std() == 0 or b.std() == 0:
        return float(np.array_equal(a, b))
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def _on(cpus: int) -> str:
    return "ms on\n1 CPU" if cpus == 1 else f"ms on\n{cpus} CPUs"
