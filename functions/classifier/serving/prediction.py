"""One prediction: the bytes of a photo to a label, confidences and the overlay that was asked for.

`look` is what every caller shares: the function by `predict`, Python programs by `classifier.api`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifier.errors import CannotExplain, Corrupt
from classifier.serving.occlusion import PASSES, occlusion_map
from classifier.serving.query import MEDIA_TYPES, OCCLUSION, Query, Tta, label_index

if TYPE_CHECKING:  # numpy and Pillow come with the first prediction, beside the model
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from classifier.photo.limits import Limits
    from classifier.photo.preprocessing import Photo
    from classifier.registry.manifest import Manifest
    from classifier.serving.loader import Loaded
    from classifier.serving.model import Output
    from classifier.serving.pool import Pool

DIGITS = 6
UNKNOWN = "unknown"
STEPS = ("decode", "queue", "infer", "encode")
"""What a prediction's time is made of; `Prediction` has the milliseconds of each."""


@dataclass(frozen=True)
class Overlay:
    """An explanation of one label, by Grad-CAM or by occlusion, encoded."""

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
    tta: Tta
    """The views over which all of it is the mean; empty where it is of the photo alone."""
    overlay: Overlay | None
    decode_ms: float
    queue_ms: float
    """Until an interpreter was free."""
    infer_ms: float
    """Of all forward passes: one, one more with `tta`, `PASSES` more for an explanation by occlusion."""
    encode_ms: float
    size: tuple[int, int]
    """Width and height of the photo in pixels, upright."""


@dataclass(frozen=True)
class Seen:
    """What the model said of a photo, with the photo."""

    photo: Photo
    output: Output
    decode_ms: float
    queue_ms: float
    infer_ms: float


def look(manifest: Manifest, pool: Pool, content: bytes, *, tta: Tta, limits: Limits) -> Seen:
    """Decode a photo as the manifest says, and run the model on the views of it that are asked for.

    Raises:
        InvalidImage, TooLarge: the photo cannot be read.
        Overloaded: no interpreter, or no memory, became free in time.
        Corrupt: the model gives no numbers for it.
    """
    import numpy as np

    from classifier.photo import preprocessing
    from classifier.serving import views

    spec = manifest.input
    started = time.perf_counter()
    photo = preprocessing.decode(content, width=spec.width, height=spec.height, limits=limits)
    arrays = views.arrays_of(photo, spec, tta)
    decoded = time.perf_counter()
    with pool.model() as model:
        lent = time.perf_counter()
        output = views.look(model, arrays, tta)
        inferred = time.perf_counter()
    if not np.isfinite([*output.probabilities, output.score]).all():
        raise Corrupt(f"Expected probabilities and a score of the photo; {_name(manifest)} gives no numbers for it.")
    return Seen(
        photo, output, _milliseconds(started, decoded), _milliseconds(decoded, lent), _milliseconds(lent, inferred)
    )


def overlay_of(manifest: Manifest, photo: Photo, explanation: NDArray[np.float32], shown: Image.Image) -> Image.Image:
    """Lay a heatmap [h, w] of what the model sees over what `Photo.display` shows; an RGB image of its size."""
    from classifier.photo import heatmap

    spec = manifest.input
    region = photo.region(spec.width, spec.height, spec.resize)
    return heatmap.overlay(shown, explanation, region=region)


def status_of(manifest: Manifest, score: float) -> str:
    """Return "ok", or "unknown" where a photo is not like those that the model was trained on."""
    return "ok" if score >= manifest.thresholds.get(UNKNOWN, 0.0) else UNKNOWN


def predict(loaded: Loaded, content: bytes, query: Query, limits: Limits) -> Prediction:
    """Classify a photo and explain it as the query asks.

    Raises:
        InvalidRequest: the query names a label that the model does not know.
        CannotExplain: it asks for Grad-CAM and the model has none, or for occlusion and that would take too long.
        Also what `look` raises.
    """
    import numpy as np

    from classifier.photo import heatmap

    manifest = loaded.manifest
    explained = label_index(manifest.labels, query.gradcam) if query.gradcam else None
    if query.gradcam is not None and not query.occlusion and not loaded.pool.has_heatmaps:
        raise CannotExplain(_no_gradcam(loaded))
    seen = look(manifest, loaded.pool, content, tta=query.tta, limits=limits)
    output = seen.output
    queue_ms, infer_ms = seen.queue_ms, seen.infer_ms
    order = np.argsort(-output.probabilities, kind="stable")
    top = int(order[0])
    confidences = [round(float(value), DIGITS) for value in output.probabilities]
    overlay = None
    encoding = time.perf_counter()
    if query.gradcam is not None:
        index = top if explained is None else explained
        if query.occlusion:
            occluded = occlusion_map(
                loaded.pool.model, _array(manifest, seen), index, float(output.probabilities[index])
            )
            explanation = occluded.heatmap
            queue_ms, infer_ms = queue_ms + occluded.queue_ms, infer_ms + occluded.infer_ms
            encoding = time.perf_counter()
        else:
            explanation = output.heatmap(index)
        media_type = MEDIA_TYPES[query.gradcam_format]
        if query.gradcam_format == "heatmap":
            encoded = heatmap.encode(heatmap.bare(explanation), media_type)
        else:
            shown = seen.photo.display(query.gradcam_size)
            with limits.lend(heatmap.OVERLAY_BYTES * shown.width * shown.height):
                encoded = heatmap.encode(overlay_of(manifest, seen.photo, explanation, shown), media_type)
        overlay = Overlay(manifest.labels[index], confidences[index], media_type, encoded)
    finished = time.perf_counter()
    return Prediction(
        ranked=tuple((manifest.labels[int(i)], confidences[int(i)]) for i in order[: query.top_k]),
        label_idx=top,
        status=status_of(manifest, output.score),
        score=round(output.score, DIGITS),
        tta=query.tta,
        overlay=overlay,
        decode_ms=seen.decode_ms,
        queue_ms=round(queue_ms, 2),
        infer_ms=round(infer_ms, 2),
        encode_ms=_milliseconds(encoding, finished),
        size=seen.photo.size,
    )


def _name(manifest: Manifest) -> str:
    return manifest.version or "the bundle"


def _array(manifest: Manifest, seen: Seen) -> NDArray[np.uint8]:
    spec = manifest.input
    return seen.photo.array(spec.width, spec.height, spec.resize)


def _milliseconds(start: float, end: float) -> float:
    return round((end - start) * 1000, 2)


def _no_gradcam(loaded: Loaded) -> str:
    why = f", because {loaded.manifest.no_gradcam}" if loaded.manifest.no_gradcam else ""
    return (
        f"Expected gradcam={OCCLUSION} or no gradcam: {loaded.pointer.version} cannot explain by Grad-CAM{why}. "
        f"Occlusion explains a label of any model and takes {PASSES} more forward passes."
    )
