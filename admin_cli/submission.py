"""A submission to Kaggle's competition Dog Breed Identification: each unlabelled photo with every label's probability.

The layout is that of its ``sample_submission.csv``: a header ``id,affenpinscher,…`` with the labels in the model's
order, which is sorted as theirs is, and a row per photo, whose id is the file's name without its ending.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.errors import InvalidRequest
from classifier.quiet import quiet

if TYPE_CHECKING:
    from classifier.api import Classifier


def open_quietly(store: str, model: str, version: str) -> Classifier:
    """Open a version; LiteRT's remarks are held back. Raises what `classifier.open_model` raises."""
    from classifier.api import open_model

    with quiet():
        return open_model(store, model, version)


def submission(classifier: Classifier, files: Sequence[Path], *, tta: bool = False) -> str:
    """Return the CSV; it has every photo, or there is none.

    Args:
        classifier: knows the labels.
        files: the photos.
        tta: whether to average over each photo and its mirror image.

    Raises:
        InvalidRequest: two photos have one id, or a label is "id".
        NotFound, InvalidImage, TooLarge: a photo cannot be read.
    """
    by_id: dict[str, Path] = {}
    for path in files:
        if path.stem in by_id:
            raise InvalidRequest(
                f"Expected photos with names of their own, which are their ids; {by_id[path.stem]} and {path} share "
                "one. Rename one, or leave it out."
            )
        by_id[path.stem] = path
    if "id" in classifier.labels:
        raise InvalidRequest('Expected labels that are no "id", which is the first column; the model has one.')
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("id", *classifier.labels))
    with quiet():
        results = classifier.predict(by_id.values(), tta=tta)
    for name, result in zip(by_id, results, strict=True):
        total = sum(result.probabilities)  # 1 but for float32's rounding
        writer.writerow((name, *(f"{each / total:.9g}" for each in result.probabilities)))
    return table.getvalue()
