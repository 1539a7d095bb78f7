"""Photos without labels, which only a teacher labels: read, checked, and kept apart from those that figures are of."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.console import Console

from classifier.errors import InvalidRequest, NotFound
from classifier.storage.names import bucket_of
from classifier.wording import plural
from trainer.data.checks import CheckedPhotos, check_photos
from trainer.data.mirror import local_data_dir
from trainer.data.source import PhotoSource
from trainer.data.walking import SUFFIXES
from trainer.run.progress import counting

UNLABELLED = "unlabelled"
USED = ""
"""The reason of a photo that is not left out."""


def require_unlabelled(place: str) -> None:
    """Find out that there is no folder of photos without labels; what is in a bucket is found out when it is copied.

    Raises:
        NotFound: there is none.
    """
    if bucket_of(place) is None and not Path(place).is_dir():
        raise NotFound(f"Expected a folder of photos at --unlabelled {place}; there is none.")


def with_unlabelled(
    photos: CheckedPhotos, place: str, console: Console, *, workers: int | None = None
) -> tuple[CheckedPhotos, pd.DataFrame]:
    """Add the photos below a folder behind those of the data set, for training alone.

    Left out are those that cannot be read, and those with the same bytes as one of the data set, of whatever split, or
    as another one of them.

    Args:
        photos: those of the data set.
        place: a folder, or gs://bucket/folder.
        console: where progress is shown.
        workers: threads that decode; None means one a CPU.

    Returns:
        The photos, and the table of all that were found: ``image_path``, ``sha256``, ``reason`` (`USED`, or why not).

    Raises:
        NotFound: there is no such folder.
        InvalidRequest: no photo is left.
    """
    folder = local_data_dir(place, console)
    require_unlabelled(str(folder))
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    names = [path.relative_to(folder).as_posix() for path in paths]
    frame = pd.DataFrame({"image_path": names, "label": "", "split": UNLABELLED})
    with counting(console, "checking photos without labels", len(frame)) as step:
        found = check_photos(
            frame, folder, photos.source.spec, cache_bytes=photos.source.room, workers=workers, on_photo=step
        )
    known = photos.frame.set_index("sha256")
    twin = found.frame["sha256"].isin(known.index)
    kept = found.frame[~twin]
    if kept.empty:
        raise InvalidRequest(
            f"Expected photos below --unlabelled {place} that the data set does not have; {len(frame)} were found, "
            f"{len(found.rejected)} of them unreadable or there twice, {int(twin.sum())} in the data set."
        )
    table = pd.concat(
        [
            kept.assign(reason=USED),
            found.frame[twin].assign(
                reason=[
                    f"same bytes as {known.at[sha256, 'image_path']}, which is in {known.at[sha256, 'split']}"
                    for sha256 in found.frame.loc[twin, "sha256"]
                ]
            ),
            found.rejected.assign(sha256=""),
        ]
    )[["image_path", "sha256", "reason"]]
    console.print(
        f"{plural(len(kept), 'photo without a label is', 'photos without labels are')} trained on besides, as the "
        "teacher labels them" + (f"; {len(frame) - len(kept)} left out" if len(frame) > len(kept) else ""),
        highlight=False,
    )
    source = photos.source.joined(found.source.select(kept.index.to_numpy()))
    return replace(photos, source=source, unlabelled_fingerprint=_fingerprint(kept)), table.reset_index(drop=True)


def with_those_of(photos: CheckedPhotos, table: Path, place: str) -> CheckedPhotos:
    """Add the photos that `with_unlabelled` used, by its table, not read again."""
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    kept = frame[frame["reason"] == USED]
    folder = local_data_dir(place)
    added = PhotoSource([folder / name for name in kept["image_path"]], photos.source.spec, cache_bytes=0)
    return replace(photos, source=photos.source.joined(added), unlabelled_fingerprint=_fingerprint(kept))


def _fingerprint(kept: pd.DataFrame) -> str:
    """Return the sha256 of paths and contents."""
    digest = hashlib.sha256()
    for row in kept.sort_values("image_path")[["image_path", "sha256"]].itertuples(index=False):
        digest.update("\0".join(row).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()
