"""Looks at photos from the command line: measures a run's served file on them, or checks a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from classifier.errors import InvalidRequest
from classifier.quiet import quiet
from classifier.registry.manifest import InputSpec
from classifier.serving.model import Model
from classifier.wording import plural
from trainer.data.checks import CheckedPhotos, require_unchanged
from trainer.data.listing import SPLITS
from trainer.data.loaders import class_targets
from trainer.data.preparation import check_dataset, load_photos, require_few_rejected, require_splits
from trainer.data.subsets import has_subset, without_subset
from trainer.evaluation.served import Evaluation, evaluate
from trainer.evaluation.served_bundle import open_bundle
from trainer.evaluation.views import PHOTOS, measure_views
from trainer.run.files import write_file
from trainer.run.progress import counting
from trainer.run.sections import DataConfig
from trainer.run.starting import open_run

SHOWN_REJECTED = 20
"""How many of the rejected photos get a line."""


def evaluate_run(
    path: Path,
    split: str,
    *,
    dataset: str | None,
    data_dir: str | None,
    csv: Path | None,
    out: Path | None,
    console: Console,
    views: bool = False,
) -> Evaluation:
    """Measure the file in a run's bundle on a split of the run's photos, or of another data set with the same labels.

    The run's photos are those that it was made with, in the splits of then: photos that came later could have been
    trained on.

    Args:
        path: the run's folder.
        split: train, validation or test.
        dataset: another data set's layout; None with `data_dir` and `csv` for the run's own photos.
        data_dir: its folder, or ``gs://bucket/folder``.
        csv: its table.
        out: folder for the tables; None writes none.
        console: where progress and rejected photos are shown.
        views: whether each choice of test-time augmentation is measured too.

    Raises:
        NotFound: the run has no bundle yet, or photos are missing.
        Refused: photos have changed since the training.
        InvalidRequest: an option cannot be used, or the split has no photos.
    """
    if split not in SPLITS:
        raise InvalidRequest(f"Expected --split to be one of {', '.join(SPLITS)}; received {split!r}.")
    run, config = open_run(path)
    bundle = open_bundle(run)
    manifest = bundle.manifest
    data = config.data
    own = dataset is None and data_dir is None and csv is None
    if own:
        photos = load_photos(run, config, manifest.input)
    else:
        data = replace(
            data,
            dataset=dataset or data.dataset,
            data_dir=data_dir or data.data_dir,
            csv=str(csv) if csv else data.csv,
            corrections=None,  # they are about the run's own photos
            decisions=None,
        )
        photos, not_listed = check_dataset(
            without_subset(data), manifest.input, console, classes=manifest.labels if has_subset(data) else None
        )
        kept = photos.rejected
        if out is not None:
            write_file(out / "rejected.csv", lambda path: kept.to_csv(path, index=False))
        _say_counts(console, len(photos.frame), kept, not_listed)
    rows = np.flatnonzero(photos.frame["split"] == split)
    if not len(rows):
        raise InvalidRequest(f"{data.data_dir} has no {split} photos.")
    if own:
        require_unchanged(photos, rows)

    truth = class_targets(photos.frame["label"].iloc[rows], manifest.labels, one_hot=False)
    with quiet(tell_on_error=True):
        Model(bundle.content)  # LiteRT says what it does once a process
    with counting(console, f"evaluating {split} photos", len(rows)) as step:
        evaluation = evaluate(bundle.content, manifest.labels, photos.source, rows, truth, step)
    if views:
        with counting(console, f"measuring views of {split} photos", min(len(rows), PHOTOS)) as step:
            found = measure_views(bundle.content, photos.source, rows, truth, step)
        evaluation = replace(evaluation, views=found)
    if out is not None:
        evaluation.write(out, split, photos.frame.iloc[rows])
    return evaluation


def describe_dataset(config: DataConfig, console: Console) -> CheckedPhotos:
    """Check a data set, print its photos a class and split, and how many cannot be used for which reason; return it.

    What `trainer.data.preparation.prepare_photos` would refuse it for is warned of.
    """
    photos, not_listed = check_dataset(config, InputSpec(width=64, height=64, resize="stretch"), console)
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for split in SPLITS:
        table.add_column(split, justify="right")
    counts = photos.frame.groupby(["label", "split"]).size().unstack(fill_value=0)
    for label, row in counts.iterrows():
        table.add_row(str(label), *(str(row.get(split, 0)) for split in SPLITS))
    console.print(table)
    _say_counts(console, len(photos.frame), photos.rejected, not_listed, f"{plural(len(counts), 'class')}, ")
    try:
        require_few_rejected(photos, config.max_rejected, "`trainer datasets`")
        require_splits(photos.frame)
    except InvalidRequest as error:
        console.print(
            f"warning: `trainer train` will refuse it. {error}", style="yellow", highlight=False, markup=False
        )
    return photos


def _say_counts(console: Console, photos: int, rejected: pd.DataFrame, not_listed: int, first: str = "") -> None:
    for row in rejected.head(SHOWN_REJECTED).itertuples():
        split = f" ({row.split})" if isinstance(row.split, str) else ""
        console.print(f"rejected: {row.image_path}{split}: {row.reason}", highlight=False, markup=False)
    console.print(
        f"{first}{plural(photos, 'photo')}, {len(rejected)} rejected"
        + (f", {not_listed} in its folders but in no table" if not_listed else ""),
        highlight=False,
    )
