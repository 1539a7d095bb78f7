"""Test-time augmentation: the views of one photo, and the mean of what a model says of them.

A view is a part of what the model sees of the photo, resampled from the decoded photo at the model's full input size,
and perhaps mirrored (Krizhevsky et al. 2012 average ten of them). Each view's heatmaps are mirrored and put back to
where they belong in the photo before they are averaged, by the exact share that their cells have of the photo's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from classifier.photo.preprocessing import WHOLE, Input, Photo, Region
from classifier.serving.model import Model, Output
from classifier.serving.query import Tta

SIDE = 7 / 8
"""Of a crop, relative to what the model sees of the photo. A photo is decoded with a margin of more than that."""
REST = 1 - SIDE


class View(NamedTuple):
    """One way to look at a photo."""

    part: Region
    mirrored: bool


CROPS: tuple[Region, ...] = (
    (0.0, 0.0, SIDE, SIDE),
    (REST, 0.0, 1.0, SIDE),
    (0.0, REST, SIDE, 1.0),
    (REST, REST, 1.0, 1.0),
    (REST / 2, REST / 2, 1 - REST / 2, 1 - REST / 2),
)
"""The four corners and the centre."""
WINDOWS: dict[Tta, tuple[Region, ...]] = {"": (WHOLE,), "mirror": (WHOLE,), "crops": CROPS, "all": CROPS}
"""The parts of the photo that each choice looks at."""
MIRRORED: dict[Tta, bool] = {"": False, "mirror": True, "crops": False, "all": True}
"""Whether it looks at the mirror image of each part too."""


def arrays_of(photo: Photo, spec: Input, tta: Tta) -> list[NDArray[np.uint8]]:
    """Return the parts of a photo that a choice looks at, as they are (not mirrored), uint8 [height, width, 3] each."""
    return [photo.array(spec.width, spec.height, spec.resize, window) for window in WINDOWS[tta]]


def look(model: Model, arrays: Sequence[NDArray[np.uint8]], tta: Tta) -> Output:
    """Return the mean of what a model says of the views of a choice, in as many forward passes as `PASSES` says.

    Args:
        model: which.
        arrays: from `arrays_of`, for the same choice.
        tta: the choice.
    """
    seen = []
    for array, window in zip(arrays, WINDOWS[tta], strict=True):
        seen += [(view, model.run(turned(array, view))) for view in views_of(window, mirrored=MIRRORED[tta])]
    return mean(seen)


def views_of(window: Region, *, mirrored: bool) -> list[View]:
    """Return the views of one part: itself and, where asked for, its mirror image."""
    return [View(window, False), View(window, True)] if mirrored else [View(window, False)]


def turned(array: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Return the pixels of a part as a view of it shows them."""
    return np.ascontiguousarray(array[:, ::-1]) if view.mirrored else array


def mean(seen: Sequence[tuple[View, Output]]) -> Output:
    """Return the mean of what was said of some views of one photo.

    Probabilities and score are plain means. Each cell of the heatmaps is the mean over the views that show its place,
    each by the share of the cell that it shows; a place that none shows has none.
    """
    if len(seen) == 1 and seen[0][0] == View(WHOLE, False):
        return seen[0][1]
    probabilities = sum(output.probabilities for _, output in seen) / np.float32(len(seen))
    score = sum(output.score for _, output in seen) / len(seen)
    placed = None if any(output.heatmaps is None for _, output in seen) else _placed(seen)
    return Output(np.asarray(probabilities, np.float32), placed, score)


def _placed(seen: Sequence[tuple[View, Output]]) -> NDArray[np.float32]:
    heatmaps = [(view, output.heatmaps) for view, output in seen if output.heatmaps is not None]
    shape = heatmaps[0][1].shape
    rows, columns = shape[1:]
    total, covered = np.zeros(shape), np.zeros((rows, columns))
    for view, each in heatmaps:
        left, top, right, bottom = view.part
        maps = each[:, :, ::-1] if view.mirrored else each
        down, across = _shares(rows, top, bottom), _shares(columns, left, right)
        total += down @ maps @ across.T
        covered += np.outer(down.sum(axis=1), across.sum(axis=1))
    return np.asarray(total / np.maximum(covered, np.finfo(np.float64).tiny), np.float32)


def _shares(cells: int, start: float, end: float) -> NDArray[np.float64]:
    """Return [cells, cells]: which share of each cell of a side lies in each cell of the part from `start` to `end`."""
    whole = np.linspace(0, 1, cells + 1)
    part = np.linspace(start, end, cells + 1)
    shared = np.minimum(whole[1:, None], part[None, 1:]) - np.maximum(whole[:-1, None], part[None, :-1])
    clipped: NDArray[np.float64] = np.clip(shared, 0, None)
    return clipped * cells
