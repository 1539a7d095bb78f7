"""The loaders: each turns a data set's own layout into one data frame of ``image_path``, ``label`` and ``split``.

Paths are relative to the data folder, with forward slashes. A loader reads names and tables only; whether the photos
can be read, and whether any is there twice, is for `trainer.photos` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifier.errors import InvalidRequest, NotFound
from trainer.config import DataConfig

SPLITS = ("train", "validation", "test")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Loader:
    """One data-set layout."""

    name: str
    layout: str
    source: str
    load: Callable[[DataConfig], pd.DataFrame]
    """Gives ``image_path``, ``label``, ``split``; ``split`` may be empty (None) where the layout has none."""


def load(config: DataConfig) -> pd.DataFrame:
    """Return the data set's frame, sorted by path, each row in ``train``, ``validation`` or ``test``.

    Where the data set has no test photos of its own, `DataConfig.test_share` of each class is held out; where it has
    no validation photos, `DataConfig.validation_share` of each class's training photos is. Both draws are
    stratified and repeat for the same seed.

    Raises:
        NotFound: the folder or one of its tables is missing.
        InvalidRequest: the data set is unknown, or what it holds is not enough to train on.
    """
    loader = LOADERS.get(config.dataset)
    if loader is None:
        raise InvalidRequest(f"Expected one of {', '.join(LOADERS)}; received --dataset {config.dataset!r}.")
    if not Path(config.data_dir).is_dir():
        raise NotFound(f"Expected a folder at --data-dir {config.data_dir}; there is none.")
    frame = loader.load(config)[["image_path", "label", "split"]]
    frame = frame.sort_values("image_path", kind="stable").reset_index(drop=True)
    if not (frame["split"] == "test").any():
        frame = _hold_out(frame, frame["split"].isna(), config.test_share, "test", config.seed)
    frame.loc[frame["split"].isna(), "split"] = "train"
    if not (frame["split"] == "validation").any():
        frame = _hold_out(frame, frame["split"] == "train", config.validation_share, "validation", config.seed)
    return frame


def class_targets(labels: pd.Series, classes: Sequence[str], *, one_hot: bool) -> NDArray[Any]:
    """Return class numbers (int32 [n]) or one-hot rows (float32 [n, classes]).

    Raises:
        InvalidRequest: a label is not among the classes.
    """
    number = {label: index for index, label in enumerate(classes)}
    unknown = sorted(set(labels) - set(number))
    if unknown:
        raise InvalidRequest(
            f"Expected labels among {', '.join(classes)}; received {', '.join(map(repr, unknown[:5]))}."
        )
    numbers = np.array([number[label] for label in labels], dtype=np.int32)
    return np.eye(len(classes), dtype=np.float32)[numbers] if one_hot else numbers


def _hold_out(frame: pd.DataFrame, among: pd.Series, share: float, split: str, seed: int) -> pd.DataFrame:
    """Move `share` of each class's rows in `among` to `split`: at least one, and never the last one."""
    frame = frame.copy()
    for _, rows in frame[among].groupby("label", sort=True):
        count = min(max(1, round(len(rows) * share)), len(rows) - 1)
        if count > 0:
            frame.loc[rows.sample(n=count, random_state=seed).index, "split"] = split
    return frame


def _food_101(config: DataConfig) -> pd.DataFrame:
    root = Path(config.data_dir)
    rows = []
    for split in ("train", "test"):
        table = root / "meta" / f"{split}.txt"
        if not table.is_file():
            raise NotFound(f"Expected Food-101's split table {table}; it is missing. {_layout('food-101')}")
        for number, line in enumerate(table.read_text().splitlines(), start=1):
            name = line.strip()
            if not name:
                continue
            if name.count("/") != 1:
                raise InvalidRequest(f"{table}:{number}: expected a line like apple_pie/1005649; received {name!r}.")
            rows.append((f"images/{name}.jpg", name.split("/")[0], split))
    return pd.DataFrame(rows, columns=["image_path", "label", "split"])


def _dog_breed(config: DataConfig) -> pd.DataFrame:
    table = _read_table(Path(config.data_dir) / "labels.csv", ["id", "breed"], "dog-breed")
    return pd.DataFrame({"image_path": "train/" + table["id"] + ".jpg", "label": table["breed"], "split": None})


def _folder(config: DataConfig) -> pd.DataFrame:
    root = Path(config.data_dir)
    folders = {p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")}
    split_names = {
        "train": "train",
        "validation": "validation",
        "valid": "validation",
        "val": "validation",
        "test": "test",
    }
    if "train" in folders and folders <= set(split_names):
        rows = [row for name in sorted(folders) for row in _class_folders(root, root / name, split_names[name])]
    else:
        rows = _class_folders(root, root, None)
    if not rows:
        raise InvalidRequest(f"No photos found under {root}. {_layout('folder')}")
    return pd.DataFrame(rows, columns=["image_path", "label", "split"])


def _class_folders(root: Path, parent: Path, split: str | None) -> list[tuple[str, str, str | None]]:
    return [
        (photo.relative_to(root).as_posix(), folder.name, split)
        for folder in sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
        for photo in sorted(folder.rglob("*"))
        if photo.suffix.lower() in SUFFIXES and photo.is_file()
    ]


def _csv(config: DataConfig) -> pd.DataFrame:
    if config.csv is None:
        raise InvalidRequest("Expected --csv FILE with --dataset csv; received none.")
    table = _read_table(Path(config.csv), [config.image_column, config.label_column], "csv")
    frame = pd.DataFrame({"image_path": table[config.image_column], "label": table[config.label_column], "split": None})
    if config.split_column in table:
        split = table[config.split_column].replace({"valid": "validation", "val": "validation"})
        unknown = sorted(set(split.dropna()) - set(SPLITS))
        if unknown:
            raise InvalidRequest(
                f"Expected {', '.join(SPLITS)} in column {config.split_column!r} of {config.csv}; "
                f"received {', '.join(map(repr, unknown[:5]))}."
            )
        frame["split"] = split
    return frame


def _read_table(path: Path, columns: list[str], dataset: str) -> pd.DataFrame:
    if not path.is_file():
        raise NotFound(f"Expected a table {path}; it is missing. {_layout(dataset)}")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read as CSV: {error}") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise InvalidRequest(f"Expected columns {columns} in {path}; received {list(table.columns)}.")
    empty = table[columns].isna().any(axis=1)
    if empty.any():
        row = int(empty.to_numpy().argmax()) + 2
        raise InvalidRequest(f"{path}:{row}: expected a value in each of {columns}; received an empty one.")
    return table


def _layout(dataset: str) -> str:
    return f"The layout is: {LOADERS[dataset].layout}."


LOADERS = {
    loader.name: loader
    for loader in (
        Loader(
            "food-101",
            "images/<class>/<id>.jpg with meta/train.txt and meta/test.txt",
            "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/ (Bossard et al. 2014)",
            _food_101,
        ),
        Loader(
            "dog-breed",
            "train/<id>.jpg with labels.csv (id, breed)",
            "https://www.kaggle.com/c/dog-breed-identification",
            _dog_breed,
        ),
        Loader(
            "folder",
            "<class>/<photo>, or train/<class>/<photo> and test/<class>/<photo>",
            "your own photos",
            _folder,
        ),
        Loader(
            "csv",
            "a CSV file (--csv) of paths below --data-dir, labels and, if you like, splits",
            "your own table",
            _csv,
        ),
    )
}
