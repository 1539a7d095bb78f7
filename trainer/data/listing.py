"""What a data set holds by its names and tables, in one form: rows that can be used, and those that cannot."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from classifier.labels import folded, trimmed
from classifier.wording import plural
from trainer.data.walking import count_unlisted, files_beside

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""How folders and tables call the splits, in lower case."""
COLUMNS = ["image_path", "label", "split"]
TABLE = "photos.csv"
"""The table of ``--dataset csv`` where no other is named: what `trainer upload` writes beside the photos."""
Row = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class Listing:
    """What a data set holds by its names and tables."""

    frame: pd.DataFrame
    """``image_path``, ``label``, ``split``; ``split`` may be empty (None) where the layout has none."""
    left_out: pd.DataFrame
    """``image_path``, ``label``, ``split``, ``reason``: files that no photo of a class can be made of."""
    not_listed: int = 0
    """How many photos lie where the listed ones do, but are in no table."""
    notes: tuple[str, ...] = ()
    """What was assumed or passed over, each in a line."""
    first: Path | None = None
    """Where the first photo of a table is looked for."""


def listing_of_table(root: Path, rows: list[Row], notes: Iterable[str | None]) -> Listing:
    """Return the listing of a table's rows, of which those without a photo or a label are left out."""
    whole, left_out = [], []
    for path, label, split in rows:
        if path and label and trimmed(label):
            whole.append((path, label, split))
        else:
            left_out.append((path, label, split, "no label" if path else "no path"))
    several = sorted({label for _, label, _ in whole if label and "|" in label.strip("|")})
    if several:
        notes = [
            *notes,
            f"warning: {several[0]!r} looks like several labels; a photo has one: this is taken for it",
        ]
    paths = [path for path, _, _ in whole]
    return listing_of(
        whole,
        left_out,
        count_unlisted(files_beside(root, paths), paths),
        [note for note in notes if note],
        root / whole[0][0] if whole else None,
    )


def listing_of(
    rows: Sequence[Row],
    left_out: Iterable[tuple[str | None, ...]] = (),
    not_listed: int = 0,
    notes: Iterable[str] = (),
    first: Path | None = None,
) -> Listing:
    """Return a listing, whose labels are in one form; rows whose path cannot be kept in a table are left out."""
    kept, dropped = [], list(left_out)
    for path, label, split in rows:
        label = None if label is None else trimmed(label)
        reason = _why_not(path, "name") or (None if label is None else _why_not(label, "label"))
        if reason:
            dropped.append((path, label, split, reason))
        else:
            kept.append((path, label, split))
    dropped = [(*(None if text is None else printable(text) for text in row),) for row in dropped]
    return Listing(
        pd.DataFrame(kept, columns=COLUMNS, dtype=object),
        pd.DataFrame(dropped, columns=[*COLUMNS, "reason"], dtype=object),
        not_listed,
        (*notes, *_alike([label for _, label, _ in kept if label])),
        first,
    )


def _alike(labels: Sequence[str]) -> list[str]:
    """Warn of labels that differ only in case, in white space or in what is between their words."""
    counts = Counter(labels)
    groups: dict[str, list[str]] = {}
    for label in sorted(counts):
        groups.setdefault(folded(label), []).append(label)
    return [
        "warning: labels nearly the same: "
        + ", ".join(f"{label!r} ({plural(counts[label], 'photo')})" for label in group)
        + "; each is a class of its own"
        for group in groups.values()
        if len(group) > 1
    ]


def _why_not(text: str, what: str) -> str | None:
    """Return why a name or label cannot be kept in a table and read again; None where it can."""
    if text.isprintable():
        return None
    if any(unicodedata.category(character) == "Cs" for character in text):
        return f"its {what} is not UTF-8"
    if any(unicodedata.category(character) == "Cc" for character in text):
        return f"a control character in its {what}"
    return None


def printable(text: str) -> str:
    """Write bytes that are not UTF-8, and characters that move the cursor, as escapes."""
    plain = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) == "Cc" else character
        for character in plain
    )
