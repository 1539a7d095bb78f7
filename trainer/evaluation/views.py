"""What test-time augmentation gains and costs: a served file on photos, by each choice of views."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from classifier.photo.preprocessing import Photo
from classifier.registry.manifest import InputSpec
from classifier.serving.model import Model
from classifier.serving.query import PASSES
from classifier.serving.views import MIRRORED, WINDOWS, View, turned, views_of
from trainer.data.sampling import spread
from trainer.data.source import PhotoSource
from trainer.evaluation.served import each_photo, of_probabilities

PHOTOS = 500
"""At most, evenly spread: ten forward passes of each take their time."""


def measure_views(
    content: bytes,
    source: PhotoSource,
    rows: NDArray[np.intp],
    truth: NDArray[np.int32],
    on_photo: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, float | int]]:
    """Classify photos by each choice of views, by the code that serves.

    Args:
        content: the LiteRT file.
        source: the photos.
        rows: which of them; of more than `PHOTOS` those evenly spread.
        truth: class number of each row.
        on_photo: called after each photo, from any thread.

    Returns:
        By choice, ``none`` first: ``passes``, ``photos``, ``top_1``, ``log_loss``, ``gain`` (of top-1 over none on the
        same photos) and ``ms`` (the median of a photo's resampling and forward passes).
    """
    chosen = sampled(rows)
    spec = source.spec

    def look(model: Model, row: int) -> dict[View, _Seen]:
        return _each_view(model, source.photo(row), spec)

    seen = each_photo(content, rows[chosen], look, on_photo)
    figures: dict[str, dict[str, float | int]] = {}
    for tta, passes in PASSES.items():
        wanted = [view for window in WINDOWS[tta] for view in views_of(window, mirrored=MIRRORED[tta])]
        of_photos = [np.mean([one[view].probabilities for view in wanted], axis=0) for one in seen]
        found = of_probabilities(np.stack(of_photos), truth[chosen])
        figures[tta or "none"] = {
            "passes": passes,
            "photos": len(chosen),
            "top_1": found["top_1"],
            "log_loss": found["log_loss"],
            "gain": round(found["top_1"] - figures.get("none", found)["top_1"], 6),
            "ms": round(float(np.median([sum(one[view].ms for view in wanted) for one in seen])), 2),
        }
    return figures


def sampled(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the positions of those rows that are measured."""
    return np.asarray(spread(np.arange(len(rows)), PHOTOS), np.intp)


class _Seen(NamedTuple):
    """What was said of one view, and how long it took."""

    probabilities: NDArray[np.float32]
    ms: float
    """Of its forward pass, and of resampling its part if it is the first view of that."""


def _each_view(model: Model, photo: Photo, spec: InputSpec) -> dict[View, _Seen]:
    """Return what is said of each view that any choice has: each is looked at once."""
    seen = {}
    photo.array(spec.width, spec.height, spec.resize)  # what the first one finds out is not to count
    for window in dict.fromkeys(window for windows in WINDOWS.values() for window in windows):
        began = time.perf_counter()
        array = photo.array(spec.width, spec.height, spec.resize, window)
        for view in views_of(window, mirrored=True):
            probabilities = model.run(turned(array, view)).probabilities
            done = time.perf_counter()
            seen[view] = _Seen(probabilities, (done - began) * 1000)
            began = done
    return seen
