"""Photos of something else: read from any folder, and how well a served file tells them from photos of its classes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from classifier.errors import InvalidRequest, NotFound, PointerError
from classifier.manifest import MODEL_FILE, InputSpec, Manifest
from trainer.evaluation import Evaluation, evaluate
from trainer.layouts import SUFFIXES
from trainer.photos import PhotoSource
from trainer.progress import counting
from trainer.run_folder import RunFolder

STRANGERS = 500
"""Of a larger folder, evenly spread photos are taken."""
UNKNOWN = "unknown"
PASSING = 0.95
"""Share of the validation photos that the threshold lets pass."""


def require_folder(folder: Path) -> None:
    """Find out that there is no folder of strangers before hours of work.

    Raises:
        NotFound: there is none.
    """
    if not folder.is_dir():
        raise NotFound(f"Expected a folder of photos at --strangers {folder}; there is none.")


def read_strangers(folder: Path, spec: InputSpec, console: Console) -> PhotoSource:
    """Return the photos below a folder; those that cannot be read are left out.

    Raises:
        NotFound: there is no such folder.
        InvalidRequest: none of its photos can be read.
    """
    require_folder(folder)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    paths = [
        paths[int(place)] for place in np.unique(np.linspace(0, len(paths) - 1, min(STRANGERS, len(paths))).round())
    ]
    source = PhotoSource(paths, spec)
    with counting(console, "reading strangers", len(paths)) as step:
        rows = readable_rows(source, np.arange(len(paths)), step)
    if not len(rows):
        raise InvalidRequest(f"Expected photos below --strangers {folder}; found none that can be read.")
    return source.select(rows)


def readable_rows(source: PhotoSource, rows: NDArray[np.intp], on_photo: Any = lambda: None) -> NDArray[np.intp]:
    """Return those of the rows whose photos can be decoded."""

    def look(row: int) -> bool:
        try:
            source.array(row)
        except (PointerError, OSError):
            return False
        finally:
            on_photo()
        return True

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        good: NDArray[np.intp] = rows[list(pool.map(look, rows.tolist()))] if len(rows) else rows
    return good


def stranger_scores(
    content: bytes, labels: tuple[str, ...], strangers: PhotoSource, console: Console
) -> NDArray[np.float64]:
    """Return the score that a served file gives each stranger, [photos]."""
    rows = np.arange(len(strangers))
    with counting(console, "scoring strangers", len(rows)) as step:
        return familiarity(evaluate(content, labels, strangers, rows, np.zeros(len(rows), np.int32), step))


def familiarity(evaluation: Evaluation) -> NDArray[np.float64]:
    """Return the score of each photo, as it is served: where the file gives none, its largest probability."""
    scores = evaluation.probabilities.max(axis=1) if evaluation.scores is None else evaluation.scores
    return np.asarray(scores, np.float64)


def threshold(scores: NDArray[np.float64], passing: float = PASSING) -> float:
    """Return a score, to six decimals, that at least a share `passing` of these scores reaches, and hardly more."""
    lowest = float(np.quantile(scores, 1 - passing, method="lower"))
    return float(np.floor(lowest * 1e6) / 1e6)


def separation(known: NDArray[np.float64], strangers: NDArray[np.float64], limit: float) -> dict[str, float | int]:
    """Return how well scores tell strangers from known photos.

    ``auroc`` is the area under the ROC curve, ``told`` the share of strangers with the status unknown, and ``passing``
    the share of known photos without it.
    """
    return {
        "photos": len(strangers),
        "auroc": round(auroc(known, strangers), 6),
        "told": round(float((strangers < limit).mean()), 6),
        "passing": round(float((known >= limit).mean()), 6),
    }


def auroc(known: NDArray[np.floating[Any]], strangers: NDArray[np.floating[Any]]) -> float:
    """Return the chance that a known photo's score is above a stranger's (area under the ROC curve)."""
    from sklearn.metrics import roc_auc_score

    truth = np.concatenate([np.ones(len(known)), np.zeros(len(strangers))])
    return float(roc_auc_score(truth, np.concatenate([np.ravel(known), np.ravel(strangers)])))


def measure_strangers(run: RunFolder, evaluation: Evaluation, folder: Path, console: Console) -> dict[str, float | int]:
    """Return `separation` of a run's served file, between the evaluated photos and those below a folder.

    Raises:
        NotFound, InvalidRequest: as `read_strangers`.
    """
    manifest = Manifest.from_json((run.bundle / "manifest.json").read_bytes())
    strangers = read_strangers(folder, manifest.input, console)
    content = (run.bundle / MODEL_FILE).read_bytes()
    scores = stranger_scores(content, manifest.labels, strangers, console)
    return separation(familiarity(evaluation), scores, manifest.thresholds.get(UNKNOWN, 0.0))
