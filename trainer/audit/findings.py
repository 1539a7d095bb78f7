"""What an audit finds, as a table of decisions that a person edits and `trainer train --corrections` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from classifier.wording import plural
from trainer.audit.labels import confident_labels, cross_validated, doubted
from trainer.audit.material import Material
from trainer.audit.neighbours import Pair, groups_of, near_duplicates, nearest, outliers
from trainer.data.checks import CheckedPhotos
from trainer.data.decisions import DECISION_COLUMNS, KEEP
from trainer.data.loaders import class_targets
from trainer.run.files import write_file

TABLE = "decisions.csv"
THUMBNAIL = 32
"""Side of the pictures that near duplicates are compared by."""
NEAREST_TO_TEST = {"test": 0, "validation": 1, "train": 2}


@dataclass(frozen=True)
class Findings:
    """Rows are those of the photos' frame."""

    photos: CheckedPhotos
    labels: tuple[str, ...]
    probabilities: NDArray[np.float64]
    """[photos, classes], cross-validated."""
    doubted: NDArray[np.intp]
    """Photos that look like another class, the least probable label first."""
    confident: int
    """How many of these belong to the other class confidently."""
    duplicates: tuple[Pair, ...]
    """The photo to keep is the first: that nearer to the test, of equals the one listed first."""
    outliers: NDArray[np.intp]

    @property
    def leaks(self) -> int:
        """Return how many pairs are in two splits."""
        splits = self.photos.frame["split"].to_numpy()
        return sum(splits[pair.first] != splits[pair.second] for pair in self.duplicates)

    def suggested(self, row: int) -> str:
        """Return the label that a photo probably has."""
        return self.labels[int(self.probabilities[row].argmax())]


def find(material: Material, seed: int = 7) -> Findings:
    """Look for wrong labels, near duplicates and outliers.

    Raises:
        InvalidRequest: too few photos or classes.
    """
    photos = material.photos
    labels = photos.labels
    truth = class_targets(photos.frame["label"], labels, one_hot=False).astype(np.intp)
    neighbours = nearest(material.features)
    pairs = near_duplicates(neighbours, lambda row: _thumbnail(photos, row))
    probabilities = cross_validated(material.features, truth, groups_of(pairs, len(truth)), seed)
    rows, confident = doubted(probabilities, truth), confident_labels(probabilities, truth)
    rank = photos.frame["split"].map(NEAREST_TO_TEST).to_numpy()
    ordered = tuple(
        pair if (rank[pair.first], pair.first) < (rank[pair.second], pair.second) else pair.turned() for pair in pairs
    )
    return Findings(
        photos,
        labels,
        probabilities,
        rows,
        int(((confident[rows] >= 0) & (confident[rows] != truth[rows])).sum()),
        ordered,
        outliers(neighbours),
    )


def to_table(findings: Findings) -> pd.DataFrame:
    """Return a row for each photo that something was found of, with the decision to keep it, in the order to look at.

    Doubted labels come first, then near duplicates, then outliers. Of a pair that photo is listed that could go, and
    both where their labels differ.
    """
    frame = findings.photos.frame
    paths, labels, splits = (frame[column].to_numpy() for column in ("image_path", "label", "split"))
    reasons: dict[int, list[str]] = {}
    for row in findings.doubted.tolist():
        own, best = findings.probabilities[row, findings.labels.index(labels[row])], findings.probabilities[row].max()
        reasons.setdefault(row, []).append(f"looks like {findings.suggested(row)} ({best:.0%}; its label {own:.0%})")
    for first, second, _ in findings.duplicates:
        differ = labels[first] != labels[second]
        for row, twin in ((second, first), (first, second))[: 2 if differ else 1]:
            what = f"nearly the same as {paths[twin]}"
            what += f", which is in {splits[twin]}" if splits[row] != splits[twin] else ""
            what += f", labelled {labels[twin]}" if differ else ""
            reasons.setdefault(row, []).append(what)
    for row in findings.outliers.tolist():
        reasons.setdefault(row, []).append("like no other photo")
    doubts = set(findings.doubted.tolist())
    rows = [
        (paths[row], labels[row], findings.suggested(row) if row in doubts else "", KEEP, "; ".join(said), splits[row])
        for row, said in reasons.items()
    ]
    return pd.DataFrame(rows, columns=list(DECISION_COLUMNS), dtype=object)


def summary(findings: Findings) -> list[str]:
    """Return what was found in a few lines."""
    frame = findings.photos.frame
    leaks = f", {findings.leaks:,} of them in two splits" if findings.leaks else ""
    return [
        f"{plural(len(findings.labels), 'class')}, {plural(len(frame), 'photo')}; "
        f"{len(findings.photos.rejected):,} rejected",
        f"{len(findings.doubted):,} look like another class, {findings.confident:,} of them confidently",
        f"{plural(len(findings.duplicates), 'pair is', 'pairs are')} nearly the same{leaks}",
        f"{len(findings.outliers):,} are like no other photo",
    ]


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write the table of decisions."""
    write_file(path, lambda beside: table.to_csv(beside, index=False))


def _thumbnail(photos: CheckedPhotos, row: int) -> NDArray[np.uint8]:
    picture = Image.fromarray(photos.source.array(row)).convert("L")
    return np.asarray(picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
