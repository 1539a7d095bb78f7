"""The layouts of data sets: each function lists the photos of one, and what it had to leave out.

Only names and tables are read; paths are relative to the data folder, with forward slashes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import pandas as pd

from classifier.errors import InvalidRequest, NotFound
from classifier.wording import plural
from trainer.data.listing import SPLIT_NAMES, SPLITS, TABLE, Listing, Row, listing_of, listing_of_table, printable
from trainer.data.tables import read_table
from trainer.data.walking import JPEG_SUFFIXES, SUFFIXES, count_unlisted, is_of_the_data, passed_over, photo_files
from trainer.run.sections import DataConfig

HIDDEN = "in a hidden folder"
"""Why photos are left out that a program keeps to itself: told once a folder, which may be one of thousands."""


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
    images = (PurePosixPath("images") / path for path in photo_files(root / "images"))
    return listing_of(rows, not_listed=count_unlisted(images, [path for path, _, _ in rows]))


def dog_breed(config: DataConfig) -> Listing:
    """List ``train/<id>.jpg`` by ``labels.csv`` (id, breed)."""
    root = Path(config.data_dir)
    table, assumed = read_table(
        root / "labels.csv", ["id", "breed"], separator=config.separator, encoding=config.encoding
    )
    rows: list[Row] = [
        (f"train/{_with_ending(name)}" if name else "", label, None)
        for name, label in zip(_texts(table["id"]), _texts(table["breed"]), strict=True)
    ]
    return listing_of_table(root, rows, [assumed])


def folder(config: DataConfig) -> Listing:
    """List ``<class>/<photo>``, or ``train/<class>/<photo>`` with ``test`` and ``validation`` beside it."""
    root = Path(config.data_dir)
    splits = _split_folders(root)
    rows: list[Row] = []
    left_out: list[tuple[str, str | None, str | None, str]] = []
    unlabelled = _unlabelled_splits(root, splits)
    not_listed: dict[str, int] = {}
    hidden: Counter[tuple[str, str | None, str | None]] = Counter()
    for name in photo_files(root):
        split = splits.get(name.parts[0])
        folders = name.parts[1 if split else 0 : -1]
        row = (str(name), folders[0] if folders else None, split)
        ending = name.suffix.lower()
        if name.parts[0] in unlabelled and len(name.parts) == 2 and ending in SUFFIXES:
            not_listed[name.parts[0]] = not_listed.get(name.parts[0], 0) + 1
        elif depth := next((index for index, part in enumerate(name.parts[:-1], 1) if part.startswith(".")), 0):
            if ending in SUFFIXES:
                of_class = folders[0] if folders and not folders[0].startswith(".") else None
                hidden["/".join(name.parts[:depth]), of_class, split] += 1
        elif ending not in SUFFIXES:
            left_out.append((*row, f"not a photo's ending: {ending or 'none'}"))
        elif not folders:
            left_out.append((*row, "not in a class folder"))
        else:
            rows.append(row)
    if not rows:
        reasons = Counter(row[-1] for row in left_out) + Counter({HIDDEN: hidden.total()})
        found = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
        raise InvalidRequest(f"No photos found in class folders under {root}{f' ({found})' if found else ''}.")
    left_out += [(*row, f"{HIDDEN}: {plural(count, 'photo')}") for row, count in hidden.items()]
    notes = [
        plural(count, f"photo directly in {name}/ has", f"photos directly in {name}/ have") + " no label: passed over"
        for name, count in sorted(not_listed.items())
    ]
    empty = _without_photos(root, splits, rows)
    if empty:
        notes.append(f"warning: no photo in {', '.join(empty[:10])}{', ...' if len(empty) > 10 else ''}: no such class")
    return listing_of(rows, left_out, notes=[*notes, *passed_over(root)])


def csv(config: DataConfig) -> Listing:
    """List what a table names: paths below the data folder, labels and, if it has the column, splits."""
    root = Path(config.data_dir)
    path = Path(config.csv) if config.csv else root / TABLE
    if config.csv is None and not path.is_file():
        raise InvalidRequest(f"Expected --csv FILE with --dataset csv, or {TABLE} in {root}; received none.")
    table, assumed = read_table(
        path, [config.image_column, config.label_column], separator=config.separator, encoding=config.encoding
    )
    splits = pd.Series([None] * len(table), dtype=object)
    if config.split_column in table:
        written = table[config.split_column]
        splits = written.str.strip().str.lower().map(SPLIT_NAMES).astype(object)
        unknown = sorted(set(written[splits.isna()].dropna()))
        if unknown:
            raise InvalidRequest(
                f"Expected {', '.join(SPLITS)} in column {config.split_column!r} of {path}; "
                f"received {', '.join(map(repr, unknown[:5]))}."
            )
        splits = splits.where(splits.notna(), None)
    names, from_windows = _with_slashes(root, _texts(table[config.image_column]))
    paths = [_below(root, name, path) if name else "" for name in names]
    rows: list[Row] = list(zip(paths, _texts(table[config.label_column]), splits, strict=True))
    return listing_of_table(root, rows, [assumed, "paths with \\ were read as with /" if from_windows else None])


def _texts(column: pd.Series) -> list[str]:
    """Return a column's texts without outer white space; empty where there is none."""
    return [text.strip() for text in column.fillna("")]


def _with_slashes(root: Path, names: list[str]) -> tuple[list[str], bool]:
    """Return a table's paths with forward slashes, and whether some were written with Windows's."""
    changed = {name for name in names if "\\" in name and not (root / name).exists()}
    return [name.replace("\\", "/") if name in changed else name for name in names], bool(changed)


def _unlabelled_splits(root: Path, splits: Mapping[str, str]) -> set[str]:
    """Return the folders of splits that have photos and no class: those of a competition, whose labels are secret."""

    def has_classes(name: str) -> bool:
        return any(each.is_dir() and is_of_the_data(each.name) for each in (root / name).iterdir())

    return {name for name, split in splits.items() if split != "train" and not has_classes(name)}


def _without_photos(root: Path, splits: Mapping[str, str], rows: Iterable[Row]) -> list[str]:
    """Return the class folders in which no photo is."""
    found = {tuple(path.split("/")[: 2 if split else 1]) for path, _, split in rows}
    parents = [root / name for name in splits] if splits else [root]
    folders = sorted(each.relative_to(root) for parent in parents for each in parent.iterdir() if each.is_dir())
    return [printable(each.as_posix()) for each in folders if is_of_the_data(each.name) and each.parts not in found]


def _split_folders(root: Path) -> dict[str, str]:
    """Return the split of each folder of the root; empty if they are classes.

    Raises:
        InvalidRequest: some of them have the name of a split and others have not, or there is no train folder.
    """
    names = [path.name for path in sorted(root.iterdir()) if path.is_dir()]
    names = [name for name in names if is_of_the_data(name)]
    splits = {name: SPLIT_NAMES[name.lower()] for name in names if name.lower() in SPLIT_NAMES}
    others = [name for name in names if name not in splits]
    if splits and (others or "train" not in splits.values()):
        found = f"beside {', '.join(others[:10])}" if others else "without a train folder"
        raise InvalidRequest(
            f"Expected either a folder a class, or train, test and validation alone; {root} has {', '.join(splits)} "
            f"{found}. Move what does not belong there; name a class otherwise, or list the photos with --dataset csv."
        )
    return splits


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
