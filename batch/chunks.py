"""The plan in parts: the photos of one file of the output each, written where the workers find them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from batch.job import Job
from batch.listing import Photo
from batch.output import Output

SMALLEST, LARGEST, OF_OVERLAYS = 16, 1000, 200
"""Photos of a file: few of few, so that all processes have some; an overlay takes as much as a hundred rows."""
FILES = 16
"""Of each process, where there are few photos."""
WRITERS = 16

Chunk = tuple[str, int]
"""A file of the output by its id, with how many photos it is for."""


def size_for(todo: int, processes: int, *, overlays: bool) -> int:
    """Return how many photos a file is to have."""
    return max(SMALLEST, min(OF_OVERLAYS if overlays else LARGEST, todo // (processes * FILES)))


def write(output: Output, job: Job, photos: Iterable[Photo], size: int) -> list[Chunk]:
    """Write the plan, and return its parts."""

    def one(some: Sequence[Photo]) -> Chunk:
        shard = name_of(job, some)
        output.write_plan(job.version, shard, some)
        return shard, len(some)

    with ThreadPoolExecutor(WRITERS, thread_name_prefix="plan") as pool:
        chunks: list[Chunk] = []
        parts = _parts(photos, size)
        while some := list(islice(parts, 4 * WRITERS)):
            chunks += pool.map(one, some)
    return chunks


def name_of(job: Job, photos: Sequence[Photo]) -> str:
    """Return the id of the file of these photos: the same for the same photos, version and options."""
    digest = hashlib.blake2b(json.dumps(job.decides(), sort_keys=True).encode(), digest_size=12)
    for photo in photos:
        digest.update(f"{photo.path}\0{photo.generation}\n".encode())
    return digest.hexdigest()


def _parts(photos: Iterable[Photo], size: int) -> Iterator[list[Photo]]:
    remaining = iter(photos)
    while some := list(islice(remaining, size)):
        yield some
