"""Two labellings side by side, photo by photo, on the disk and not in memory."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from batch.output import Output

COLUMNS = ("path", "generation", "sha256", "label", "confidence", "status", "score", "top_k")
SCHEMA = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + "".join(
    f"CREATE TABLE {side} (path TEXT PRIMARY KEY, generation INTEGER, sha256 TEXT, label TEXT, confidence REAL, "
    "status TEXT, score REAL, top_k TEXT) WITHOUT ROWID;"
    for side in ("before", "after")
)
KEEP_THE_NEWEST = (
    "INSERT INTO {side} VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET generation = "
    "excluded.generation, sha256 = excluded.sha256, label = excluded.label, confidence = excluded.confidence, "
    "status = excluded.status, score = excluded.score, top_k = excluded.top_k "
    "WHERE excluded.generation > {side}.generation"
)


class Answer(NamedTuple):
    """What one version says of a photo."""

    path: str
    generation: int
    sha256: str | None
    label: str | None
    """None where the photo could not be read."""
    confidence: float | None
    status: str
    score: float | None
    top_k: dict[str, float]
    """Confidences by label."""


class Pairs:
    """What two versions say of the newest bytes that each has seen of a photo. For one thread."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pointer-pairs-")
        self._database = sqlite3.connect(Path(self._folder.name) / "pairs.db", isolation_level=None)
        self._database.executescript(SCHEMA)

    def __enter__(self) -> Pairs:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        self._folder.cleanup()

    def add(self, side: str, output: Output, version: str) -> None:
        """Take the rows of a version as what is "before", or "after"."""
        self._database.execute("BEGIN")
        self._database.executemany(KEEP_THE_NEWEST.format(side=side), _flat(output.rows(version, COLUMNS)))
        self._database.execute("COMMIT")

    def count(self, side: str) -> int:
        """Return of how many photos there is an answer."""
        return int(self._database.execute(f"SELECT COUNT(*) FROM {side}").fetchone()[0])  # noqa: S608

    def both(self) -> Iterator[tuple[Answer, Answer]]:
        """Yield what both say of the same photos, by path, whether of the same bytes or of others."""
        query = "SELECT a.*, b.* FROM after AS b JOIN before AS a ON a.path = b.path ORDER BY b.path"
        for row in self._database.execute(query):
            yield _answer(row[:8]), _answer(row[8:])

    def after(self) -> Iterator[tuple[Answer | None, Answer]]:
        """Yield what is said after of all photos, with what was before of those that have it."""
        query = "SELECT a.*, b.* FROM after AS b LEFT JOIN before AS a ON a.path = b.path ORDER BY b.path"
        for row in self._database.execute(query):
            yield _answer(row[:8]) if row[0] is not None else None, _answer(row[8:])


def _flat(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    for *values, top_k in rows:
        yield *values, json.dumps({each["label"]: each["confidence"] for each in top_k or ()})


def _answer(row: tuple[Any, ...]) -> Answer:
    return Answer._make((*row[:7], json.loads(row[7])))
