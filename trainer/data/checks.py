"""The photos of a data frame: checked once, decoded once, and kept as pixels while memory allows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifier.errors import NotFound, PointerError, Refused
from classifier.registry.manifest import InputSpec
from classifier.settings import available_cpus
from trainer.data.source import PhotoSource


@dataclass(frozen=True)
class CheckedPhotos:
    """A data frame whose every photo can be read, and the table of those that were left out."""

    frame: pd.DataFrame
    """``image_path``, ``label``, ``split``, ``sha256``; one row a photo."""
    rejected: pd.DataFrame
    """``image_path``, ``label``, ``split``, ``reason``."""
    source: PhotoSource
    """Row i is the photo of the frame's row i; behind them come photos without labels, if there are any."""
    fingerprint: str
    """sha256 over every path, label, split and content of the frame."""
    unlabelled_fingerprint: str = ""
    """sha256 over every path and content of the photos without labels; empty where there are none."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels of its photos, sorted: their order numbers the classes."""
        return tuple(sorted(self.frame["label"].unique()))


def check_photos(
    frame: pd.DataFrame,
    folder: Path,
    spec: InputSpec,
    *,
    cache_bytes: int | None = None,
    workers: int | None = None,
    corrections: Collection[str] = (),
    on_photo: Callable[[], None] = lambda: None,
) -> CheckedPhotos:
    """Read and decode every photo once; separate those that must not be trained or tested on, each with its reason.

    Rejected are: missing and unreadable photos; a path listed again; the same bytes again under the same label; the
    same bytes under two labels (all of them: nobody knows which is right); and the same bytes in two splits, which
    would leak (the one in the split nearer to the final test stays).

    A correction's label goes before those of the same bytes elsewhere, which it takes the place of; where they are in
    the validation or test split they stay there, under its label, and it is not trained on.

    Args:
        frame: ``image_path`` (relative to `folder`), ``label``, ``split``.
        folder: the data folder.
        spec: the size at which pixels are kept for later.
        cache_bytes: see `PhotoSource`.
        workers: how many threads decode; None means one a CPU.
        corrections: the paths in `frame` that are corrections.
        on_photo: called after each photo, from any thread.
    """
    source = PhotoSource([folder / path for path in frame["image_path"]], spec, cache_bytes=cache_bytes)

    def look(row: int) -> tuple[str | None, str | None]:
        path = source.paths[row]
        try:
            if "\0" in str(path):
                return None, "unreadable: a NUL in its name"
            if not (S_ISREG(mode := path.stat().st_mode) or S_ISDIR(mode)):  # reading a pipe would wait for ever
                return None, "unreadable: not a file"
            data = path.read_bytes()
            source.decode(row, data)
            return hashlib.sha256(data).hexdigest(), None
        except FileNotFoundError:
            return None, _missing(path)
        except OSError as error:
            # The error itself would name the folder; these reasons are published with the figures.
            return None, f"unreadable: {error.strerror or type(error).__name__}"
        except PointerError as error:
            return None, f"unreadable: {error}"
        finally:
            on_photo()

    with ThreadPoolExecutor(workers or available_cpus()) as pool:
        looks = list(pool.map(look, range(len(frame))))
    checked = frame.assign(sha256=[digest for digest, _ in looks], reason=[reason for _, reason in looks])
    checked["reason"] = checked["reason"].astype(object).where(checked["reason"].notna(), None)
    _mark_duplicates(checked, set(corrections))
    good = checked["reason"].isna()
    kept = checked[good].drop(columns="reason").reset_index(drop=True)
    rejected = checked[~good][["image_path", "label", "split", "reason"]].reset_index(drop=True)
    chosen = source.select(np.flatnonzero(good.to_numpy()))
    return CheckedPhotos(kept, rejected, chosen, fingerprint(kept))


def fingerprint(frame: pd.DataFrame) -> str:
    """Return the sha256 of a checked frame: the same exactly when the same photos are used in the same way."""
    digest = hashlib.sha256()
    for row in frame.sort_values("image_path")[["image_path", "label", "split", "sha256"]].itertuples(index=False):
        digest.update("\0".join(map(str, row)).encode() + b"\n")
    return digest.hexdigest()


def require_unchanged(photos: CheckedPhotos, rows: NDArray[np.intp]) -> None:
    """Compare the bytes of these photos with those that were checked.

    Raises:
        NotFound: some are missing.
        Refused: some have other bytes.
    """

    def look(row: int) -> str | None:
        try:
            with photos.source.paths[row].open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return "missing"
        return None if found == photos.frame.at[row, "sha256"] else "changed"

    with ThreadPoolExecutor(available_cpus()) as pool:
        looks = pd.Series(list(pool.map(look, rows.tolist())), index=rows, dtype=object)
    for what, error in (("missing", NotFound), ("changed", Refused)):
        at_fault = looks.index[looks == what]
        if len(at_fault):
            names = ", ".join(str(photos.source.paths[row]) for row in at_fault[:3])
            raise error(
                f"{len(at_fault)} of {len(rows)} photos that the run was made with are {what}: {names}"
                f"{', ...' if len(at_fault) > 3 else ''}. Put them back (a relative --data-dir counts from the folder "
                "in which the training was started)."
            )


def _missing(path: Path) -> str:
    """Say that a photo is missing, and whether it is there with its ending in other letters."""
    for suffix in (path.suffix.lower(), path.suffix.upper()):
        if path.suffix and path.with_suffix(suffix).is_file():
            return f"missing: {path.with_suffix(suffix).name} is there instead"
    return "missing"


def _mark_duplicates(checked: pd.DataFrame, corrections: set[str]) -> None:
    """Fill in ``reason`` for photos whose path or bytes are there more than once; correct labels."""
    nearest_to_test = {"test": 0, "validation": 1, "train": 2}
    readable = checked[checked["reason"].isna()]
    for _, twins in readable[readable.duplicated("sha256", keep=False)].groupby("sha256", sort=False):
        corrected = twins[twins["image_path"].isin(corrections)]
        if corrected["label"].nunique() != 1 and twins["label"].nunique() > 1:
            labels = ", ".join(sorted(twins["label"].unique()))
            checked.loc[twins.index, "reason"] = f"same bytes under several labels: {labels}"
            continue
        place = {
            row: (nearest_to_test.get(checked.at[row, "split"], 3), row not in corrected.index, row)
            for row in twins.index
        }
        order = sorted(place, key=lambda row: place[row])
        right = None if corrected.empty else corrected["label"].iloc[0]
        if right is not None:
            checked.at[order[0], "label"] = right
        first = checked.loc[order[0]]
        for row in order[1:]:
            twin = checked.loc[row]
            if twin["image_path"] == first["image_path"]:
                reason = f"listed again (also in {first['split']})"
            elif right is not None and twin["label"] != right:
                reason = f"its label was corrected to {right}"
            elif twin["split"] != first["split"]:
                reason = f"same bytes as {first['image_path']}, which is in {first['split']}"
            else:
                reason = f"same bytes as {first['image_path']}"
            checked.at[row, "reason"] = reason
