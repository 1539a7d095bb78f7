"""A named evaluation set: labelled photos in a folder, a table or a bucket, on which two versions are compared."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from classifier.errors import InvalidRequest, NotFound
from classifier.labels import trimmed
from classifier.storage.names import bucket_of
from classifier.storage.opening import open_store

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".heif", ".bmp", ".tif", ".tiff", ".gif")
COLUMNS = ("image_path", "label")


class LabelledPhoto(NamedTuple):
    """A photo whose label is known."""

    name: str
    label: str
    read: Callable[[], bytes]


def open_evaluation_set(text: str) -> list[LabelledPhoto]:
    """Return the photos of a folder with a folder per label, of a CSV, or of ``gs://bucket/prefix`` with such folders.

    Raises:
        NotFound: there is no such set, or no photo in it.
        InvalidRequest: the table lacks a column.
    """
    if bucket_of(text):
        photos = _of_bucket(text)
    elif Path(text).is_dir():
        photos = _of_folder(Path(text))
    elif Path(text).is_file():
        photos = _of_table(Path(text))
    else:
        raise NotFound(f"Expected --eval-set to be a folder, a CSV or gs://bucket/prefix; {text} is not there.")
    if not photos:
        raise NotFound(f"Expected photos in folders named as their labels in {text}; found none.")
    return photos


def _of_folder(folder: Path) -> list[LabelledPhoto]:
    files = sorted(path for path in folder.glob("*/**/*") if _is_photo(path.name) and path.is_file())
    return [
        LabelledPhoto(path.relative_to(folder).as_posix(), trimmed(path.relative_to(folder).parts[0]), path.read_bytes)
        for path in files
    ]


def _of_bucket(url: str) -> list[LabelledPhoto]:
    store = open_store(url)

    def photo(name: str) -> LabelledPhoto:
        return LabelledPhoto(name, trimmed(PurePosixPath(name).parts[0]), lambda: store.read(name).data)

    return [photo(each.name) for each in store.list() if "/" in each.name and _is_photo(each.name)]


def _of_table(path: Path) -> list[LabelledPhoto]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"Expected {path} to be a table in UTF-8; {error}.") from error
    rows = csv.DictReader(io.StringIO(text))
    missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise InvalidRequest(
            f"Expected the columns {' and '.join(COLUMNS)} in {path}; received {', '.join(rows.fieldnames or ())}."
        )
    # The columns that a training takes may tell which rows are not for measuring.
    chosen = [row for row in rows if row.get("split") in (None, "", "test")]
    return [
        LabelledPhoto(row["image_path"], trimmed(row["label"]), (path.parent / row["image_path"]).read_bytes)
        for row in chosen
    ]


def _is_photo(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not PurePosixPath(name).name.startswith(".")
