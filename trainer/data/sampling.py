"""Rows spread evenly over a data set's classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def spread(rows: Any, count: int) -> Any:
    """Return at most `count` rows, evenly spread."""
    return rows[np.unique(np.linspace(0, max(len(rows) - 1, 0), min(count, len(rows))).astype(int))]


CALIBRATION_PHOTOS = 128


def calibration_rows(labels: Sequence[str], rows: NDArray[np.intp], count: int = CALIBRATION_PHOTOS) -> Any:
    """Return at most `count` of `rows`, as many of each label as of any other, spread over each label's photos.

    Args:
        labels: label of each photo of the data frame, not only of `rows`.
        rows: the training photos.
        count: how many are wanted.
    """
    of_label: dict[str, list[int]] = {}
    for row in rows.tolist():
        of_label.setdefault(labels[row], []).append(row)
    each = -(-count // len(of_label))
    spread = [
        found[place]
        for found in of_label.values()
        for place in np.unique(np.linspace(0, len(found) - 1, each, dtype=int))
    ]
    places = np.unique(np.linspace(0, len(spread) - 1, min(count, len(spread)), dtype=int))
    return np.array(spread)[places]
