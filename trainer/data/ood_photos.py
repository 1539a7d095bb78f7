"""Photos of something else than the classes: a folder of them, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from classifier.errors import InvalidRequest, NotFound, PointerError
from classifier.registry.manifest import InputSpec
from classifier.settings import available_cpus
from trainer.data.source import PhotoSource
from trainer.data.walking import SUFFIXES
from trainer.run.progress import counting

UNNAMED = "ood"
MOST_PHOTOS = 500
"""Of a larger folder, evenly spread photos are taken."""


def named_folders(given: Sequence[str]) -> dict[str, Path]:
    """Return the folders of ``[NAME=]FOLDER`` by name, ``ood`` where it has none; near and far are told apart so.

    Raises:
        InvalidRequest: two have the same name.
        NotFound: there is no such folder.
    """
    folders: dict[str, Path] = {}
    for text in given:
        name, sign, rest = text.partition("=")
        if not sign or not name or Path(text).is_dir():
            name, rest = UNNAMED, text
        if name in folders:
            raise InvalidRequest(
                f"Expected folders of different names at --ood, such as near=FOLDER and far=FOLDER; {name} is there "
                "twice."
            )
        folders[name] = Path(rest)
        require_folder(folders[name])
    return folders


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
