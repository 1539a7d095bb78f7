"""Explains a label of any model by occlusion: hide a part of the photo, look how far its probability falls.

Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2. It needs nothing of the
network but its probabilities, and many forward passes: `PASSES` for a photo, however large the model is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from classifier.errors import CannotExplain

if TYPE_CHECKING:  # numpy comes with the first prediction, beside the model
    import numpy as np
    from numpy.typing import NDArray

    from classifier.serving.model import Model, Output

    Lend = Callable[[], AbstractContextManager[Model]]

GRID = 8
"""Rows and columns of the heatmap."""
PASSES = GRID * GRID
"""Forward passes of one explanation, besides the one that classifies the photo."""
GREY = 127
LONGEST = 30.0
"""Seconds that one explanation may take; the function's own limit is 60."""


class Occlusion(NamedTuple):
    """An explanation, and what it took."""

    heatmap: NDArray[np.float32]
    """[GRID, GRID], how far the probability fell, never negative."""
    queue_ms: float
    infer_ms: float


def occlusion_map(lend: Lend, image: NDArray[np.uint8], label: int, probability: float) -> Occlusion:
    """Cover each cell of the grid, and half a cell around it, with grey, and classify what is left.

    An interpreter is lent for a row at a time: callers who want one pass do not wait for all of these.

    Args:
        lend: lends one of the version's interpreters.
        image: uint8 [H, W, 3], exactly the model's input size.
        label: the class number that is explained.
        probability: what the model gives it on the whole image.

    Raises:
        CannotExplain: by the first row, all would take longer than `LONGEST`.
        Overloaded: no interpreter became free in time.
    """
    import numpy as np

    heatmap = np.zeros((GRID, GRID), np.float32)
    queued = inferred = 0.0
    for row in range(GRID):
        asked = time.perf_counter()
        with lend() as model:
            lent = time.perf_counter()
            for column in range(GRID):
                covered = model.run(_covered(image, row, column)).probabilities[label]
                heatmap[row, column] = max(0.0, probability - float(covered))
            ended = time.perf_counter()
        queued, inferred = queued + lent - asked, inferred + ended - lent
        if row == 0 and inferred * GRID > LONGEST:
            raise CannotExplain(
                f"Expected a model of which {PASSES} forward passes take at most {LONGEST:g} s; they would take "
                f"{inferred * GRID:.0f} s. Ask without gradcam, or give the function more CPUs."
            )
    return Occlusion(heatmap, queued * 1000, inferred * 1000)


def explain(model: Model, image: NDArray[np.uint8], seen: Output, label: int) -> NDArray[np.float32]:
    """Return a label's heatmap [h, w], for who holds the model alone: its Grad-CAM, or by occlusion where it has none.

    Args:
        model: the model.
        image: uint8 [H, W, 3], exactly the model's input size.
        seen: what the model said of it.
        label: the class number that is explained.

    Raises:
        CannotExplain: as `occlusion_map`.
    """
    if model.has_heatmaps:
        return seen.heatmap(label)
    return occlusion_map(lambda: nullcontext(model), image, label, float(seen.probabilities[label])).heatmap


def _covered(image: NDArray[np.uint8], row: int, column: int) -> NDArray[np.uint8]:
    """Return a copy with a grey patch over a cell and half a cell on each side."""
    height, width = image.shape[:2]
    top, bottom = (2 * row - 1) * height // (2 * GRID), (2 * row + 3) * height // (2 * GRID)
    left, right = (2 * column - 1) * width // (2 * GRID), (2 * column + 3) * width // (2 * GRID)
    covered = image.copy()
    covered[max(0, top) : bottom, max(0, left) : right] = GREY
    return covered
