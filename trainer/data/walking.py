"""The files below a data folder, without what systems and desktops leave there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

JPEG_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif"}
SUFFIXES = JPEG_SUFFIXES | {".png", ".webp", ".gif", ".avif", ".heic", ".heif", ".bmp", ".tif", ".tiff"}
NOT_OF_THE_DATA = {"thumbs.db", "desktop.ini"}
"""Files that desktops leave behind, like those with a leading dot."""
SYSTEM_FOLDERS = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information"}
"""Folders of macOS, Synology, Windows and Linux, in lower case: thumbnails in them would be photos of the class."""


def photo_files(folder: Path) -> Iterator[PurePosixPath]:
    """Yield every file below a folder, relative to it, links followed, without what desktops leave behind; in order."""
    for base, folders, names in os.walk(folder, followlinks=True):
        here = Path(base)
        relative = PurePosixPath(here.relative_to(folder))
        folders[:] = sorted(
            name for name in folders if name.lower() not in SYSTEM_FOLDERS and not _leads_back(here / name)
        )
        for name in sorted(names):
            if not name.startswith(".") and name.lower() not in NOT_OF_THE_DATA:
                yield relative / name


def _leads_back(folder: Path) -> bool:
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def passed_over(root: Path) -> list[str]:
    """Tell of a system's folders among the classes."""
    found: set[str] = set()
    for _, folders, _ in os.walk(root):
        found |= {name for name in folders if name.lower() in SYSTEM_FOLDERS}
    return [f"passed over: {', '.join(sorted(found))}"] if found else []


def is_of_the_data(folder: str) -> bool:
    """Return whether a folder of this name is none of a system's, and not hidden."""
    return not folder.startswith(".") and folder.lower() not in SYSTEM_FOLDERS


def files_beside(root: Path, listed: Iterable[str]) -> Iterator[PurePosixPath]:
    """Yield the files in the folders that the listed photos are in; all paths are relative to the root."""
    for parent in sorted({PurePosixPath(path).parent for path in listed}):
        if (root / parent).is_dir():
            yield from (parent / path.name for path in (root / parent).iterdir() if not path.name.startswith("."))


def count_unlisted(found: Iterable[PurePosixPath], listed: Iterable[str]) -> int:
    """Return how many of the photos that were found are not listed."""
    # A photo whose ending is listed in other letters is reported as missing, with its name.
    names = {str(PurePosixPath(path)).lower() for path in listed}
    return sum(path.suffix.lower() in SUFFIXES and str(path).lower() not in names for path in found)
