"""Photos of something else: read from any folder, and how well a served file tells them from photos of its classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from trainer.data.ood_photos import read_ood_photos
from trainer.data.source import PhotoSource
from trainer.evaluation.served import Evaluation, evaluate
from trainer.evaluation.served_bundle import open_bundle
from trainer.metrics.separation import TRADES, separation, trade
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


def measure_ood(
    run: RunFolder, evaluation: Evaluation, folders: Mapping[str, Path], console: Console
) -> dict[str, dict[str, Any]]:
    """Return `separation` of a run's served file, between the evaluated photos and those below each folder, by name.

    ``trade`` in each says what share of its photos is told where another share of the evaluated ones passes.

    Raises:
        NotFound, InvalidRequest: as `read_ood_photos`.
    """
    bundle = open_bundle(run)
    manifest = bundle.manifest
    known, limit = familiarity(evaluation), manifest.thresholds.get(UNKNOWN, 0.0)
    found = {}
    for name, folder in folders.items():
        ood = read_ood_photos(folder, manifest.input, console)
        scores = ood_scores(bundle.content, manifest.labels, ood, console)
        told = {f"{share:g}": round(each, 6) for share, each in zip(TRADES, trade(known, scores), strict=True)}
        found[name] = {**separation(known, scores, limit), "trade": told}
    return found


def near_of_export(run: RunFolder) -> dict[str, float] | None:
    """Return AUROC and share told of near OOD photos as the export found them; None of a bundle that does not say.

    They are validation photos of classes that were kept from the score in turn.
    """
    near = (open_bundle(run).manifest.metrics.get("unknown") or {}).get("near")
    return dict(near) if near else None
