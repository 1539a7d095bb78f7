"""The pipeline: photos of a plan are read ahead, labelled by `RunInference`, and written a file at a time.

What follows the reshuffle is one fused stage on every runner, so that a photo's bytes never leave the worker that read
them, and a file is written as soon as its last photo is labelled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from batch.buckets import is_of_the_store
from batch.chunks import Chunk
from batch.job import Job
from batch.labelling import UNREADABLE, Fetched, LiteRtHandler, Row
from batch.listing import Photo, read
from batch.output import Output
from classifier.errors import NotFound, PointerError, Unavailable
from classifier.serving.prediction import UNKNOWN

READERS = 16
"""Photos that a process reads ahead at most."""
AHEAD = 32 << 20
"""Their bytes, at most; one larger than that is read alone."""
OUTAGE = 5
"""Photos in a row that cannot be read, after which the bucket is taken for unreachable."""


def pipeline(job: Job, chunks: Sequence[Chunk], options: PipelineOptions) -> beam.Pipeline:
    """Return the pipeline that labels the photos of these plans."""
    made = beam.Pipeline(options=options)
    (
        made
        | "Plans" >> beam.Create(chunks, reshuffle=False)
        | "Spread" >> beam.Reshuffle()
        | "Read" >> beam.ParDo(ReadPhotos(job))
        | "Label" >> RunInference(LiteRtHandler(job))
        | "Write" >> beam.ParDo(WriteShards(job))
    )
    return made


class ReadPhotos(beam.DoFn):
    """Reads the photos of a plan ahead of the model that waits for them."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        """Start the threads that read."""
        self._output = Output(self._job.out)
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self._failures = 0

    def teardown(self) -> None:
        """End them."""
        self._threads.shutdown(cancel_futures=True)

    def process(self, chunk: Chunk) -> Iterator[Fetched]:
        """Yield the photos of a plan in its order; one that cannot be fetched, with why."""
        shard, count = chunk
        ahead: deque[tuple[int, Photo, Future[bytes | None]]] = deque()
        bytes_ahead = 0
        for index, photo in enumerate(self._output.read_plan(self._job.version, shard)):
            size = max(photo.size, 0)
            while ahead and (len(ahead) == READERS or bytes_ahead + size > AHEAD):
                bytes_ahead -= max(ahead[0][1].size, 0)
                yield self._fetched(shard, count, *ahead.popleft())
            ahead.append((index, photo, self._threads.submit(self._read, photo)))
            bytes_ahead += size
        while ahead:
            yield self._fetched(shard, count, *ahead.popleft())

    def _read(self, photo: Photo) -> bytes | None:
        """Read one photo; nothing of one that is too large."""
        if photo.size > self._job.max_image_bytes:
            return None
        content = read(photo, self._job.billing_project)
        return content if len(content) <= self._job.max_image_bytes else None

    def _fetched(self, shard: str, count: int, index: int, photo: Photo, reading: Future[bytes | None]) -> Fetched:
        try:
            content = reading.result()
        except (NotFound, Unavailable) as error:
            self._failures += not isinstance(error, NotFound)
            if is_of_the_store(error) or self._failures >= OUTAGE:
                raise
            return Fetched(shard, index, count, photo, None, str(error))
        self._failures = 0
        return Fetched(shard, index, count, photo, content)


class WriteShards(beam.DoFn):
    """Writes a file when the last of its photos is labelled."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._of_status = {
            status: Metrics.counter("pointer", status) for status in ("ok", UNKNOWN, UNREADABLE, "failed")
        }

    def setup(self) -> None:
        """Open the output."""
        self._output = Output(self._job.out)

    def start_bundle(self) -> None:
        """Begin with nothing: what a bundle that failed had collected is labelled again."""
        self._rows: dict[str, list[Row]] = {}

    def process(self, row: Row) -> Iterable[str]:
        """Collect a row, and yield the id of a file that was written."""
        rows = self._rows.setdefault(row.shard, [])
        rows.append(row)
        self._of_status[row.values["status"] if row.values else "failed"].inc()
        if len(rows) == row.places:
            self._write(row.shard, self._rows.pop(row.shard))
            yield row.shard

    def finish_bundle(self) -> None:
        """Make sure that nothing is left: a runner that had cut the stage in two would leave rows behind."""
        if self._rows:
            raise PointerError(
                "Expected all photos of a file in one bundle; received a part of them. This runner does not fuse the "
                "stage: use another one."
            )

    def _write(self, shard: str, rows: list[Row]) -> None:
        rows.sort(key=lambda row: row.place)
        values: list[Any] = [row.values for row in rows if row.values is not None]
        failed = {row.path: row.failure for row in rows if row.failure is not None}
        if failed:
            self._output.write_failed(self._job.version, shard, failed)
        if values:
            self._output.write(self._job, shard, values)
