"""Data sets: each layout becomes one data frame of ``image_path``, ``label`` and ``split``.

Paths are relative to the data folder, with forward slashes. Names and tables only are read (`trainer.data.layouts`);
whether the photos can be read, and whether any is there twice, is for `trainer.data.checks` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifier.errors import InvalidRequest, NotFound
from classifier.wording import did_you_mean
from trainer.data import hubs, layouts
from trainer.data.corrections import with_corrections
from trainer.data.decisions import with_decisions
from trainer.data.listing import COLUMNS, Listing
from trainer.data.subsets import at_most, chosen_classes, keep_classes
from trainer.run.sections import DataConfig


@dataclass(frozen=True)
class Loader:
    """One data-set layout."""

    name: str
    layout: str
    source: str
    load: Callable[[DataConfig], Listing]


def load(config: DataConfig) -> pd.DataFrame:
    """Return the frame of `list_photos`: ``image_path``, ``label``, ``split``."""
    return list_photos(config).frame


def require_dataset(config: DataConfig) -> Loader:
    """Return what loads a data set.

    Raises:
        InvalidRequest: it is unknown.
    """
    if config.dataset not in LOADERS:
        raise InvalidRequest(
            f"Expected one of {', '.join(LOADERS)}; received --dataset {config.dataset!r}."
            f"{did_you_mean(config.dataset, LOADERS)}"
        )
    return LOADERS[config.dataset]


def list_photos(config: DataConfig) -> Listing:
    """Return what a data set holds, sorted by path, each photo in ``train``, ``validation`` or ``test``.

    A class subset is taken first, so that a class is split as it is among all classes; ``max_per_class`` last: it
    limits the photos of each class in each split. ``gs://bucket/folder`` is mirrored (`trainer.data.mirror`).

    Where the data set has no test photos of its own, `DataConfig.test_share` of each class is held out; where it has
    no validation photos, `DataConfig.validation_share` of each class's training photos is. Both draws are
    stratified and repeat for the same seed.

    Raises:
        NotFound: the folder or one of its tables is missing.
        InvalidRequest: the data set or a label is unknown, or what it holds cannot be used.
        Unavailable: the bucket cannot be reached.
    """
    loader = require_dataset(config)
    config = replace(config, data_dir=str(hubs.local_photos(config)))
    if not Path(config.data_dir).is_dir():
        raise NotFound(f"Expected a folder at --data-dir {config.data_dir}; there is none.")
    try:
        listing = loader.load(config)
    except (InvalidRequest, NotFound) as error:
        raise type(error)(f"{error} The layout is: {loader.layout}.") from error
    listing = keep_classes(listing, chosen_classes(listing.frame["label"], config))
    frame = listing.frame[COLUMNS].sort_values("image_path", kind="stable").reset_index(drop=True)
    if not (frame["split"] == "test").any():
        free = frame["split"].isna()
        frame = _hold_out(
            frame, free if free.any() else frame["split"] == "train", config.test_share, "test", config.seed
        )
    frame.loc[frame["split"].isna(), "split"] = "train"
    if not (frame["split"] == "validation").any():
        frame = _hold_out(frame, frame["split"] == "train", config.validation_share, "validation", config.seed)
    listing = replace(listing, frame=at_most(frame, config.max_per_class, config.seed))
    return with_corrections(with_decisions(listing, config), config)


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


LOADERS = {
    loader.name: loader
    for loader in (
        Loader(
            "food-101",
            "images/<class>/<id>.jpg with meta/train.txt and meta/test.txt",
            "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/ (Bossard et al. 2014)",
            layouts.food_101,
        ),
        Loader(
            "dog-breed",
            "train/<id>.jpg with labels.csv (id, breed)",
            "https://www.kaggle.com/c/dog-breed-identification",
            layouts.dog_breed,
        ),
        Loader(
            "folder",
            "<class>/<photo>, or train/<class>/<photo> beside test and validation",
            "your own photos",
            layouts.folder,
        ),
        Loader(
            "csv",
            "a CSV file (--csv, or photos.csv there) of paths below --data-dir, labels and, if you like, splits",
            "your own table",
            layouts.csv,
        ),
        Loader(
            hubs.HUGGING_FACE,
            "what `save_to_disk` of Hugging Face's library datasets wrote, with a column of images and one of labels",
            "your own, or huggingface.co/datasets by `datasets.load_dataset(...).save_to_disk(...)`",
            hubs.listing,
        ),
        Loader(
            hubs.TFDS,
            "the folder of a version that TensorFlow Datasets has prepared, such as food101/2.0.0",
            "your own, or tensorflow.org/datasets by `tfds build`",
            hubs.listing,
        ),
    )
}
