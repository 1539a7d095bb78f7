"""The contact sheet of a data set: random photos of each class, to be looked at before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier.errors import InvalidRequest
from classifier.photo.preprocessing import decode
from trainer.data.checks import CheckedPhotos
from trainer.data.source import TRAINING_LIMITS
from trainer.report import mosaics
from trainer.report.style import drawable, save

SIDE = 160
"""Pixels of a photo's longer side."""
PAGE_CLASSES = 25
"""Rows of one picture: of more classes there are several."""
TITLE = 80
"""Characters over a row."""
SUFFIXES = (".jpg", ".png")


def draw_contact_sheet(photos: CheckedPhotos, out: Path, each: int, seed: int) -> list[Path]:
    """Draw a row a class: its name, how many photos it has, and some of them drawn at random, of any split.

    The same seed draws the same photos of a class, whatever other classes there are.

    Args:
        photos: of the data set; at least one.
        out: a ``.jpg`` or ``.png``; of more than `PAGE_CLASSES` classes ``NAME-1.jpg``, ``NAME-2.jpg`` and so on.
        each: most photos of a class.
        seed: of the draw.

    Returns:
        The files that were written.

    Raises:
        InvalidRequest: another kind of file, or no photo can be used.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise InvalidRequest(f"Expected --out to end in {' or '.join(SUFFIXES)}; received {out}.")
    labels = photos.labels
    if not labels:
        raise InvalidRequest("Expected photos to draw; none can be used. The reasons are above.")
    names = drawable(labels, TITLE)
    truth = photos.frame["label"].to_numpy()
    pages = [range(first, min(first + PAGE_CLASSES, len(labels))) for first in range(0, len(labels), PAGE_CLASSES)]
    files = [out] if len(pages) == 1 else [out.with_stem(f"{out.stem}-{number}") for number in range(1, len(pages) + 1)]
    for page, file in zip(pages, files, strict=True):
        rows = []
        for number in page:
            own = np.flatnonzero(truth == labels[number])
            drawn = np.random.default_rng(seed).permutation(own)[:each]
            rows.append((f"{names[number]} ({len(own)})", [_shown(photos.source.paths[row]) for row in drawn]))
        save(mosaics.photo_rows(rows), file)
    return files


def _shown(path: Path) -> NDArray[np.uint8]:
    return np.asarray(decode(path.read_bytes(), width=SIDE, height=SIDE, limits=TRAINING_LIMITS).display(SIDE))
