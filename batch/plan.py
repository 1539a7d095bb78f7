"""What is left to do: the photos that are listed and not labelled yet, compared on the disk and not in memory.

SQLite keeps both sides in a file that is thrown away afterwards, so that a million names take no more memory than a
thousand.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from batch.listing import Photo

SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE listed (path TEXT PRIMARY KEY, generation INTEGER, size INTEGER, file BLOB, place INTEGER) WITHOUT ROWID;
CREATE TABLE labelled (path TEXT, generation INTEGER, PRIMARY KEY (path, generation)) WITHOUT ROWID;
"""
CHOSEN = "(SELECT * FROM listed ORDER BY place, path LIMIT {limit})"
NOT_LABELLED = """SELECT path, generation, size, file FROM {chosen} AS l
WHERE NOT EXISTS (SELECT 1 FROM labelled AS d WHERE d.path = l.path AND d.generation = l.generation)
ORDER BY place, path"""


class Plan:
    """Compares a listing with a labelling. For one thread.

    Photos are taken in the order of a hash of their paths, so that any beginning of it is a random sample of all.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pointer-plan-")
        self._database = sqlite3.connect(Path(self._folder.name) / "plan.db", isolation_level=None)
        self._database.executescript(SCHEMA)
        self._limit = -1

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        self._folder.cleanup()

    def list(self, photos: Iterable[Photo]) -> int:
        """Take the photos that there are; returns how many were named more than once."""
        rows = ((*photo[:3], photo.file and photo.file.encode("utf-8", "surrogateescape"), place(photo.path))
                for photo in photos)  # fmt: skip
        before = self._count("listed")
        received = self._insert("INSERT OR IGNORE INTO listed VALUES (?, ?, ?, ?, ?)", rows)
        return received - (self._count("listed") - before)

    def labelled(self, rows: Iterable[tuple[str, int]]) -> None:
        """Take path and generation of the photos that are labelled already."""
        self._insert("INSERT OR IGNORE INTO labelled VALUES (?, ?)", rows)

    def sample(self, count: int) -> None:
        """Leave all but so many of the listed photos for another time; they are the same each time."""
        self._limit = count

    @property
    def listed(self) -> int:
        """How many photos there are, or those of the sample."""
        found = self._count("listed")
        return found if self._limit < 0 else min(found, self._limit)

    def todo(self) -> Iterator[Photo]:
        """Yield the photos that are not labelled."""
        for path, generation, size, file in self._ask(self._todo()):
            yield Photo(path, generation, size, file and file.decode("utf-8", "surrogateescape"))

    def count_todo(self) -> int:
        """Return how many `todo` yields."""
        return int(self._one(f"SELECT COUNT(*) FROM ({self._todo()})"))  # noqa: S608 - a query of our own

    def changed(self) -> Iterator[str]:
        """Yield the paths that are labelled, and that have another generation now, and no label of that one yet."""
        query = """SELECT path FROM listed AS l
        WHERE EXISTS (SELECT 1 FROM labelled AS d WHERE d.path = l.path)
        AND NOT EXISTS (SELECT 1 FROM labelled AS d WHERE d.path = l.path AND d.generation = l.generation)"""
        return (path for (path,) in self._ask(query))

    def deleted(self, covers: Callable[[str], bool]) -> Iterator[str]:
        """Yield the paths that are labelled and are not there any more, of those that a listing covers."""
        query = "SELECT DISTINCT path FROM labelled WHERE path NOT IN (SELECT path FROM listed)"
        return (path for (path,) in self._ask(query) if covers(path))

    def has(self, path: str, generation: int) -> bool:
        """Say whether a photo is among those that are listed, or in the sample, with this generation."""
        if self._limit < 0:
            query, values = "SELECT 1 FROM listed WHERE path = ? AND generation = ?", (path, generation)
            return self._database.execute(query, values).fetchone() is not None
        if not hasattr(self, "_sampled"):
            chosen = CHOSEN.format(limit=self._limit)
            self._sampled = set(self._ask(f"SELECT path, generation FROM {chosen}"))  # noqa: S608 - as above
        return (path, generation) in self._sampled

    def _todo(self) -> str:
        return NOT_LABELLED.format(chosen="listed" if self._limit < 0 else CHOSEN.format(limit=self._limit))

    def _insert(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> int:
        count, remaining = 0, iter(rows)
        while some := list(islice(remaining, 2000)):
            self._database.execute("BEGIN")
            self._database.executemany(statement, some)
            self._database.execute("COMMIT")
            count += len(some)
        return count

    def _ask(self, query: str) -> Iterator[tuple[Any, ...]]:
        return iter(self._database.execute(query))

    def _one(self, query: str) -> Any:
        return self._database.execute(query).fetchone()[0]

    def _count(self, table: str) -> int:
        return int(self._one(f"SELECT COUNT(*) FROM {table}"))  # noqa: S608 - a name of our own


def place(path: str) -> int:
    """Return where a photo is in the order of all: as good as random, and the same each time."""
    digest = hashlib.blake2b(path.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
