"""Users' corrections that were accepted: photos to train on besides the data set's own, and never to test on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

from classifier.errors import InvalidRequest
from classifier.wording import plural
from trainer.data.checks import CheckedPhotos
from trainer.data.decisions import is_of_decisions
from trainer.data.layouts import csv as csv_listing
from trainer.data.listing import COLUMNS, Listing
from trainer.run.sections import DataConfig


def with_corrections(listing: Listing, config: DataConfig) -> Listing:
    """Add the photos of ``config.corrections`` to the training split, after the other splits were drawn.

    Rows of which no photo of a class can be made are among those that are left out.

    Their paths are relative to the data folder, as all are, also where they lie outside.

    Raises:
        NotFound: there is no such table.
        InvalidRequest: it is none, or it has a photo for another split.
    """
    if config.corrections is None or is_of_decisions(Path(config.corrections)):
        return listing
    table = Path(config.corrections)
    found = csv_listing(DataConfig("csv", str(table.parent), csv=str(table)))
    others = found.frame["split"].notna() & (found.frame["split"] != "train")
    if others.any():
        raise InvalidRequest(f"Expected corrections for train alone in {table}; received one for another split.")
    start = os.path.relpath(table.parent.resolve(), Path(config.data_dir).resolve())
    frame, left_out = (
        rows.assign(split="train", image_path=[_below(start, name) if name else name for name in rows["image_path"]])
        for rows in (found.frame, found.left_out)
    )
    return replace(
        listing,
        frame=pd.concat([listing.frame, frame[COLUMNS]], ignore_index=True),
        left_out=pd.concat([listing.left_out, left_out], ignore_index=True),
        notes=(*listing.notes, *found.notes),
    )


def paths_in(frame: pd.DataFrame, config: DataConfig) -> list[str]:
    """Return the paths in a data frame that are corrections."""
    if config.corrections is None or is_of_decisions(Path(config.corrections)):
        return []
    start = os.path.relpath(Path(config.corrections).parent.resolve(), Path(config.data_dir).resolve())
    prefix = _below(start, "")
    return [path for path in frame["image_path"] if path and path.startswith(prefix)]


def ids_in(frame: pd.DataFrame, config: DataConfig) -> list[str]:
    """Return the names of the corrections that are used: of their files, without endings."""
    return sorted(Path(path).stem for path in paths_in(frame, config))


def lines_of(listing: Listing, photos: CheckedPhotos, config: DataConfig) -> list[str]:
    """Say what became of the corrections.

    Args:
        listing: with all of them, also those that it left out.
        photos: with those that are trained on.
        config: says where they are.
    """
    left_out = paths_in(listing.left_out, config)
    everything, used = paths_in(listing.frame, config) + left_out, set(paths_in(photos.frame, config))
    if not everything:
        return []
    reasons = {
        path: reason
        for rows in (photos.rejected, listing.left_out)
        for path, reason in zip(rows["image_path"], rows["reason"], strict=True)
    }
    lines = [f"{len(used)} of {plural(len(everything), 'correction is', 'corrections are')} trained on"]
    return lines + [f"not on {Path(path).name}: {reasons.get(path)}" for path in everything if path not in used]


def _below(start: str, name: str) -> str:
    return f"{Path(start).as_posix()}/{name}"
