"""Which photos there are: patterns, folders and tables of paths, in buckets or here, one at a time.

Nothing here holds a listing: a bucket's comes by pages, a folder's by the entries of its folders, a table's by rows.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from batch.buckets import SCHEME, Bucket, Object, split
from batch.globs import is_pattern, literal_prefix, matcher
from batch.tables import ENDINGS, Line, lines
from classifier.errors import InvalidRequest, NotFound

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".heif", ".bmp", ".tif", ".tiff", ".gif")
"""How photos in a folder are known."""
ASKED_AT_ONCE = 32
"""Photos of a table that names no generation, about which their buckets are asked."""


class Photo(NamedTuple):
    """One photo as it was listed."""

    path: str
    """``gs://bucket/name`` or the absolute path of a file; bytes of a file's name that are no text are escaped."""
    generation: int
    """Of an object, its generation; of a file, when it was modified, in nanoseconds since 1970."""
    size: int
    """Bytes; -1 where nobody told."""
    file: str | None = None
    """What opens the file, where that is not its path."""


@dataclass
class Listing:
    """The photos that a text names, with what was passed over, which is known when all were listed."""

    photos: Iterator[Photo]
    covers: Callable[[str], bool]
    """Whether a photo of this path would be among them, if it were there."""
    folders: int = 0
    """Objects that stand for folders: their names end with a slash."""
    others: int = 0
    """Files of a folder whose names are not those of photos."""
    gone: list[str] = field(default_factory=list)
    """Paths of a table that are not there, the first of them."""
    missing: int = 0


def listing(text: str, billing_project: str = "") -> Listing:
    """Return the photos that a text names.

    Args:
        text: a pattern (``gs://bucket/**/*.jpg``), a folder, one photo, or a table of paths that ends in .csv, .jsonl,
            .ndjson or .parquet; each in a bucket or here.
        billing_project: see `Bucket`.

    Raises:
        InvalidRequest, NotFound, InvalidSetting: it names nothing that can be listed.
    """
    if not is_pattern(text) and text.lower().endswith(ENDINGS):
        return _of_table(text, billing_project)
    if text.startswith(SCHEME):
        return _of_bucket(text, billing_project)
    return _of_disk(text)


def read(photo: Photo, billing_project: str = "") -> bytes:
    """Return a photo's bytes.

    Raises:
        NotFound: it is gone, or was changed since it was listed.
        Unavailable: its bucket cannot be reached, or the file cannot be read.
    """
    if photo.path.startswith(SCHEME):
        bucket, name = split(photo.path)
        return Bucket(bucket, billing_project).read(name, photo.generation)
    try:
        with Path(photo.file or photo.path).open("rb") as file:
            if os.fstat(file.fileno()).st_mtime_ns == photo.generation:
                return file.read()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise NotFound(f"Expected a file that can be read at {photo.path}; received {error.strerror}.") from error
    raise NotFound(f"Expected {photo.path} as it was listed; it is gone or was changed.")


def recorded(path: str) -> str:
    """Return a path as it is written into rows: bytes that are no text are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def absolute(path: str) -> str:
    """Return where a file is, whichever folder one is in; links are not followed."""
    return os.path.normpath(Path(path).expanduser().absolute())


def is_photo(name: str) -> bool:
    """Say whether a file of a folder is taken for a photo, by its name."""
    return name.lower().endswith(SUFFIXES) and not name.rpartition("/")[2].startswith(".")


def _of_bucket(text: str, project: str) -> Listing:
    bucket_name, name = split(text)
    bucket = Bucket(bucket_name, project)
    if is_pattern(name):
        matches = matcher(name)
        prefix = literal_prefix(name)
        found = Listing(iter(()), lambda path: path.startswith(f"{SCHEME}{bucket_name}/") and matches(split(path)[1]))
        found.photos = _objects(bucket, bucket.list(prefix), found, matches)
        return found
    if name and not name.endswith("/"):
        try:
            one = bucket.stat(name)
            return Listing(iter([_photo(bucket, one)]), lambda path: path == text)
        except NotFound:
            name += "/"
    found = Listing(iter(()), lambda path: path.startswith(f"{SCHEME}{bucket_name}/{name}") and is_photo(path))
    found.photos = _objects(bucket, bucket.list(name), found, None)
    return found


def _objects(
    bucket: Bucket, objects: Iterator[Object], found: Listing, matches: Callable[[str], bool] | None
) -> Iterator[Photo]:
    for each in objects:
        if matches is not None and not matches(each.name):
            continue
        if each.name.endswith("/"):
            found.folders += 1
        elif matches is None and not is_photo(each.name):
            found.others += 1
        else:
            yield _photo(bucket, each)


def _photo(bucket: Bucket, found: Object) -> Photo:
    return Photo(f"{SCHEME}{bucket.name}/{found.name}", found.generation, found.size)


def _of_disk(text: str) -> Listing:
    path = absolute(text)
    if Path(path).is_file():
        return Listing(iter([_file(path)]), lambda other: other == recorded(path))
    if Path(path).is_dir():
        root, matches = path, None
        start = path.rstrip("/") + "/"
        covers: Callable[[str], bool] = lambda other: other.startswith(start) and is_photo(other)  # noqa: E731
    elif is_pattern(text):
        matches = matcher(path)
        covers = matches
        root = literal_prefix(path).rpartition("/")[0] or "/"
    else:
        raise NotFound(f"Expected photos at {text}: a folder, a pattern, or a table of paths; nothing is there.")
    found = Listing(iter(()), covers)
    found.photos = _files(root, found, matches)
    return found


def _files(root: str, found: Listing, matches: Callable[[str], bool] | None) -> Iterator[Photo]:
    def fail(error: OSError) -> None:
        if not (isinstance(error, FileNotFoundError) and error.filename == root):
            raise InvalidRequest(f"Expected folders that can be listed; {error.filename}: {error.strerror}.") from error

    for parent, _, names in os.walk(root, onerror=fail):
        for name in names:
            path = f"{parent.rstrip('/')}/{name}"
            if matches is None and not is_photo(name):
                found.others += 1
            elif matches is None or matches(path):
                photo = _file_if_there(path)
                if photo is not None:
                    yield photo


def _file_if_there(path: str) -> Photo | None:
    try:
        return _file(path)
    except FileNotFoundError:  # removed since, or a link that leads nowhere: there is no photo
        return None


def _file(path: str) -> Photo:
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(path)
    shown = recorded(path)
    return Photo(shown, status.st_mtime_ns, status.st_size, None if shown == path else path)


def _of_table(text: str, project: str) -> Listing:
    found = Listing(iter(()), lambda _: False)
    found.photos = _of_lines(lines(text, project), text, found, project)
    return found


def _of_lines(rows: Iterator[Line], text: str, found: Listing, project: str) -> Iterator[Photo]:
    """Look after the photos that a table names, several at a time: it may not tell their generations."""
    base = text.rpartition("/")[0] if text.startswith(SCHEME) else absolute(text).rpartition("/")[0]

    def look(line: Line) -> Photo | str:
        path = line.path if line.path.startswith((SCHEME, "/")) else f"{base}/{line.path}"
        if path.startswith(SCHEME):
            bucket, name = split(path)
            if line.generation is not None:
                return Photo(path, line.generation, -1 if line.size is None else line.size)
            try:
                return _photo(Bucket(bucket, project), Bucket(bucket, project).stat(name))
            except NotFound:
                return path
        try:
            return _file(absolute(path))
        except OSError:
            return path

    with ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="stat") as pool:
        while some := list(islice(rows, 8 * ASKED_AT_ONCE)):
            for photo in pool.map(look, some):
                if isinstance(photo, Photo):
                    yield photo
                    continue
                found.missing += 1
                if len(found.gone) < 5:
                    found.gone.append(photo)
