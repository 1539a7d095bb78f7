"""Chooses the file that is served: every variant is measured as it would serve; the fastest good one is taken."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from classifier.errors import Corrupt, InvalidRequest, PointerError
from classifier.serving.model import Model
from trainer.data.source import PhotoSource
from trainer.evaluation.served import run_model
from trainer.export.footprint import added_memory
from trainer.export.litert import FLOAT32, VARIANTS, reason
from trainer.networks.gradcam import gradient_tape_heatmaps, relative_error
from trainer.run.config import VariantName

HEATMAP_TOLERANCE = 1e-4
"""Largest relative difference allowed between the exported heatmaps and GradientTape's."""
LATENCY_RUNS = 30
NOISE = 0.03
"""Share by which two latencies may differ and still be the same."""


@dataclass(frozen=True)
class Variant:
    """One exported file and what was measured on it."""

    name: str
    content: bytes
    top_1: float
    """Share of the measured photos classified rightly."""
    agreement: float
    """Share on which it gives the label that float32 gives."""
    heatmap_correlation: float
    """Mean Pearson correlation of the top label's heatmap with float32's."""
    latency_ms: float
    """Median of one forward pass, all CPUs."""
    memory: int | None
    """Bytes that loading and running it adds to a process; None where the system does not tell."""

    def row(self) -> dict[str, float | int]:
        """Return the figures for the manifest's table."""
        memory = {} if self.memory is None else {"memory_bytes": self.memory}
        return {
            "top_1": round(self.top_1, 6),
            "agreement": round(self.agreement, 6),
            "heatmap_correlation": round(self.heatmap_correlation, 6),
            "latency_ms": round(self.latency_ms, 3),
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
    overridden: bool
    """Whether the served one was asked for by name."""
    warning: str | None
    """What is to be said of a choice outside the tolerance."""

    def table(self) -> dict[str, dict[str, Any]]:
        """Return the manifest's ``variants``: figures by name, or ``{"failed": why}``."""
        rows: dict[str, dict[str, Any]] = {variant.name: dict(variant.row()) for variant in self.variants}
        if self.overridden:
            rows[self.served.name]["overridden"] = True
        rows |= {name: {"failed": why} for name, why in self.failures.items()}
        return {name: rows[name] for name in VARIANTS if name in rows}

    def show(self, console: Console, photos: int) -> None:
        """Print the table, measured on so many validation photos."""
        table = Table(title=f"variants on {photos} validation photos", title_justify="left", box=None, pad_edge=False)
        for column in ("", "variant", "top-1", "agreement", "heatmaps", "ms", "MB", "MB in memory"):
            table.add_column(column, justify="left" if column in ("", "variant") else "right", no_wrap=True)
        for variant in self.variants:
            table.add_row(
                "*" if variant is self.served else "",
                variant.name,
                f"{variant.top_1:.1%}",
                f"{variant.agreement:.1%}",
                f"{variant.heatmap_correlation:.3f}",
                f"{variant.latency_ms:.1f}",
                f"{len(variant.content) / 1e6:.1f}",
                "-" if variant.memory is None else f"{variant.memory / 1e6:.0f}",
            )
        console.print(table)
        for name, why in self.failures.items():
            console.print(f"{name} could not be made: {why}", highlight=False, markup=False)
        if self.warning:
            console.print(f"warning: {self.warning}", highlight=False, markup=False)


def check_heatmaps(backbone: keras.Model, head: keras.Model, content: bytes, photos: list[NDArray[np.uint8]]) -> float:
    """Return the largest relative error of a float32 file's heatmaps against GradientTape's.

    Raises:
        Corrupt: it is over `HEATMAP_TOLERANCE`.
    """
    model = Model(content)
    error = max(
        relative_error(model.run(photo).heatmaps, gradient_tape_heatmaps(backbone, head, photo)) for photo in photos
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
        threads: of the forward pass whose latency and memory are measured.

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
    times = latencies({name: contents[name] for name in outputs}, source.array(int(rows[0])), threads)
    reference = outputs[FLOAT32]
    variants = []
    for name, output in outputs.items():
        labels = np.array([probabilities.argmax() for probabilities, _ in output])
        reference_labels = np.array([probabilities.argmax() for probabilities, _ in reference])
        same = labels == reference_labels
        correlations = [
            _correlation(found[1], expected[1])
            for found, expected, comparable in zip(output, reference, same, strict=True)
            if comparable
        ]
        variants.append(
            Variant(
                name,
                contents[name],
                float((labels == truth).mean()),
                float(same.mean()),
                float(np.mean(correlations)) if correlations else 0.0,
                times[name],
                added_memory(contents[name], threads),
            )
        )
    return variants, failures


def choose(
    variants: list[Variant], failures: dict[str, str], tolerance: float, wanted: VariantName | None = None
) -> Choice:
    """Choose the fastest variant whose top-1 is at most `tolerance` (a share) below float32's.

    Of those as fast as the fastest within `NOISE`, it is the smallest file. `wanted` is taken as it is, with a warning
    where it is outside of the tolerance.

    Raises:
        InvalidRequest: the wanted variant could not be made.
    """
    floor = next(variant.top_1 for variant in variants if variant.name == FLOAT32) - tolerance - 1e-9
    if wanted is None:
        good = [variant for variant in variants if variant.top_1 >= floor]
        limit = min(variant.latency_ms for variant in good) * (1 + NOISE)
        fastest = [variant for variant in good if variant.latency_ms <= limit]
        served = min(fastest, key=lambda variant: (len(variant.content), variant.latency_ms))
        return Choice(served, tuple(variants), failures, overridden=False, warning=None)
    found = [variant for variant in variants if variant.name == wanted]
    if not found:
        raise InvalidRequest(
            f"Expected --variant to be one that can be made; {wanted} cannot: {failures.get(wanted, 'not exported')}."
        )
    warning = None
    if found[0].top_1 < floor:
        lost = floor + tolerance - found[0].top_1
        warning = (
            f"{wanted} loses {lost * 100:.1f} points of top-1 against float32, more than the tolerance of "
            f"{tolerance * 100:.1f}; it is served because --variant asks for it."
        )
    return Choice(found[0], tuple(variants), failures, overridden=True, warning=warning)


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
