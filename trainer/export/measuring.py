"""Measures exported files as they would serve, and compares each with the float32 one, photo by photo.

What a file gets wrong can be counted where labels may be looked at: on validation photos, a hundred of which cannot
tell a loss of two points from chance. What it changes can be weighed without labels, by the probabilities of float32:
of all photos that were not trained on, test photos included, whose labels so have no part in the choice, and of
training photos too. Those are too easy for a network that has learnt them, so they count as far as float32 is as unsure
of them; see `trainer.metrics.comparison`.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from classifier.errors import Corrupt, PointerError
from classifier.serving.footprint import added_memory
from classifier.serving.model import Model
from classifier.settings import available_cpus
from trainer.data.source import PhotoSource
from trainer.evaluation.served import run_model
from trainer.export.litert import FLOAT32, reason
from trainer.metrics.comparison import Comparison, Damage, compare, damage, weights_of_learnt
from trainer.networks.gradcam import gradient_tape_heatmaps, relative_error

HEATMAP_TOLERANCE = 1e-4
"""Largest relative difference allowed between the exported heatmaps and GradientTape's."""
LATENCY_RUNS = 30
NONE = np.arange(0)

Output = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Probabilities and the top class's heatmap of one photo."""


class Compared(NamedTuple):
    """The photos that files are compared on: rows of a source."""

    labelled: NDArray[np.intp]
    """Those whose labels may be looked at, of which there is one at least."""
    truth: NDArray[np.int32]
    """Their class numbers."""
    others: NDArray[np.intp] = NONE
    """More that were not trained on."""
    learnt: NDArray[np.intp] = NONE
    """Training photos."""

    @property
    def unseen(self) -> int:
        """Return how many were not trained on."""
        return len(self.labelled) + len(self.others)


@dataclass(frozen=True)
class Variant:
    """One exported file and what was measured on it."""

    name: str
    content: bytes
    top_1: float
    """Share of the photos with labels classified rightly."""
    comparison: Comparison
    """With float32, on those."""
    damage: Damage
    """The same on all photos, by float32's probabilities."""
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
            **self.damage.row(),
            **self.comparison.row(),
            "heatmap_correlation": round(self.heatmap_correlation, 6),
            "latency_ms": round(self.latency_ms, 3),
            "latency_all_cpus_ms": round(self.latency_all_cpus_ms, 3),
            "bytes": len(self.content),
            **memory,
        }


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
    contents: dict[str, bytes], source: PhotoSource, photos: Compared, threads: int
) -> tuple[list[Variant], dict[str, str]]:
    """Measure each file on the same photos, and compare it with the float32 one.

    Args:
        contents: files by name, float32 among them.
        source: the photos.
        photos: which of them.
        threads: of the forward pass as it will be served, whose latency and memory are measured.

    Returns:
        What was measured, and why the other files cannot be run.

    Raises:
        Corrupt: the float32 file cannot be run, or what it gives is not finite.
    """
    failures, outputs = {}, {}
    rows = np.concatenate([photos.labelled, photos.others, photos.learnt]).astype(np.intp)
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
    labelled, unseen = slice(len(photos.labelled)), photos.unseen
    weights = np.concatenate([np.ones(unseen), weights_of_learnt(expected[:unseen], expected[unseen:])])
    variants = []
    for name, output in outputs.items():
        given = np.stack([probabilities for probabilities, _ in output])
        variants.append(
            Variant(
                name,
                contents[name],
                float((given[labelled].argmax(axis=1) == photos.truth).mean()),
                compare(expected[labelled], given[labelled], photos.truth),
                damage(expected, given, weights),
                _likeness(output, reference),
                served[name],
                every[name],
                added_memory(contents[name], threads),
            )
        )
    return variants, failures


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


def _finite(output: list[Output]) -> list[Output]:
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


def _likeness(output: list[Output], reference: list[Output]) -> float:
    """Return the mean correlation of the heatmaps of photos that get the same label."""
    correlations = [
        _correlation(heatmap, wanted)
        for (given, heatmap), (expected, wanted) in zip(output, reference, strict=True)
        if given.argmax() == expected.argmax()
    ]
    return float(np.mean(correlations)) if correlations else 0.0
