"""Exports a trained network to LiteRT: each variant is measured as it would serve; the fastest good one is chosen."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifier.errors import Corrupt
from classifier.model import Model
from trainer.evaluation import run_model
from trainer.gradcam import gradient_tape_heatmaps, relative_error, serving_model
from trainer.photos import PhotoSource

FLOAT32, INT8_DYNAMIC = "float32", "int8-dynamic"
VARIANTS = (FLOAT32, INT8_DYNAMIC)
HEATMAP_TOLERANCE = 1e-4
"""Largest relative difference allowed between the exported heatmaps and GradientTape's."""
LATENCY_RUNS = 30


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

    def row(self) -> dict[str, float | int]:
        """Return the figures for the manifest's table."""
        return {
            "top_1": round(self.top_1, 6),
            "agreement": round(self.agreement, 6),
            "heatmap_correlation": round(self.heatmap_correlation, 6),
            "latency_ms": round(self.latency_ms, 3),
            "bytes": len(self.content),
        }


def convert(backbone: keras.Model, head: keras.Model, variant: str, temperature: float = 1.0) -> bytes:
    """Return the LiteRT file of a network. Needs the TensorFlow backend.

    Args:
        backbone: uint8 photos -> features.
        head: pooled features -> logits.
        variant: one of `VARIANTS`.
        temperature: what the logits are divided by.
    """
    import tensorflow as tf

    options: dict[str, Any] = {FLOAT32: {}, INT8_DYNAMIC: {"optimizations": [tf.lite.Optimize.DEFAULT]}}[variant]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        serving_model(backbone, head, temperature).export(str(path), format="litert", verbose=False, **options)
        return path.read_bytes()


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
) -> list[Variant]:
    """Measure each file on the same photos; the first must be float32, with which the others are compared."""
    outputs = {name: run_model(content, source, rows) for name, content in contents.items()}
    latencies = _latencies(contents, source.array(int(rows[0])), threads)
    reference = outputs[FLOAT32]
    variants = []
    for name, content in contents.items():
        labels = np.array([probabilities.argmax() for probabilities, _ in outputs[name]])
        reference_labels = np.array([probabilities.argmax() for probabilities, _ in reference])
        same = labels == reference_labels
        correlations = [
            _correlation(found[1], expected[1])
            for found, expected, comparable in zip(outputs[name], reference, same, strict=True)
            if comparable
        ]
        variants.append(
            Variant(
                name,
                content,
                float((labels == truth).mean()),
                float(same.mean()),
                float(np.mean(correlations)) if correlations else 0.0,
                latencies[name],
            )
        )
    return variants


def choose(variants: list[Variant], tolerance: float) -> Variant:
    """Return the fastest variant whose top-1 is at most `tolerance` (a share) below float32's."""
    reference = next(variant for variant in variants if variant.name == FLOAT32)
    good = [variant for variant in variants if variant.top_1 >= reference.top_1 - tolerance - 1e-9]
    return min(good, key=lambda variant: variant.latency_ms)


def _latencies(contents: dict[str, bytes], photo: NDArray[np.uint8], threads: int) -> dict[str, float]:
    """Return the median milliseconds of each file's forward pass, measured in turn so that all see the same noise."""
    models = {name: Model(content, threads=threads) for name, content in contents.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for round_ in range(LATENCY_RUNS + 3):
        for name, model in models.items():
            began = time.perf_counter()
            model.run(photo)
            if round_ >= 3:
                times[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    if a.std() == 0 or b.std() == 0:
        return float(np.array_equal(a, b))
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
