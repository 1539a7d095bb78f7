"""Figures of a served file, measured through `classifier`'s preprocessing and model, which also serve."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifier.serving.model import Model
from classifier.settings import available_cpus
from trainer.data.source import PhotoSource
from trainer.metrics.calibration import expected_calibration_error, reliability
from trainer.metrics.intervals import share_interval
from trainer.run.files import write_file, write_json

T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """What a model says about photos whose labels are known."""

    labels: tuple[str, ...]
    truth: NDArray[np.int32]
    """Class numbers, [photos]."""
    probabilities: NDArray[np.float32]
    """[photos, classes]."""
    tta_probabilities: NDArray[np.float32] | None = None
    """Means of those of the photo and of its mirror image, [photos, classes]: test-time augmentation."""
    scores: NDArray[np.float32] | None = None
    """How familiar each photo is to the model, 0..1, [photos]; see `classifier.serving.model.Output`."""
    views: Mapping[str, Mapping[str, float | int]] | None = None
    """What each choice of views gains and costs; see `trainer.evaluation.views`."""

    @property
    def predicted(self) -> NDArray[np.intp]:
        """The most probable class of each photo."""
        best: NDArray[np.intp] = np.argmax(self.probabilities, axis=1)
        return best

    def figures(self) -> dict[str, float | int]:
        """Return top-1, top-5, log-loss (nats), macro precision, recall and F1, and the expected calibration error.

        ``top_1_low`` and ``top_1_high`` are the 95 % interval of top-1 (Wilson 1927). The figures of one photo are as
        it is served; those with ``tta_`` in front are with its mirror image too, where that was measured.
        """
        table = self.per_class()
        known = table[table["photos"] > 0]
        one = of_probabilities(self.probabilities, self.truth)
        low, high = share_interval(int((self.predicted == self.truth).sum()), len(self.truth))
        figures: dict[str, float | int] = {
            "photos": len(self.truth),
            "top_1": one["top_1"],
            "top_1_low": _rounded(low),
            "top_1_high": _rounded(high),
            "top_5": one["top_5"],
            "log_loss": one["log_loss"],
            "precision": _rounded(known["precision"].mean()),
            "recall": _rounded(known["recall"].mean()),
            "f1": _rounded(known["f1"].mean()),
            "ece": _rounded(expected_calibration_error(self.probabilities, self.truth)),
        }
        if self.tta_probabilities is not None:
            both = of_probabilities(self.tta_probabilities, self.truth)
            figures |= {f"tta_{name}": value for name, value in both.items()}
        return figures

    def predictions(self, photos: pd.DataFrame) -> pd.DataFrame:
        """Return a row a photo.

        Args:
            photos: their ``image_path`` below the data folder and, where it is known, ``sha256``.

        Returns:
            ``image_path``, ``label``, ``predicted``, ``confidence``, ``tta_predicted``, ``score``, ``sha256``; without
            the last three where they were not measured.
        """
        names = np.array(self.labels, dtype=object)
        table = {
            "image_path": list(photos["image_path"]),
            "label": names[self.truth],
            "predicted": names[self.predicted],
            "confidence": self.probabilities.max(axis=1).round(6),
        }
        if self.tta_probabilities is not None:
            table["tta_predicted"] = names[self.tta_probabilities.argmax(axis=1)]
        if self.scores is not None:
            table["score"] = self.scores.round(6)
        if "sha256" in photos:
            table["sha256"] = list(photos["sha256"])
        return pd.DataFrame(table)

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

    def write(self, folder: Path, split: str, photos: pd.DataFrame | None = None) -> None:
        """Write ``<split>.json`` and ``<split>_*.csv``: ``per_class``, ``confusion_matrix`` and ``reliability``.

        With the photos' rows of the data frame, also ``<split>_predictions.csv``.
        """
        write_json(folder / f"{split}.json", self.figures())
        per_class, confusion = self.per_class(), self.confusion_matrix()
        write_file(folder / f"{split}_per_class.csv", lambda path: per_class.to_csv(path, index=False))
        write_file(folder / f"{split}_confusion_matrix.csv", confusion.to_csv)
        honest = reliability(self.probabilities, self.truth).round(6)
        write_file(folder / f"{split}_reliability.csv", lambda path: honest.to_csv(path, index=False))
        if photos is not None:
            table = self.predictions(photos)
            write_file(folder / f"{split}_predictions.csv", lambda path: table.to_csv(path, index=False))


class _Seen(NamedTuple):
    """What is kept of one photo's two forward passes."""

    probabilities: NDArray[np.float32]
    tta_probabilities: NDArray[np.float32]
    score: float


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

    def look(model: Model, row: int) -> _Seen:
        photo = source.array(row)
        output, mirrored = model.run(photo), model.run(np.ascontiguousarray(photo[:, ::-1]))
        # The mean of `classifier.serving.views`, without that of the heatmaps.
        both = (output.probabilities + mirrored.probabilities) / np.float32(2)
        return _Seen(output.probabilities, both, output.score)

    seen = each_photo(content, rows, look, on_photo)
    return Evaluation(
        labels,
        truth,
        np.stack([one.probabilities for one in seen]),
        np.stack([one.tta_probabilities for one in seen]),
        np.array([one.score for one in seen], np.float32),
    )


def run_model(
    content: bytes, source: PhotoSource, rows: NDArray[np.intp]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return probabilities [classes] and the top class's heatmap of each photo: [h, w], or [1, 1] of a file without."""

    def look(model: Model, row: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        output = model.run(source.array(row))
        if output.heatmaps is None:
            return output.probabilities, np.zeros((1, 1), np.float32)
        # A copy: a view would keep the heatmaps of all classes alive.
        return output.probabilities, output.heatmap(int(output.probabilities.argmax())).copy()

    return each_photo(content, rows, look, lambda: None)


def each_photo(
    content: bytes, rows: NDArray[np.intp], look: Callable[[Model, int], T], on_photo: Callable[[], None]
) -> list[T]:
    """Return what `look` says of each row, with as many interpreters of a LiteRT file as there are CPUs."""
    own = threading.local()

    def one(row: int) -> T:
        if not hasattr(own, "model"):
            own.model = Model(content)
        seen = look(own.model, row)
        on_photo()
        return seen

    # One interpreter a thread, one thread an interpreter: the highest throughput.
    with ThreadPoolExecutor(available_cpus()) as pool:
        return list(pool.map(one, rows.tolist()))


def of_probabilities(probabilities: NDArray[np.float32], truth: NDArray[np.int32]) -> dict[str, float]:
    """Return top-1, top-5 and log-loss in nats."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    of_truth = probabilities[np.arange(len(truth)), truth]
    return {
        "top_1": _rounded((order[:, 0] == truth).mean()),
        "top_5": _rounded((order[:, :5] == truth[:, None]).any(axis=1).mean()),
        "log_loss": _rounded(-np.log(np.clip(of_truth, 1e-7, 1)).mean()),
    }


def _rounded(value: Any) -> float:
    return round(float(value), 6)
