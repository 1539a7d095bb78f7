"""Fills a bucket, or a folder, with a data set and its splits: what `trainer upload` does.

    <there>/<path>        each photo under the path that it has in the data set
    <there>/photos.csv    image_path, label, split, sha256: written last, and read by --dataset csv

What is there is told by its checksum. So an upload that was killed goes on with what is missing, and there is no table
before every photo that it names is there.
"""

from __future__ import annotations

import hashlib
import io
import mimetypes
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import pandas as pd
from rich.console import Console

from classifier.errors import Conflict, InvalidRequest, NotFound, PreconditionFailed, Refused
from classifier.storage.names import bucket_of, check_name
from classifier.storage.opening import open_store
from classifier.storage.protocol import MUST_NOT_EXIST, ObjectStore, StoredObject
from classifier.storage.transfer import checksum
from trainer.data.checks import CheckedPhotos
from trainer.data.listing import COLUMNS, TABLE
from trainer.run.progress import counting

WORKERS = 8
"""Photos under way at once; the client keeps ten connections."""
TABLE_COLUMNS = [*COLUMNS, "sha256"]
SHOWN = 3
"""How many photos a message names."""
TYPES = mimetypes.MimeTypes()  # of Python alone: a machine's own tables differ

Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Uploaded:
    """What an upload did, or would do."""

    new: int
    replaced: int
    """Photos that were there with other bytes."""
    unchanged: int
    relabelled: int
    """Photos that had another label in the table."""
    moved: int
    """Photos that had another split in the table, and have the data set's now."""
    kept_splits: int
    """Photos that had another split in the table, and keep it."""
    others: int
    """Photos of the table that the data set does not have: they stay in it, unless all is replaced."""
    table_written: bool
    counts: dict[str, int]
    """Photos of the table by split."""


class _Item(NamedTuple):
    """A photo to be sent, and the generation of what it takes the place of."""

    path: Path
    name: str
    sha256: str
    generation: int


def upload(
    photos: CheckedPhotos, url: str, console: Console, *, replace: bool = False, dry_run: bool = False
) -> Uploaded:
    """Put a data set where ``--dataset csv --data-dir URL`` finds it; what is there with the same bytes is kept.

    Without `replace` nothing that is there changes: photos and their rows are added, a photo of the table keeps its
    split (a test photo of yesterday is none to train on today), and what the data set no longer has stays. With it
    the table becomes that of the data set. Objects are never removed.

    Args:
        photos: what was checked.
        url: ``gs://bucket/prefix`` or a folder.
        console: where progress is shown.
        replace: take the place of photos with other bytes, and of the table's labels, splits and rows.
        dry_run: look, and write nothing.

    Raises:
        InvalidRequest: a photo's path cannot be an object's name.
        InvalidSetting: the address cannot be used.
        Refused: something there would change without `replace`; or a photo has changed since it was checked, or there
            is a table of somebody else.
        Conflict: another upload was faster.
        Unavailable: the store cannot be reached.
    """
    frame = photos.frame.assign(path=photos.source.paths)
    _require_names(frame["image_path"])
    store = open_store(url)
    there = {item.name: item for item in store.list()}
    before, generation = _read_table(store)
    known = [row for row in frame.itertuples() if row.image_path in there]
    same = _compare(store, [(row.path, there[row.image_path]) for row in known], console)
    changed = [str(row.image_path) for row, equal in zip(known, same, strict=True) if not equal]
    after, done = _merge(before, frame[TABLE_COLUMNS], replace=replace)
    if not replace:
        _require_unchanged(url, changed, _relabelled(before, frame))
    to_replace = set(changed)
    items = [
        _Item(row.path, row.image_path, row.sha256, _generation(there, row.image_path))
        for row in frame.itertuples()
        if row.image_path not in there or row.image_path in to_replace
    ]
    content = after.to_csv(index=False, lineterminator="\n").encode()
    table_written = generation == MUST_NOT_EXIST or content != store.read(TABLE).data
    if not dry_run:
        _send(store, items, console)
        if table_written:
            _write_table(store, content, generation)
    return Uploaded(
        new=len(items) - len(changed),
        replaced=len(changed),
        unchanged=len(known) - len(changed),
        table_written=table_written,
        counts={str(split): int(count) for split, count in after["split"].value_counts().items()},
        **done,
    )


def expect_apart(source: str, target: str) -> None:
    """Expect an upload to go elsewhere than into the data set itself.

    Raises:
        InvalidRequest: it does not.
        InvalidSetting: an address cannot be used.
    """
    from_bucket, to_bucket = bucket_of(source), bucket_of(target)
    if from_bucket and to_bucket:
        inside = f"{'/'.join(to_bucket)}/".startswith(f"{'/'.join(part for part in from_bucket if part)}/")
    elif not from_bucket and not to_bucket:
        inside = Path(target).expanduser().resolve().is_relative_to(Path(source).resolve())
    else:
        inside = False
    if inside:
        raise InvalidRequest(f"Expected a place outside the data set {source}; received {target}.")


def _require_names(names: Iterable[str]) -> None:
    for name in names:
        try:
            check_name(name)
            if name.split("/")[0] == TABLE:
                raise InvalidRequest(f"{TABLE} is the name of the table.")
        except InvalidRequest as error:
            raise InvalidRequest(f"The photo {name!r} cannot be an object: {error} Rename it.") from error


def _read_table(store: ObjectStore) -> tuple[pd.DataFrame, int]:
    """Return the table that is there and its generation; an empty one where there is none.

    Raises:
        Refused: an upload did not write it.
    """
    try:
        content = store.read(TABLE)
    except NotFound:
        return pd.DataFrame(columns=TABLE_COLUMNS, dtype=object), MUST_NOT_EXIST
    try:
        table = pd.read_csv(io.BytesIO(content.data), dtype=str, keep_default_na=False)
    except ValueError:
        table = pd.DataFrame()
    if list(table.columns) != TABLE_COLUMNS or table["image_path"].duplicated().any():
        raise Refused(
            f"Expected {TABLE} in {store.url} to be that of an upload, with {', '.join(TABLE_COLUMNS)}; it is another "
            "one. Name another folder."
        )
    return table, content.generation


def _compare(store: ObjectStore, pairs: list[tuple[Path, StoredObject]], console: Console) -> list[bool]:
    """Return of each photo whether its object has the same bytes."""

    def look(pair: tuple[Path, StoredObject]) -> bool:
        path, item = pair
        if path.stat().st_size != item.size:
            return False
        data = path.read_bytes()
        return checksum(data) == item.crc32c if item.crc32c else store.read(item.name).data == data

    return _in_parallel(look, pairs, console, f"comparing with {store.url}")


def _send(store: ObjectStore, items: list[_Item], console: Console) -> None:
    def send(item: _Item) -> None:
        data = item.path.read_bytes()
        if hashlib.sha256(data).hexdigest() != item.sha256:
            raise Refused(f"{item.path} has changed since it was checked. Run the same command again.")
        kind = TYPES.guess_type(item.name)[0]
        try:
            store.write(item.name, data, if_generation=item.generation, content_type=kind)
        except PreconditionFailed as error:
            # It may be this upload's own: an answer got lost, and the write was repeated.
            if store.read(item.name).data != data:
                raise _somebody_else(store, item.name) from error

    _in_parallel(send, items, console, f"uploading to {store.url}")


def _in_parallel(work: Callable[[Item], Found], items: list[Item], console: Console, what: str) -> list[Found]:
    with counting(console, what, len(items)) as step, ThreadPoolExecutor(WORKERS) as pool:

        def one(item: Item) -> Found:
            found = work(item)
            step()
            return found

        under_way = [pool.submit(one, item) for item in items]
        try:
            return [each.result() for each in under_way]
        finally:
            pool.shutdown(cancel_futures=True)


def _write_table(store: ObjectStore, content: bytes, generation: int) -> None:
    try:
        store.write(TABLE, content, if_generation=generation, content_type="text/csv")
    except PreconditionFailed as error:
        if store.read(TABLE).data != content:
            raise _somebody_else(store, TABLE) from error


def _somebody_else(store: ObjectStore, name: str) -> Conflict:
    return Conflict(f"Another upload wrote {name} in {store.url} meanwhile. Run the same command again.")


def _merge(before: pd.DataFrame, frame: pd.DataFrame, *, replace: bool) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the table that is to be there, sorted by path, and what is different in it."""
    old = before.set_index("image_path")
    here = frame["image_path"].isin(old.index)
    earlier = frame["image_path"].map(old["split"])
    moved = here & (earlier != frame["split"])
    others = before[~before["image_path"].isin(frame["image_path"])]
    done = {
        "relabelled": len(_relabelled(before, frame)),
        "moved": int(moved.sum()) if replace else 0,
        "kept_splits": 0 if replace else int(moved.sum()),
        "others": len(others),
    }
    if not replace:
        frame = pd.concat([frame.assign(split=frame["split"].where(~here, earlier)), others])
    return frame.sort_values("image_path", kind="stable").reset_index(drop=True), done


def _relabelled(before: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    labels = dict(zip(before["image_path"], before["label"], strict=True))
    pairs = zip(frame["image_path"], frame["label"], strict=True)
    return [path for path, label in pairs if labels.get(path, label) != label]


def _require_unchanged(url: str, changed: list[str], relabelled: list[str]) -> None:
    parts = [
        f"{len(paths)} with {what} ({', '.join(paths[:SHOWN])}{', ...' if len(paths) > SHOWN else ''})"
        for what, paths in (("other bytes", changed), ("another label", relabelled))
        if paths
    ]
    if parts:
        raise Refused(
            f"{url} has photos of the same names: {' and '.join(parts)}. Nothing was uploaded; --replace puts this "
            "data set in their place, another folder keeps both."
        )


def _generation(there: dict[str, StoredObject], name: str) -> int:
    return there[name].generation if name in there else MUST_NOT_EXIST
