"""Named objects with generations: `ObjectStore`, the protocol that every store keeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Protocol

from classifier.errors import NotFound

MUST_NOT_EXIST = 0
"""The generation of an object that does not exist; as a write's `if_generation`: create only."""


@dataclass(frozen=True)
class StoredObject:
    """One line of a listing."""

    name: str
    size: int
    """Bytes."""
    generation: int
    crc32c: str | None = field(default=None, compare=False)
    """Of its bytes, as `transfer.checksum` writes it; None where the store keeps none: a folder."""


@dataclass(frozen=True)
class Content:
    """An object's bytes and the generation that they are of."""

    data: bytes
    generation: int


class ObjectStore(Protocol):
    """Objects under names such as ``food/versions/v7/manifest.json``; every write gives a new generation.

    Every method raises `InvalidRequest` for an unsafe name (empty, absolute, with "..", a backslash or a
    control character) and `Unavailable` when the store cannot be reached.
    """

    @property
    def url(self) -> str:
        """What the user typed, for messages."""

    def read(self, name: str) -> Content:
        """Return an object's bytes and generation, which belong together.

        Raises:
            NotFound: no such object.
        """

    def read_if_changed(self, name: str, generation: int) -> Content | None:
        """Return the object, or None if it still has this generation; then nothing is transferred.

        Raises:
            NotFound: no such object.
        """

    def write(
        self,
        name: str,
        data: bytes | Path,
        *,
        if_generation: int | None = None,
        content_type: str | None = None,
    ) -> int:
        """Write bytes, or stream a file, and return the new generation: all of it or, on any error, nothing.

        Args:
            name: the object's name.
            data: the bytes, or the file that has them.
            if_generation: write only if the object has this generation; `MUST_NOT_EXIST` creates only.
            content_type: a hint for stores that keep one.

        Raises:
            PreconditionFailed: the object has another generation. Where an answer got lost and the write was
                repeated, it may be the caller's own.
            NotFound: `data` is a file that cannot be read.
        """

    def delete(self, name: str) -> None:
        """Remove an object for good, whichever generation it has; one that is not there already is gone."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose names start with this, sorted by name."""

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of the folders directly under a prefix, sorted: "v1" for ``food/versions/v1/model.keras``.

        Objects are not looked at, however many there are in them. A folder on a disk may have none.

        Args:
            prefix: "" or a folder's name with a slash at its end.

        Raises:
            NotFound: the store is a folder that does not exist.
        """

    def download(self, name: str, file: BinaryIO) -> int:
        """Stream an object into an open file, in chunks, and return its generation.

        Raises:
            NotFound: no such object.
        """


@contextmanager
def open_source(path: Path) -> Iterator[BufferedReader]:
    """Open a file that is to be written to a store.

    Raises:
        NotFound: it cannot be read.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise NotFound(f"Expected a file that can be read at {path}; received {error.strerror}.") from error
    with file:
        yield file
