"""Photos of something else: read from any folder, and how well a served file tells them from photos of its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from trainer.data.ood_photos import read_ood_photos
from trainer.data.source import PhotoSource
from trainer.evaluation.served import Evaluation, evaluate
from trainer.evaluation.served_bundle import open_bundle
from trainer.metrics.separation import separation
from trainer.run.folder import RunFolder
from trainer.run.progress import counting

UNKNOWN = "unknown"


def ood_scores(content: bytes, labels: tuple[str, ...], ood: PhotoSource, console: Console) -> NDArray[np.float64]:
    """Return the score that a served file gives each OOD photo, [photos]."""
    rows = np.arange(len(ood))
    with counting(console, "scoring OOD photos", len(rows)) as step:
        return familiarity(evaluate(content, labels, ood, rows, np.zeros(len(rows), np.int32), step))


def familiarity(evaluation: Evaluation) -> NDArray[np.float64]:
    """Return the score of each photo, as it is served: where the file gives none, its largest probability."""
    scores = evaluation.probabilities.max(axis=1) if evaluation.scores is None else evaluation.scores
    return np.asarray(scores, np.float64)


def measure_ood(run: RunFolder, evaluation: Evaluation, folder: Path, console: Console) -> dict[str, float | int]:
    """Return `separation` of a run's served file, between the evaluated photos and those below a folder.

    Raises:
        NotFound, InvalidRequest: as `read_ood_photos`.
    """
    bundle = open_bundle(run)
    manifest = bundle.manifest
    ood = read_ood_photos(folder, manifest.input, console)
    scores = ood_scores(bundle.content, manifest.labels, ood, console)
    return separation(familiarity(evaluation), scores, manifest.thresholds.get(UNKNOWN, 0.0))
