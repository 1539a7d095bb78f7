"""The photos of a data frame: checked once, decoded once, and kept as pixels while memory allows."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifier.errors import PointerError
from classifier.manifest import InputSpec
from classifier.preprocessing import Limits, load_array

TRAINING_LIMITS = Limits(max_bytes=100 * 2**20, max_pixels=200_000_000)


class PhotoSource:
    """Photos by row number, as uint8 arrays [H, W, 3] made by the same code that serves them.

    Args:
        paths: the photos, absolute.
        spec: the model's input size and resize rule.
        cache_bytes: how many bytes of decoded pixels are kept; photos beyond are decoded each time. The default is
            a quarter of the machine's memory.

    Safe to use from several threads.
    """

    def __init__(self, paths: list[Path], spec: InputSpec, *, cache_bytes: int | None = None) -> None:
        self.paths = paths
        self.spec = spec
        self._room = _quarter_of_memory() if cache_bytes is None else cache_bytes
        self._pixels: dict[int, NDArray[np.uint8]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.paths)

    def array(self, row: int) -> NDArray[np.uint8]:
        """Return the pixels of one photo.

        Raises:
            InvalidImage, TooLarge, OSError: the photo cannot be read.
        """
        pixels = self._pixels.get(row)
        if pixels is None:
            pixels = self.decode(row, self.paths[row].read_bytes())
        return pixels

    def decode(self, row: int, data: bytes) -> NDArray[np.uint8]:
        """Decode a photo whose bytes are at hand, and keep its pixels if there is room."""
        pixels = load_array(data, self.spec, TRAINING_LIMITS)
        with self._lock:
            if row not in self._pixels and self._room >= pixels.nbytes:
                self._room -= pixels.nbytes
                self._pixels[row] = pixels
        return pixels

    def select(self, rows: NDArray[np.intp]) -> PhotoSource:
        """Return a source of these rows only, renumbered from 0, which keeps the pixels decoded so far."""
        chosen = PhotoSource([self.paths[row] for row in rows], self.spec, cache_bytes=0)
        chosen._pixels = {new: self._pixels[old] for new, old in enumerate(rows.tolist()) if old in self._pixels}
        chosen._room = self._room
        return chosen


@dataclass(frozen=True)
class CheckedPhotos:
    """A data frame whose every photo can be read, and the table of those that were left out."""

    frame: pd.DataFrame
    """``image_path``, ``label``, ``split``, ``sha256``; one row a photo."""
    rejected: pd.DataFrame
    """``image_path``, ``label``, ``split``, ``reason``."""
    source: PhotoSource
    """Row i is the photo of the frame's row i."""
    fingerprint: str
    """sha256 over every path, label, split and content."""


def check_photos(
    frame: pd.DataFrame,
    folder: Path,
    spec: InputSpec,
    *,
    cache_bytes: int | None = None,
    workers: int | None = None,
    on_photo: Callable[[], None] = lambda: None,
) -> CheckedPhotos:
    """Read and decode every photo once; separate those that must not be trained or tested on, each with its reason.

    Rejected are: missing and unreadable photos; a path listed again; the same bytes again under the same label; the
    same bytes under two labels (all of them: nobody knows which is right); and the same bytes in two splits, which
    would leak (the one in the split nearer to the final test stays).

    Args:
        frame: ``image_path`` (relative to `folder`), ``label``, ``split``.
        folder: the data folder.
        spec: the size at which pixels are kept for later.
        cache_bytes: see `PhotoSource`.
        workers: how many threads decode; None means one a CPU.
        on_photo: called after each photo, from any thread.
    """
    source = PhotoSource([folder / path for path in frame["image_path"]], spec, cache_bytes=cache_bytes)

    def look(row: int) -> tuple[str | None, str | None]:
        try:
            data = source.paths[row].read_bytes()
            source.decode(row, data)
            return hashlib.sha256(data).hexdigest(), None
        except FileNotFoundError:
            return None, "missing"
        except (PointerError, OSError) as error:
            return None, f"unreadable: {error}"
        finally:
            on_photo()

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        looks = list(pool.map(look, range(len(frame))))
    checked = frame.assign(sha256=[digest for digest, _ in looks], reason=[reason for _, reason in looks])
    checked["reason"] = checked["reason"].astype(object).where(checked["reason"].notna(), None)
    _mark_duplicates(checked)
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


def _mark_duplicates(checked: pd.DataFrame) -> None:
    """Fill in ``reason`` for photos whose path or bytes are there more than once."""
    nearest_to_test = {"test": 0, "validation": 1, "train": 2}
    readable = checked[checked["reason"].isna()]
    for _, twins in readable[readable.duplicated("sha256", keep=False)].groupby("sha256", sort=False):
        if twins["label"].nunique() > 1:
            labels = ", ".join(sorted(twins["label"].unique()))
            checked.loc[twins.index, "reason"] = f"same bytes under several labels: {labels}"
            continue
        order = sorted(twins.index, key=lambda row: (nearest_to_test[checked.at[row, "split"]], row))
        first = checked.loc[order[0]]
        for row in order[1:]:
            twin = checked.loc[row]
            if twin["image_path"] == first["image_path"]:
                reason = f"listed again (also in {first['split']})"
            elif twin["split"] != first["split"]:
                reason = f"same bytes as {first['image_path']}, which is in {first['split']}"
            else:
                reason = f"same bytes as {first['image_path']}"
            checked.at[row, "reason"] = reason


def _quarter_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
