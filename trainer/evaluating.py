"""Looks at photos from the command line: measures a run's served file on them, or checks a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from classifier.errors import InvalidRequest, NotFound
from classifier.manifest import InputSpec, Manifest
from classifier.model import Model
from classifier.quiet import quiet
from trainer.config import DataConfig
from trainer.datasets import SPLITS, class_targets, load
from trainer.evaluation import Evaluation, evaluate
from trainer.photos import CheckedPhotos, check_photos
from trainer.progress import counting
from trainer.run_folder import open_run


def evaluate_run(
    path: Path,
    split: str,
    *,
    dataset: str | None,
    data_dir: Path | None,
    csv: Path | None,
    console: Console,
) -> Evaluation:
    """Measure the file in a run's bundle on a split of the run's photos, or of another data set with the same labels.

    Raises:
        NotFound: the run has no bundle yet.
        InvalidRequest: an option cannot be used, or the split has no photos.
    """
    if split not in SPLITS:
        raise InvalidRequest(f"Expected --split to be one of {', '.join(SPLITS)}; received {split!r}.")
    run, config = open_run(path)
    if not (run.bundle / "manifest.json").is_file():
        raise NotFound(f"{path} has no bundle yet; `trainer export {path}` makes it.")
    manifest = Manifest.from_json((run.bundle / "manifest.json").read_bytes())
    data = config.data
    if dataset is not None or data_dir is not None or csv is not None:
        data = replace(
            data,
            dataset=dataset or data.dataset,
            data_dir=str(data_dir or data.data_dir),
            csv=str(csv) if csv else data.csv,
        )
    photos = _checked(data, manifest.input, console)
    rows = np.flatnonzero(photos.frame["split"] == split)
    if not len(rows):
        raise InvalidRequest(f"{data.data_dir} has no {split} photos.")

    truth = class_targets(photos.frame["label"].iloc[rows], manifest.labels, one_hot=False)
    content = (run.bundle / "model.tflite").read_bytes()
    with quiet(tell_on_error=True):
        Model(content)  # LiteRT says what it does once a process
    with counting(console, f"evaluating {split} photos", len(rows)) as step:
        return evaluate(content, manifest.labels, photos.source, rows, truth, step)


def describe_dataset(dataset: str, data_dir: Path | None, csv: Path | None, console: Console) -> None:
    """Check a data set and print its photos a class and split, and how many cannot be used for which reason.

    Raises:
        InvalidRequest: no folder was given.
    """
    if data_dir is None:
        raise InvalidRequest("Expected --data-dir with --dataset; received none.")
    config = DataConfig(dataset=dataset, data_dir=str(data_dir), csv=str(csv) if csv else None)
    photos = _checked(config, InputSpec(width=64, height=64, resize="stretch"), console)
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for split in SPLITS:
        table.add_column(split, justify="right")
    counts = photos.frame.groupby(["label", "split"]).size().unstack(fill_value=0)
    for label, row in counts.iterrows():
        table.add_row(str(label), *(str(row.get(split, 0)) for split in SPLITS))
    console.print(table)
    for row in photos.rejected.head(20).itertuples():
        console.print(f"rejected: {row.image_path} ({row.split}): {row.reason}", highlight=False)
    console.print(
        f"{len(counts)} classes, {len(photos.frame)} photos, {len(photos.rejected)} rejected", highlight=False
    )


def _checked(config: DataConfig, spec: InputSpec, console: Console) -> CheckedPhotos:
    frame = load(config)
    with counting(console, "checking photos", len(frame)) as step:
        return check_photos(frame, Path(config.data_dir), spec, on_photo=step)
