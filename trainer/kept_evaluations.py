"""Evaluations kept in a run's folder: what was measured of a file on some photos need not be measured again."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation import Evaluation
from trainer.run_folder import RunFolder, write_file

FILE = "evaluations.npz"
ARRAYS = ("probabilities", "tta_probabilities", "scores")
"""Of an `Evaluation`; those that were measured are kept."""


def keep_evaluations(run: RunFolder, content: bytes, fingerprint: str, evaluations: Mapping[str, Evaluation]) -> None:
    """Keep the evaluations of a LiteRT file by split, in the place of those kept before.

    Args:
        run: the run.
        content: the file that was evaluated.
        fingerprint: of the photos.
        evaluations: by split.
    """
    arrays: dict[str, Any] = {
        f"{split}.{name}": array
        for split, evaluation in evaluations.items()
        for name in ARRAYS
        if (array := getattr(evaluation, name)) is not None
    }
    write_file(run.report / FILE, lambda path: np.savez(path, key=np.array(_key(content, fingerprint)), **arrays))


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
    try:
        with (run.report / FILE).open("rb") as file, np.load(file) as saved:
            if str(saved["key"]) != _key(content, fingerprint):
                return {}
            arrays = {name: saved[name] for name in saved.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    found = {}
    for split, numbers in truth.items():
        own = {name: arrays[f"{split}.{name}"] for name in ARRAYS if f"{split}.{name}" in arrays}
        if "probabilities" in own and own["probabilities"].shape == (len(numbers), len(labels)):
            found[split] = Evaluation(labels, numbers, **own)
    return found


def _key(content: bytes, fingerprint: str) -> str:
    return f"{hashlib.sha256(content).hexdigest()} {fingerprint}"
