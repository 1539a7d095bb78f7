"""The labelling: Parquet files under ``version=v8/``, each whole or not there, and what is read of them again.

<out>/version=v8/_version.json           what decides what a row says; create-only
<out>/version=v8/part-<id>.parquet       rows; create-only, named after the photos that are in it
<out>/version=v8/_plan/<id>.json         the photos that a worker is to label; gone when all is done
<out>/version=v8/_failed/<id>.json       photos of a file that could not be fetched: no rows, and tried again next time
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from batch.buckets import Bucket
from batch.job import Job
from batch.listing import Photo
from classifier.errors import Corrupt, NotFound, PreconditionFailed, Refused
from classifier.registry.catalogue import VERSION
from classifier.storage.names import bucket_of
from classifier.storage.opening import open_store
from classifier.storage.protocol import MUST_NOT_EXIST

FOLDER = "version="
"""How the name of a version's folder begins: as Hive, Spark, BigQuery, DuckDB and pyarrow read a column's value."""
MEDIA_TYPE = "application/vnd.apache.parquet"
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("generation", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("label", pa.string()),
        ("confidence", pa.float64()),
        ("top_k", pa.list_(pa.struct([("label", pa.string()), ("confidence", pa.float64())]))),
        ("score", pa.float64()),
        ("status", pa.string()),
        ("error", pa.string()),
    ]
)
"""The columns; `version` is the folder's. The status is "ok", "unknown", or "unreadable", with the error."""
OVERLAY = pa.field("overlay", pa.binary())


class Output:
    """The labellings under one address. Any thread may use it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.store = open_store(url)

    def versions(self) -> list[str]:
        """Return the versions of which there are labels, sorted by number."""
        try:
            names = [name.removeprefix(FOLDER) for name in self.store.folders() if name.startswith(FOLDER)]
        except NotFound:
            return []
        return sorted((name for name in names if VERSION.fullmatch(name)), key=lambda each: int(each[1:]))

    def mark(self, job: Job) -> None:
        """Write down what decides what the rows of a version say, or compare with what was written.

        Raises:
            Refused: rows of other options, or of another model, are there.
        """
        name, wanted = f"{FOLDER}{job.version}/_version.json", job.decides()
        with suppress(PreconditionFailed):
            self.store.write(
                name,
                json.dumps(wanted, indent=2).encode(),
                if_generation=MUST_NOT_EXIST,
                content_type="application/json",
            )
        found = json.loads(self.store.read(name).data)
        other = [key for key in wanted if found.get(key) != wanted[key]]
        if other:
            key = other[0]
            raise Refused(
                f"Expected the labels of {job.version} in {self.url} to have {key} {wanted[key]!r}, as this job; they "
                f"have {found.get(key)!r}. Name another --out, or give the options that they were made with."
            )

    def decided(self, version: str) -> Mapping[str, Any]:
        """Return what was written by `mark`.

        Raises:
            NotFound: there are no labels of this version; says of which there are.
        """
        try:
            found: Mapping[str, Any] = json.loads(self.store.read(f"{FOLDER}{version}/_version.json").data)
            return found
        except NotFound as error:
            known = ", ".join(self.versions()) or "none"
            raise NotFound(
                f"Expected labels of {version} in {self.url}; found those of {known}. `admin_cli label` makes them."
            ) from error

    def shards(self, version: str) -> list[str]:
        """Return the names of a version's files, sorted."""
        with suppress(NotFound):
            names = (item.name for item in self.store.list(f"{FOLDER}{version}/part-"))
            return [name for name in names if name.endswith(".parquet")]
        return []

    def ids(self, version: str) -> set[str]:
        """Return the ids of a version's files."""
        return {id_of(name) for name in self.shards(version)}

    def write(self, job: Job, shard: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a file of rows; one of this name that is there has the same photos, and stays."""
        schema = SCHEMA.append(OVERLAY) if job.gradcam else SCHEMA
        decided = {key: str(value) for key, value in job.decides().items()}
        table = pa.Table.from_pylist(list(rows), schema.with_metadata(decided))
        buffer = io.BytesIO()
        parquet.write_table(table, buffer, compression="zstd")
        name = f"{FOLDER}{job.version}/part-{shard}.parquet"
        with suppress(PreconditionFailed):
            self.store.write(name, buffer.getvalue(), if_generation=MUST_NOT_EXIST, content_type=MEDIA_TYPE)

    def rows(self, version: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield some columns of all rows; nothing of the others is read.

        Raises:
            Corrupt: a file is not what was written.
        """
        for name in self.shards(version):
            with self._opened(name) as file:
                try:
                    table = parquet.ParquetFile(file)
                    for batch in table.iter_batches(batch_size=4096, columns=list(columns)):
                        yield from zip(*(batch.column(each).to_pylist() for each in columns), strict=True)
                except (pa.ArrowException, OSError) as error:
                    raise Corrupt(
                        f"Expected a Parquet file with {', '.join(columns)} at {name}; {error}. Delete it, and label "
                        "again: its photos alone are labelled anew.",
                        store=self.url,
                    ) from error

    def write_plan(self, version: str, shard: str, photos: Sequence[Photo]) -> None:
        """Write which photos a worker is to label."""
        data = "\n".join(json.dumps(photo) for photo in photos).encode()
        self.store.write(f"{FOLDER}{version}/_plan/{shard}.json", data)

    def read_plan(self, version: str, shard: str) -> list[Photo]:
        """Return the photos that a worker is to label."""
        data = self.store.read(f"{FOLDER}{version}/_plan/{shard}.json").data
        return [Photo(*json.loads(line)) for line in data.splitlines()]

    def write_failed(self, version: str, shard: str, failed: Mapping[str, str]) -> None:
        """Write which photos of a file have no row, and why."""
        self.store.write(f"{FOLDER}{version}/_failed/{shard}.json", json.dumps(failed).encode())

    def take_failed(self, version: str) -> dict[str, str]:
        """Return the photos that have no row, with why, and forget them."""
        failed: dict[str, str] = {}
        with suppress(NotFound):
            for item in self.store.list(f"{FOLDER}{version}/_failed/"):
                failed |= json.loads(self.store.read(item.name).data)
                self.store.delete(item.name)
        return failed

    def forget_plans(self, version: str) -> None:
        """Delete what `write_plan` wrote."""
        with suppress(NotFound):
            for item in self.store.list(f"{FOLDER}{version}/_plan/"):
                self.store.delete(item.name)

    @contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        bucket = bucket_of(self.url)
        if bucket is None:
            with (Path(self.url).expanduser() / name).open("rb") as file:
                yield file
            return
        where, prefix = bucket
        with Bucket(where).open(f"{prefix}/{name}" if prefix else name) as file:
            yield file


def id_of(name: str) -> str:
    """Return the id in a file's name."""
    return name.rpartition("part-")[2].removesuffix(".parquet")
