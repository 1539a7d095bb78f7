"""Prepares a run's photos: loads and checks them, and keeps the tables of those used and those left out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from classifier.errors import InvalidRequest, NotFound, Refused
from classifier.registry.manifest import InputSpec
from classifier.wording import plural
from trainer.data.checks import CheckedPhotos, check_photos, fingerprint
from trainer.data.corrections import ids_in, lines_of, paths_in
from trainer.data.decisions import DROPPED, counted, decisions_of, read_decisions, to_table
from trainer.data.hubs import local_photos
from trainer.data.loaders import list_photos
from trainer.data.source import PhotoSource
from trainer.data.subsets import keep_classes
from trainer.data.unlabelled import with_those_of, with_unlabelled
from trainer.run.config import TrainingConfig
from trainer.run.files import read_json, write_file, write_json
from trainer.run.folder import RunFolder
from trainer.run.progress import counting
from trainer.run.sections import DataConfig


def prepare_photos(
    config: TrainingConfig,
    spec: InputSpec,
    run: RunFolder,
    console: Console,
    *,
    cache_bytes: int | None = None,
    workers: int | None = None,
    accept: Callable[[CheckedPhotos], None] = lambda _: None,
) -> CheckedPhotos:
    """Load and check the data set as `spec` wants its photos, and write the tables of what is used and what is not.

    `accept` may refuse them before anything is written.

    Raises:
        Refused: the photos are not those that the run began with.
        InvalidRequest: too many photos are rejected, or too few are left.
    """
    photos, not_listed = check_dataset(config.data, spec, console, cache_bytes=cache_bytes, workers=workers)
    former = read_json(run.summary) if run.summary.is_file() else None
    if former is not None and former["fingerprint"] != photos.fingerprint:
        raise Refused(
            f"The photos in {config.data.data_dir} are not those that {run.path} was started with"
            f"{_what_changed(run, photos)}. Put them back to resume it, or start a new run."
        )
    accept(photos)
    write_file(run.rejected, lambda path: photos.rejected.to_csv(path, index=False))
    counts = photos.frame["split"].value_counts()
    console.print(
        f"{config.data.dataset}: {plural(photos.frame['label'].nunique(), 'class')}, {counts.get('train', 0)} train, "
        f"{counts.get('validation', 0)} validation, {plural(counts.get('test', 0), 'test photo')}; "
        f"{len(photos.rejected)} rejected"
        + (f", see {run.rejected}" if len(photos.rejected) else "")
        + (f"; {not_listed} in its folders but in no table" if not_listed else ""),
        highlight=False,
    )
    _require_enough(photos, config.data.max_rejected, run)
    if config.data.unlabelled is not None:
        photos, table = with_unlabelled(photos, config.data.unlabelled, console, workers=workers)
        if former is not None and former["unlabelled"]["fingerprint"] != photos.unlabelled_fingerprint:
            raise Refused(
                f"The photos in {config.data.unlabelled} are not those that {run.path} was started with, which "
                f"{run.unlabelled} lists. Put them back to resume it, or start a new run."
            )
        write_file(run.unlabelled, lambda path: table.to_csv(path, index=False))
    made = decisions_of(config.data)
    decided = read_decisions(made) if made else {}
    if decided:
        write_file(run.decisions, lambda path: to_table(decided).to_csv(path, index=False))
    write_file(run.data, lambda path: photos.frame.to_csv(path, index=False))
    write_json(run.summary, _summary(config, photos, counts) | ({"decisions": counted(decided)} if decided else {}))
    return photos


def check_dataset(
    config: DataConfig,
    spec: InputSpec,
    console: Console,
    *,
    classes: Collection[str] | None = None,
    cache_bytes: int | None = None,
    workers: int | None = None,
) -> tuple[CheckedPhotos, int]:
    """List and check a data set; return its photos, and how many more lie beside them that no table names.

    What the layout left out is among the rejected. With `classes`, photos of other labels are passed over.
    """
    config = replace(config, data_dir=str(local_photos(config, console)))
    listing = list_photos(config)
    if classes is not None:
        listing = keep_classes(listing, classes)
    for note in listing.notes:
        console.print(note, highlight=False, markup=False)
    with counting(console, "checking photos", len(listing.frame)) as step:
        photos = check_photos(
            listing.frame,
            Path(config.data_dir),
            spec,
            cache_bytes=cache_bytes,
            workers=workers,
            corrections=paths_in(listing.frame, config),
            on_photo=step,
        )
    for line in lines_of(listing, photos, config):
        console.print(line, highlight=False, markup=False)
    if listing.first is not None and not len(photos.frame) and not listing.first.is_file():
        missing = int(photos.rejected["reason"].str.startswith("missing").sum())
        raise NotFound(
            f"{missing} of {len(listing.frame)} photos of the table are missing and none can be used; the first was "
            f"looked for at {listing.first}. Name the folder from which its paths count with --data-dir."
        )
    columns = list(photos.rejected.columns)
    rows = photos.rejected.to_numpy().tolist() + listing.left_out[columns].to_numpy().tolist()
    rejected = pd.DataFrame(rows, columns=columns, dtype=object)
    return replace(photos, rejected=rejected), listing.not_listed


def load_photos(
    run: RunFolder,
    config: TrainingConfig,
    spec: InputSpec,
    *,
    cache_bytes: int | None = None,
    unlabelled: bool = False,
) -> CheckedPhotos:
    """Return the photos that a run has already checked, not yet decoded again; on request those without labels too.

    Raises:
        NotFound: the run has not checked any yet.
        Unavailable: they are in a bucket that cannot be reached.
    """
    if not run.data.is_file() or not run.rejected.is_file():
        raise NotFound(f"Expected the tables of photos that `trainer train` keeps in {run.path}; they are missing.")
    frame = pd.read_csv(run.data, dtype=str, keep_default_na=False)
    folder = local_photos(config.data)
    source = PhotoSource([folder / path for path in frame["image_path"]], spec, cache_bytes=cache_bytes)
    photos = CheckedPhotos(frame, pd.read_csv(run.rejected, dtype=str), source, fingerprint(frame))
    if not unlabelled or config.data.unlabelled is None:
        return photos
    return with_those_of(photos, run.unlabelled, config.data.unlabelled)


def _what_changed(run: RunFolder, photos: CheckedPhotos) -> str:
    """Name the photos in which a data set differs from a run's table: ": 2 changed (a.jpg, b.jpg), 1 added (c.jpg)"."""
    if not run.data.is_file():
        return ""
    before = pd.read_csv(run.data, dtype=str, keep_default_na=False).set_index("image_path")
    after, rejected = photos.frame.set_index("image_path"), photos.rejected.set_index("image_path")["reason"]
    both = before.index.intersection(after.index)
    names: dict[str, list[str]] = {"changed": [], "in another class or split": []}
    for path in both:
        old, new = before.loc[path], after.loc[path]
        if old["sha256"] != new["sha256"]:
            names["changed"].append(path)
        elif (old["label"], old["split"]) != (new["label"], new["split"]):
            names["in another class or split"].append(path)
    names["added"] = list(after.index.difference(before.index))
    gone = before.index.difference(after.index)
    names["unusable"] = [path for path in gone if path in rejected.index]
    names["removed"] = [path for path in gone if path not in rejected.index]
    parts = [
        f"{len(paths)} {what} ({', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''})"
        for what, paths in names.items()
        if paths
    ]
    return f": {', '.join(parts)}" if parts else ""


def require_few_rejected(photos: CheckedPhotos, max_rejected: float, table: str) -> None:
    """Refuse a data set of which more than a share cannot be used; what was dropped on purpose does not count.

    Args:
        photos: what was checked.
        max_rejected: the largest share.
        table: what lists those that cannot, for the message.

    Raises:
        InvalidRequest: with how many and why.
    """
    rejected = photos.rejected[~photos.rejected["reason"].str.startswith(DROPPED)]
    listed = len(photos.frame) + len(rejected)
    if len(rejected) > max_rejected * listed:
        reasons = rejected["reason"].str.split(":").str[0].value_counts()
        raise InvalidRequest(
            f"{len(rejected)} of {listed} photos are rejected ("
            + ", ".join(f"{count} {reason}" for reason, count in reasons.head(3).items())
            + f"); at most {max_rejected:.0%} are allowed. {table} lists them; "
            "mend the data, or allow more with --max-rejected."
        )


def require_splits(frame: pd.DataFrame, see: str = "") -> None:
    """Refuse photos of which no network can be trained and measured.

    Args:
        frame: ``label`` and ``split`` of each photo.
        see: where those are listed that cannot be used, to put behind a message.

    Raises:
        InvalidRequest: they are of fewer than two classes, a class has none to train on, or a split has none at all.
    """
    classes = frame["label"].nunique()
    if classes < 2:
        raise InvalidRequest(f"Expected photos of at least two classes; received {classes}. Add photos of others.{see}")
    for split in ("train", "validation", "test"):
        missing = set(frame["label"]) - set(frame.loc[frame["split"] == split, "label"])
        if split == "train" and missing:
            raise InvalidRequest(f"No training photo is left of: {', '.join(sorted(missing))}.{see}")
        if not (frame["split"] == split).any():
            raise InvalidRequest(f"No {split} photo is left: each class needs at least three.{see}")


def _require_enough(photos: CheckedPhotos, max_rejected: float, run: RunFolder) -> None:
    require_few_rejected(photos, max_rejected, str(run.rejected))
    require_splits(photos.frame, f" See {run.rejected}.")


def _summary(config: TrainingConfig, photos: CheckedPhotos, counts: pd.Series) -> dict[str, Any]:
    return {
        "dataset": config.data.dataset,
        "fingerprint": photos.fingerprint,
        "photos": {split: int(counts.get(split, 0)) for split in ("train", "validation", "test")},
        "classes": int(photos.frame["label"].nunique()),
        "rejected": len(photos.rejected),
        **(
            {
                "unlabelled": {
                    "photos": len(photos.source) - len(photos.frame),
                    "fingerprint": photos.unlabelled_fingerprint,
                }
            }
            if photos.unlabelled_fingerprint
            else {}
        ),
        **({"corrections": corrected} if (corrected := ids_in(photos.frame, config.data)) else {}),
    }
