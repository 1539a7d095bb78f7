"""Tables of paths: CSV, JSON lines or Parquet, here or in a bucket, row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from batch.buckets import SCHEME, Bucket, split
from classifier.errors import InvalidRequest, NotFound

ENDINGS = (".csv", ".jsonl", ".ndjson", ".parquet")
COLUMNS = ("path", "image_path", "uri", "photo")
"""What the column of the paths may be called; the first that is there counts. A bucket's inventory has `name`."""


class Line(NamedTuple):
    """One photo of a table."""

    path: str
    generation: int | None
    """Where the table tells it, nobody is asked for it."""
    size: int | None


def lines(text: str, billing_project: str = "") -> Iterator[Line]:
    """Yield the photos that a table names.

    Raises:
        NotFound: there is no such table.
        InvalidRequest: it is not what its name says, or has no column of paths.
    """
    with _opened(text, billing_project) as file:
        rows = _of_parquet(file) if text.lower().endswith(".parquet") else _of_text(text, file)
        try:
            for number, row in enumerate(rows, start=1):
                yield _line(text, number, row)
        except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
            raise InvalidRequest(f"Expected a table in UTF-8 at {text}; {error}.") from error
        except Exception as error:
            if type(error).__module__.startswith("pyarrow"):
                raise InvalidRequest(f"Expected a Parquet file at {text}; {error}.") from error
            raise


def _line(text: str, number: int, row: Mapping[str, Any]) -> Line:
    if not isinstance(row, Mapping):
        raise InvalidRequest(f"Expected an object with a path in row {number} of {text}; received {str(row)[:80]!r}.")
    if row.get("bucket") and row.get("name"):  # an inventory report of Storage Insights
        path: Any = f"{SCHEME}{row['bucket']}/{row['name']}"
    else:
        path = next((row[name] for name in COLUMNS if row.get(name)), None)
    if not isinstance(path, str):
        raise InvalidRequest(
            f"Expected a path in row {number} of {text}, in a column {', '.join(COLUMNS)}, or bucket and name; "
            f"received the columns {', '.join(map(str, row))}."
        )
    return Line(path, _integer(row.get("generation")), _integer(row.get("size")))


def _integer(value: Any) -> int | None:
    try:
        return None if value in (None, "") else int(value)
    except (TypeError, ValueError):
        return None


def _of_text(text: str, file: Iterable[bytes]) -> Iterator[Any]:
    decoded = (line.decode("utf-8-sig" if number == 0 else "utf-8") for number, line in enumerate(file))
    if text.lower().endswith(".csv"):
        yield from csv.DictReader(decoded)
        return
    for line in decoded:
        if line.strip():
            yield json.loads(line)


def _of_parquet(file: Any) -> Iterator[Mapping[str, Any]]:
    from pyarrow import parquet

    table = parquet.ParquetFile(file)
    wanted = [name for name in table.schema_arrow.names if name in (*COLUMNS, "bucket", "name", "generation", "size")]
    for batch in table.iter_batches(batch_size=4096, columns=wanted or None):
        yield from batch.to_pylist()


@contextmanager
def _opened(text: str, billing_project: str) -> Iterator[Any]:
    if text.startswith(SCHEME):
        bucket, name = split(text)
        Bucket(bucket, billing_project).stat(name)
        with Bucket(bucket, billing_project).open(name) as file:
            yield file
        return
    try:
        file = Path(text).expanduser().open("rb")
    except OSError as error:
        raise NotFound(f"Expected a table of paths at {text}; received {error.strerror}.") from error
    with file:
        yield file
