"""A run's bundle as it is read: whole and checked, whatever another process does to it meanwhile, and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from classifier.errors import Conflict, NotFound, PointerError
from classifier.registry.bundle import read_bundle, read_bundle_file
from classifier.registry.manifest import MANIFEST_FILE, MODEL_FILE, Manifest
from trainer.run.folder import RunFolder

ATTEMPTS = 5
"""A bundle is replaced within milliseconds, after minutes of work."""


@dataclass(frozen=True)
class ServedBundle:
    """What a run's bundle holds; its files are as its manifest says."""

    folder: Path
    manifest: Manifest
    content: bytes
    """The LiteRT file that is served."""


def open_bundle(run: RunFolder) -> ServedBundle:
    """Read a run's bundle and check every file of it; where another one takes its place meanwhile, read that one.

    A crash may have come while it was replaced: then the former one is read where it lies.

    Raises:
        NotFound: the run has none.
        Corrupt, Refused, InvalidManifest: it is not what its manifest says.
        Conflict: it is replaced again and again.
    """
    for _ in range(ATTEMPTS):
        folder = run.bundle if (run.bundle / MANIFEST_FILE).is_file() else run.old_bundle
        before = _identity(folder)
        if before is None:
            if (run.bundle / MANIFEST_FILE).is_file():
                continue  # put in place between the two looks
            raise NotFound(f"{run.path} has no bundle yet; `trainer export {quote(str(run.path))}` makes it.")
        try:
            bundle = ServedBundle(folder, read_bundle(folder), read_bundle_file(folder, MODEL_FILE))
        except (PointerError, OSError):
            if _identity(folder) == before:
                raise
            continue
        if _identity(folder) == before:
            return bundle
    raise Conflict(f"The bundle of {run.path} is being replaced. Run the same command again.")


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """Return what tells a bundle from another one of the same name; None if there is none."""
    try:
        found = (folder / MANIFEST_FILE).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
