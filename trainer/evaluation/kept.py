"""Evaluations kept in a run's folder: what was measured of a file on some photos need not be measured again."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.served import Evaluation
from trainer.run.files import write_file
from trainer.run.folder import RunFolder

ARRAYS = ("probabilities", "tta_probabilities", "scores")
"""Of an `Evaluation`; those that were measured are kept."""


def keep_evaluations(run: RunFolder, content: bytes, fingerprint: str, evaluations: Mapping[str, Evaluation]) -> None:
    """Keep the evaluations of a LiteRT file by split, in the place of those kept before of another file or photos.

    Args:
        run: the run.
        content: the file that was evaluated.
        fingerprint: of the photos.
        evaluations: by split.
    """
    arrays: dict[str, Any] = _read(run, _key(content, fingerprint)) | {
        f"{split}.{name}": array
        for split, evaluation in evaluations.items()
        for name in ARRAYS
        if (array := getattr(evaluation, name)) is not None
    }
    arrays["key"] = np.array(_key(content, fingerprint))
    write_file(run.evaluations, lambda path: np.savez(path, **arrays))


def kept_evaluations(
    run: RunFolder, content: bytes, fingerprint: str, labels: tuple[str, ...], truth: Mapping[str, NDArray[np.int32]]
) -> dict[str, Evaluation]:
    """Return what was kept of this file on these photos, by split; nothing where the kept file cannot be used.

    Args:
        run: the run.
        content: the LiteRT file.
        fingerprint: of the photos.
        labels: of the classes, in order.
        truth: class numbers of each split, [photos]; an evaluation of another number of photos is not returned.
    """
    arrays = _read(run, _key(content, fingerprint))
    found = {}
    for split, numbers in truth.items():
        own = {name: arrays[f"{split}.{name}"] for name in ARRAYS if f"{split}.{name}" in arrays}
        if "probabilities" in own and own["probabilities"].shape == (len(numbers), len(labels)):
            found[split] = Evaluation(labels, numbers, **own)
    return found


def _read(run: RunFolder, key: str) -> dict[str, Any]:
    """Return what is kept under this key; nothing where the file has another one or cannot be read."""
    try:
        with run.evaluations.open("rb") as file, np.load(file) as saved:
            return {name: saved[name] for name in saved.files} if str(saved["key"]) == key else {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}


def _key(content: bytes, fingerprint: str) -> str:
    return f"{hashlib.sha256(content).hexdigest()} {fingerprint}"
