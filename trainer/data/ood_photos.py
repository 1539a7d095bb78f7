"""Photos of something else than the classes: a folder of them, read and checked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from classifier.errors import InvalidRequest, NotFound, PointerError
from classifier.registry.manifest import InputSpec
from classifier.settings import available_cpus
from trainer.data.layouts import SUFFIXES
from trainer.data.source import PhotoSource
from trainer.run.progress import counting

MOST_PHOTOS = 500
"""Of a larger folder, evenly spread photos are taken."""


def require_folder(folder: Path) -> None:
    """Find out that there is no folder of OOD photos before hours of work.

    Raises:
        NotFound: there is none.
    """
    if not folder.is_dir():
        raise NotFound(f"Expected a folder of photos at --ood {folder}; there is none.")


def read_ood_photos(folder: Path, spec: InputSpec, console: Console) -> PhotoSource:
    """Return the photos below a folder; those that cannot be read are left out.

    Raises:
        NotFound: there is no such folder.
        InvalidRequest: none of its photos can be read.
    """
    require_folder(folder)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    paths = [
        paths[int(place)] for place in np.unique(np.linspace(0, len(paths) - 1, min(MOST_PHOTOS, len(paths))).round())
    ]
    source = PhotoSource(paths, spec)
    with counting(console, "reading OOD photos", len(paths)) as step:
        rows = readable_rows(source, np.arange(len(paths)), step)
    if not len(rows):
        raise InvalidRequest(f"Expected photos below --ood {folder}; found none that can be read.")
    return source.select(rows)


def readable_rows(source: PhotoSource, rows: NDArray[np.intp], on_photo: Any = lambda: None) -> NDArray[np.intp]:
    """Return those of the rows whose photos can be decoded."""

    def look(row: int) -> bool:
        try:
            source.array(row)
        except (PointerError, OSError):
            return False
        finally:
            on_photo()
        return True

    with ThreadPoolExecutor(available_cpus()) as pool:
        good: NDArray[np.intp] = rows[list(pool.map(look, rows.tolist()))] if len(rows) else rows
    return good
