"""The layouts of data sets: each function lists the photos of one, and what it had to leave out.

Only names and tables are read; paths are relative to the data folder, with forward slashes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from classifier.errors import InvalidRequest, NotFound
from trainer.run.config import DataConfig

JPEG_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif"}
SUFFIXES = JPEG_SUFFIXES | {".png", ".webp", ".gif", ".avif", ".heic", ".heif", ".bmp", ".tif", ".tiff"}
NOT_OF_THE_DATA = {"thumbs.db", "desktop.ini"}
"""Files that desktops leave behind, like those with a leading dot."""
MACOSX = "__MACOSX"
SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""How folders and tables call the splits, in lower case."""
COLUMNS = ["image_path", "label", "split"]
Row = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class Listing:
    """What a data set holds by its names and tables."""

    frame: pd.DataFrame
    """``image_path``, ``label``, ``split``; ``split`` may be empty (None) where the layout has none."""
    left_out: pd.DataFrame
    """``image_path``, ``label``, ``split``, ``reason``: files that no photo of a class can be made of."""
    not_listed: int = 0
    """How many photos lie where the listed ones do, but are in no table."""


def food_101(config: DataConfig) -> Listing:
    """List ``images/<class>/<id>.jpg`` by ``meta/train.txt`` and ``meta/test.txt``."""
    root = Path(config.data_dir)
    rows = []
    for split in ("train", "test"):
        table = root / "meta" / f"{split}.txt"
        if not table.is_file():
            raise NotFound(f"Expected Food-101's split table {table}; it is missing.")
        for number, line in enumerate(_read_text(table).splitlines(), start=1):
            name = line.strip()
            if not name:
                continue
            if name.count("/") != 1:
                raise InvalidRequest(f"{table}:{number}: expected a line like apple_pie/1005649; received {name!r}.")
            rows.append((f"images/{_with_ending(name)}", name.split("/")[0], split))
    images = (PurePosixPath(path.relative_to(root)) for path in _files(root / "images"))
    return _listing(rows, not_listed=_count_unlisted(images, rows))


def dog_breed(config: DataConfig) -> Listing:
    """List ``train/<id>.jpg`` by ``labels.csv`` (id, breed)."""
    table = _read_table(Path(config.data_dir) / "labels.csv", ["id", "breed"])
    rows = [
        (f"train/{_with_ending(name)}", label, None) for name, label in zip(table["id"], table["breed"], strict=True)
    ]
    return _listing(rows, not_listed=_count_unlisted(_beside(Path(config.data_dir), rows), rows))


def folder(config: DataConfig) -> Listing:
    """List ``<class>/<photo>``, or ``train/<class>/<photo>`` with ``test`` and ``validation`` beside it."""
    root = Path(config.data_dir)
    splits = _split_folders(root)
    rows: list[Row] = []
    left_out: list[tuple[str, str | None, str | None, str]] = []
    for path in _files(root):
        name = path.relative_to(root)
        split = splits.get(name.parts[0])
        folders = name.parts[1 if split else 0 : -1]
        row = (name.as_posix(), folders[0] if folders else None, split)
        ending = path.suffix.lower()
        if any(part.startswith(".") for part in name.parts[:-1]):
            if ending in SUFFIXES:
                left_out.append((*row, "in a hidden folder"))
        elif ending not in SUFFIXES:
            left_out.append((*row, f"not a photo's ending: {ending or 'none'}"))
        elif not folders:
            left_out.append((*row, "not in a class folder"))
        else:
            rows.append(row)
    if not rows:
        reasons = pd.Series([row[-1] for row in left_out], dtype=object).value_counts().head(3)
        found = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        raise InvalidRequest(f"No photos found in class folders under {root}{f' ({found})' if found else ''}.")
    return _listing(rows, left_out)


def csv(config: DataConfig) -> Listing:
    """List what a table names: paths below the data folder, labels and, if it has the column, splits."""
    if config.csv is None:
        raise InvalidRequest("Expected --csv FILE with --dataset csv; received none.")
    root, table = Path(config.data_dir), _read_table(Path(config.csv), [config.image_column, config.label_column])
    splits = pd.Series([None] * len(table), dtype=object)
    if config.split_column in table:
        written = table[config.split_column]
        splits = written.str.strip().str.lower().map(SPLIT_NAMES).astype(object)
        unknown = sorted(set(written[splits.isna()].dropna()))
        if unknown:
            raise InvalidRequest(
                f"Expected {', '.join(SPLITS)} in column {config.split_column!r} of {config.csv}; "
                f"received {', '.join(map(repr, unknown[:5]))}."
            )
        splits = splits.where(splits.notna(), None)
    paths = [_below(root, path, Path(config.csv)) for path in table[config.image_column]]
    rows = list(zip(paths, table[config.label_column], splits, strict=True))
    return _listing(rows, not_listed=_count_unlisted(_beside(root, rows), rows))


def _listing(rows: Sequence[Row], left_out: Iterable[tuple[str | None, ...]] = (), not_listed: int = 0) -> Listing:
    return Listing(
        pd.DataFrame(rows, columns=COLUMNS, dtype=object),
        pd.DataFrame(list(left_out), columns=[*COLUMNS, "reason"], dtype=object),
        not_listed,
    )


def _split_folders(root: Path) -> dict[str, str]:
    """Return the split of each folder of the root; empty if they are classes.

    Raises:
        InvalidRequest: some of them have the name of a split and others have not, or there is no train folder.
    """
    names = [path.name for path in sorted(root.iterdir()) if path.is_dir()]
    names = [name for name in names if not name.startswith(".") and name != MACOSX]
    splits = {name: SPLIT_NAMES[name.lower()] for name in names if name.lower() in SPLIT_NAMES}
    others = [name for name in names if name not in splits]
    if splits and (others or "train" not in splits.values()):
        found = f"beside {', '.join(others[:10])}" if others else "without a train folder"
        raise InvalidRequest(
            f"Expected either a folder a class, or train, test and validation alone; {root} has {', '.join(splits)} "
            f"{found}. Move what does not belong there; name a class otherwise, or list the photos with --dataset csv."
        )
    return splits


def _files(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, links followed, without what desktops leave behind; in order."""
    for base, folders, names in os.walk(folder, followlinks=True):
        here = Path(base)
        folders[:] = sorted(name for name in folders if name != MACOSX and not _leads_back(here / name))
        for name in sorted(names):
            if not name.startswith(".") and name.lower() not in NOT_OF_THE_DATA:
                yield here / name


def _leads_back(folder: Path) -> bool:
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _beside(root: Path, rows: Iterable[Row]) -> Iterator[PurePosixPath]:
    """Yield the files in the folders that the listed photos are in."""
    for parent in sorted({PurePosixPath(path).parent for path, _, _ in rows}):
        if (root / parent).is_dir():
            yield from (parent / path.name for path in (root / parent).iterdir() if not path.name.startswith("."))


def _count_unlisted(paths: Iterable[PurePosixPath], rows: Iterable[Row]) -> int:
    listed = {PurePosixPath(path) for path, _, _ in rows}
    # A photo whose ending is listed in other letters is reported as missing, with its name.
    names = {str(path).lower() for path in listed}
    return sum(path.suffix.lower() in SUFFIXES and str(path).lower() not in names for path in paths)


def _below(root: Path, path: str, table: Path) -> str:
    """Return a table's path relative to the root: whatever is absolute would be published with the report."""
    if ".." in PurePosixPath(path).parts:
        raise InvalidRequest(f"Expected paths below --data-dir {root} in {table}, without '..'; received {path}.")
    if not Path(path).is_absolute():
        return path
    if not Path(path).is_relative_to(root.absolute()):
        raise InvalidRequest(f"Expected paths below --data-dir {root} in {table}; received {path}.")
    return Path(path).relative_to(root.absolute()).as_posix()


def _with_ending(name: str) -> str:
    return name if PurePosixPath(name).suffix.lower() in JPEG_SUFFIXES else f"{name}.jpg"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"Expected UTF-8 text in {path}: {error}.") from error


def _read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    if not path.is_file():
        raise NotFound(f"Expected a table {path}; it is missing.")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
    except ValueError as error:
        raise InvalidRequest(f"{path} cannot be read as CSV: {error}") from error
    if any(column not in table for column in columns):
        raise InvalidRequest(f"Expected columns {columns} in {path}; received {list(table.columns)}.")
    empty = table[columns].isna().any(axis=1)
    if empty.any():
        row = int(empty.to_numpy().argmax()) + 2
        raise InvalidRequest(f"{path}:{row}: expected a value in each of {columns}; received an empty one.")
    return table
