"""Figures of a served file, measured through `classifier.preprocessing` and `classifier.model`, which also serve."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifier.model import Model, Output
from trainer.photos import PhotoSource
from trainer.run_folder import write_file, write_json

T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """What a model says about photos whose labels are known."""

    labels: tuple[str, ...]
    truth: NDArray[np.int32]
    """Class numbers, [photos]."""
    probabilities: NDArray[np.float32]
    """[photos, classes]."""

    @property
    def predicted(self) -> NDArray[np.intp]:
        """The most probable class of each photo."""
        best: NDArray[np.intp] = np.argmax(self.probabilities, axis=1)
        return best

    def figures(self) -> dict[str, float | int]:
        """Return top-1, top-5, log-loss (nats), and precision, recall and F1 averaged over the classes."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        of_truth = self.probabilities[np.arange(len(self.truth)), self.truth]
        table = self.per_class()
        known = table[table["photos"] > 0]
        return {
            "photos": len(self.truth),
            "top_1": _rounded((order[:, 0] == self.truth).mean()),
            "top_5": _rounded((order[:, :5] == self.truth[:, None]).any(axis=1).mean()),
            "log_loss": _rounded(-np.log(np.clip(of_truth, 1e-7, 1)).mean()),
            "precision": _rounded(known["precision"].mean()),
            "recall": _rounded(known["recall"].mean()),
            "f1": _rounded(known["f1"].mean()),
        }

    def per_class(self) -> pd.DataFrame:
        """Return ``label``, ``photos``, ``precision``, ``recall``, ``f1``; 0 where a figure is 0 out of 0."""
        from sklearn.metrics import precision_recall_fscore_support

        precision, recall, f1, photos = precision_recall_fscore_support(
            self.truth, self.predicted, labels=range(len(self.labels)), zero_division=0
        )
        table = {"label": self.labels, "photos": photos, "precision": precision, "recall": recall, "f1": f1}
        return pd.DataFrame(table).round(6)

    def confusion_matrix(self) -> pd.DataFrame:
        """Return how many photos of each true class (rows) were taken for each class (columns)."""
        from sklearn.metrics import confusion_matrix

        counts = confusion_matrix(self.truth, self.predicted, labels=range(len(self.labels)))
        return pd.DataFrame(counts, index=pd.Index(self.labels, name="true"), columns=self.labels)

    def write(self, folder: Path, split: str) -> None:
        """Write ``<split>.json``, ``<split>_per_class.csv``, ``<split>_confusion_matrix.csv``."""
        write_json(folder / f"{split}.json", self.figures())
        per_class, confusion = self.per_class(), self.confusion_matrix()
        write_file(folder / f"{split}_per_class.csv", lambda path: per_class.to_csv(path, index=False))
        write_file(folder / f"{split}_confusion_matrix.csv", confusion.to_csv)


def evaluate(
    content: bytes,
    labels: tuple[str, ...],
    source: PhotoSource,
    rows: NDArray[np.intp],
    truth: NDArray[np.int32],
    on_photo: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Classify photos with a LiteRT file and compare with the truth.

    Args:
        content: the bytes of the file.
        labels: its labels, in order.
        source: the photos.
        rows: which of them.
        truth: class number of each row.
        on_photo: called after each photo, from any thread.
    """
    probabilities = _each_photo(content, source, rows, lambda output: output.probabilities, on_photo)
    return Evaluation(labels, truth, np.stack(probabilities))


def run_model(
    content: bytes, source: PhotoSource, rows: NDArray[np.intp]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return probabilities [classes] and the top class's heatmap [h, w] of each photo."""

    def keep(output: Output) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # A copy: a view would keep the heatmaps of all classes alive.
        return output.probabilities, output.heatmaps[int(output.probabilities.argmax())].copy()

    return _each_photo(content, source, rows, keep, lambda: None)


def _each_photo(
    content: bytes,
    source: PhotoSource,
    rows: NDArray[np.intp],
    keep: Callable[[Output], T],
    on_photo: Callable[[], None],
) -> list[T]:
    own = threading.local()

    def look(row: int) -> T:
        if not hasattr(own, "model"):
            own.model = Model(content)
        kept = keep(own.model.run(source.array(row)))
        on_photo()
        return kept

    # One interpreter a thread, one thread an interpreter: the highest throughput.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(look, rows.tolist()))


def _rounded(value: Any) -> float:
    return round(float(value), 6)
