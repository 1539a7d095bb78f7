"""What a worker does with a photo: Beam's model handler for LiteRT, over the function's own parts.

A photo goes through `classifier.serving.prediction.predict`, as one that is sent to the function: that is why both say
the same to the last digit.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from apache_beam.ml.inference.base import ModelHandler

from batch.job import FOREVER, Job
from batch.listing import Photo
from classifier import logs
from classifier.errors import Corrupt, InvalidImage, PointerError, TooLarge
from classifier.photo.limits import Limits, too_large
from classifier.photo.memory import Memory
from classifier.quiet import quiet
from classifier.serving.loader import Loader, Unusable
from classifier.serving.prediction import Prediction, predict

UNREADABLE = "unreadable"
PHOTOS_A_THREAD = 8
"""Photos of a batch for each thread, so that a slow one at its end holds up little."""
LARGE = 1 << 20
"""Bytes of a photo from which it counts as several of a batch, which so has a bounded size."""


class Fetched(NamedTuple):
    """One photo on its way through a worker."""

    shard: str
    """The file of the output that its row is for."""
    place: int
    """Which of the photos of that file it is."""
    places: int
    """How many there are."""
    photo: Photo
    content: bytes | None
    failure: str | None = None
    """Why it could not be fetched."""


class Row(NamedTuple):
    """What is said of a photo."""

    shard: str
    place: int
    places: int
    path: str
    values: Mapping[str, Any] | None
    """The columns; None of a photo that could not be fetched."""
    failure: str | None


class Labeller:
    """A version that is loaded, verified, and shared by the threads of one process."""

    def __init__(self, job: Job) -> None:
        """Load it.

        Raises:
            Corrupt, NotFound: it is not the version that the job began with.
            Unavailable: the store cannot be reached.
        """
        self.job = job
        self._limits = Limits(
            job.max_image_bytes,
            job.max_image_pixels,
            Memory(job.max_image_memory, wait=FOREVER, max_waiting=1 << 20),
        )
        try:
            with quiet(), logs.written_to(io.StringIO()):
                self.loaded = Loader(job.settings).load(job.pointer, warm=1)
        except Unusable as problem:
            raise problem.error from problem
        self._threads = ThreadPoolExecutor(job.threads, thread_name_prefix="labels") if job.threads > 1 else None

    def label(self, batch: Sequence[Fetched]) -> Iterable[Row]:
        """Label photos, as many at the same time as the job has threads; rows come in the photos' order."""
        return (self._threads.map if self._threads else map)(self.row, batch)

    def row(self, fetched: Fetched) -> Row:
        """Label one photo. Raises `Corrupt`: the model gives no numbers, or cannot explain as it is asked to."""
        values = None if fetched.failure else self._values(fetched)
        return Row(fetched.shard, fetched.place, fetched.places, fetched.photo.path, values, fetched.failure)

    def _values(self, fetched: Fetched) -> dict[str, Any]:
        photo, content = fetched.photo, fetched.content
        values: dict[str, Any] = {"path": photo.path, "generation": photo.generation}
        if content is None:
            return {**values, "status": UNREADABLE, "error": str(too_large(self.job.max_image_bytes))}
        values["sha256"] = hashlib.sha256(content).hexdigest()
        try:
            return values | columns_of(predict(self.loaded, content, self.job.query, self._limits))
        except (InvalidImage, TooLarge) as error:
            return {**values, "status": UNREADABLE, "error": str(error)}
        except PointerError as error:
            raise Corrupt(f"{photo.path}: {error}") from error


def columns_of(prediction: Prediction) -> dict[str, Any]:
    """Return what a prediction is in the columns of a row."""
    label, confidence = prediction.ranked[0]
    columns: dict[str, Any] = {
        "width": prediction.size[0],
        "height": prediction.size[1],
        "label": label,
        "confidence": confidence,
        "top_k": [{"label": name, "confidence": value} for name, value in prediction.ranked],
        "score": prediction.score,
        "status": prediction.status,
    }
    if prediction.overlay is not None:
        columns["overlay"] = prediction.overlay.content
    return columns


class LiteRtHandler(ModelHandler[Fetched, Row, Labeller]):
    """Beam's way to run a model: one a process, shared between its threads, in batches that keep the threads busy."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def load_model(self) -> Labeller:
        """Load the version, once in a process. Raises as `Labeller` does."""
        return Labeller(self._job)

    def run_inference(
        self, batch: Sequence[Fetched], model: Labeller, inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[Row]:
        """Label a batch."""
        return model.label(batch)

    def batch_elements_kwargs(self) -> dict[str, Any]:
        """Tell how large a batch is."""
        size = PHOTOS_A_THREAD * self._job.threads
        return {"min_batch_size": size, "max_batch_size": size, "element_size_fn": weight}

    def get_metrics_namespace(self) -> str:
        """Name the metrics."""
        return "pointer"


def weight(fetched: Fetched) -> int:
    """Return how many photos of a batch one counts for."""
    return 1 + len(fetched.content or b"") // LARGE
