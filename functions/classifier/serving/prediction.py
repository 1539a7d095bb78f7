"""One prediction: the bytes of a photo to a label, confidences and the overlay that was asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifier.serving.query import MEDIA_TYPES, Query, label_index

if TYPE_CHECKING:  # numpy and Pillow come with the first prediction, beside the model
    from classifier.photo.limits import Limits
    from classifier.serving.instance import Loaded

DIGITS = 6
UNKNOWN = "unknown"
STEPS = ("decode", "queue", "infer", "encode")
"""What a prediction's time is made of; `Prediction` has the milliseconds of each."""


@dataclass(frozen=True)
class Overlay:
    """A Grad-CAM of one label, encoded."""

    label: str
    confidence: float
    media_type: str
    content: bytes


@dataclass(frozen=True)
class Prediction:
    """What the model says about one photo, and how long each step took in milliseconds."""

    ranked: tuple[tuple[str, float], ...]
    """(label, confidence), most probable first; at least one."""
    label_idx: int
    status: str
    score: float
    """How much the photo is like those that the model was trained on, 0..1."""
    tta: bool
    """Whether its mirror image was classified too."""
    overlay: Overlay | None
    decode_ms: float
    queue_ms: float
    """Until an interpreter was free."""
    infer_ms: float
    encode_ms: float


def predict(loaded: Loaded, content: bytes, query: Query, limits: Limits) -> Prediction:
    """Classify a photo and explain it as the query asks.

    Raises:
        InvalidRequest: the query names a label that the model does not know.
        InvalidImage, TooLarge: the photo cannot be read.
        Overloaded: no interpreter, or no memory, became free in time.
    """
    import numpy as np

    from classifier.photo import heatmap, preprocessing

    manifest, spec = loaded.manifest, loaded.manifest.input
    explained = label_index(manifest.labels, query.gradcam) if query.gradcam else None
    started = time.perf_counter()
    photo = preprocessing.decode(content, width=spec.width, height=spec.height, limits=limits)
    array = photo.array(spec.width, spec.height, spec.resize)
    decoded = time.perf_counter()
    with loaded.pool.model() as model:
        lent = time.perf_counter()
        output = model.run(array, tta=query.tta)
        inferred = time.perf_counter()
    order = np.argsort(-output.probabilities, kind="stable")
    top = int(order[0])
    confidences = [round(float(value), DIGITS) for value in output.probabilities]
    overlay = None
    encoding = time.perf_counter()
    if query.gradcam is not None:
        index = top if explained is None else explained
        media_type = MEDIA_TYPES[query.gradcam_format]
        if query.gradcam_format == "heatmap":
            encoded = heatmap.encode(heatmap.bare(output.heatmaps[index]), media_type)
        else:
            shown = photo.display(query.gradcam_size)
            with limits.lend(heatmap.OVERLAY_BYTES * shown.width * shown.height):
                region = photo.region(spec.width, spec.height, spec.resize)
                encoded = heatmap.encode(heatmap.overlay(shown, output.heatmaps[index], region=region), media_type)
        overlay = Overlay(manifest.labels[index], confidences[index], media_type, encoded)
    finished = time.perf_counter()
    known = output.score >= manifest.thresholds.get(UNKNOWN, 0.0)
    return Prediction(
        ranked=tuple((manifest.labels[int(i)], confidences[int(i)]) for i in order[: query.top_k]),
        label_idx=top,
        status="ok" if known else UNKNOWN,
        score=round(output.score, DIGITS),
        tta=query.tta,
        overlay=overlay,
        decode_ms=_milliseconds(started, decoded),
        queue_ms=_milliseconds(decoded, lent),
        infer_ms=_milliseconds(lent, inferred),
        encode_ms=_milliseconds(encoding, finished),
    )


def _milliseconds(start: float, end: float) -> float:
    return round((end - start) * 1000, 2)
