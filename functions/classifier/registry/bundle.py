"""A bundle: the folder that an export makes and a publication takes, and what its files have to be."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from classifier.errors import Corrupt, NotFound, Refused
from classifier.registry.manifest import MANIFEST_FILE, FileEntry, Manifest
from classifier.storage.protocol import open_source


class Hasher(io.RawIOBase):
    """A write-only file that keeps the size and the SHA-256 of what it receives, and nothing else."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        """Files say this of themselves."""
        return True

    def write(self, data: Any) -> int:
        """Take the next bytes."""
        self._hash.update(data)
        self._size += len(data)
        return len(data)

    def entry(self) -> FileEntry:
        """Return what a manifest says of a file with these bytes."""
        return FileEntry(self._hash.hexdigest(), self._size)


def entry_of(data: bytes) -> FileEntry:
    """Return what a manifest says of a file with these bytes."""
    return FileEntry(hashlib.sha256(data).hexdigest(), len(data))


def entry_of_file(path: Path) -> FileEntry:
    """Return what a manifest says of this file, which is read in chunks.

    Raises:
        NotFound: it cannot be read.
    """
    with open_source(path) as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileEntry(digest.hexdigest(), file.tell())


def difference(name: str, expected: FileEntry, found: FileEntry) -> str | None:
    """Return how a file differs from its entry in the manifest, as a clause; None if it does not."""
    if (expected.bytes, expected.sha256) == (found.bytes, found.sha256):
        return None
    return (
        f"expected {name} to have {expected.bytes} bytes and the SHA-256 {expected.sha256}; "
        f"found {found.bytes} bytes and {found.sha256}"
    )


def read_bundle(folder: Path) -> Manifest:
    """Read a bundle's manifest and check the folder against it: every file as listed, and none besides.

    Raises:
        NotFound: no such bundle.
        InvalidManifest: its manifest cannot be used.
        Corrupt: a listed file is missing or has other bytes.
        Refused: a file that the manifest does not list.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise NotFound(
            f"Expected a bundle with a {MANIFEST_FILE} in {folder}; there is none. `trainer export` makes one."
        )
    with open_source(path) as file:
        manifest = Manifest.from_json(file.read())
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    unlisted = sorted(present - manifest.files.keys() - {MANIFEST_FILE})
    if unlisted:
        raise Refused(
            f"Expected only files that {MANIFEST_FILE} lists in {folder}; found also {', '.join(unlisted)}. "
            "Remove what does not belong there, or export the run again."
        )
    for name in sorted(manifest.files):
        if name not in present:
            raise Corrupt(f"Expected {name} in {folder}, as {MANIFEST_FILE} says; it is not there.")
        problem = difference(name, manifest.files[name], entry_of_file(folder / name))
        if problem:
            raise Corrupt(f"The bundle {folder} is damaged: {problem}. Export the run again.")
    return manifest


def read_bundle_file(folder: Path, name: str) -> bytes:
    """Return the bytes of one of a bundle's files.

    Raises:
        NotFound: it cannot be read.
    """
    with open_source(folder / name) as file:
        return file.read()
