"""Class subsets: which labels and how many photos of each a run takes of a data set."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from classifier.errors import InvalidRequest
from classifier.labels import folded, trimmed
from trainer.data.listing import Listing
from trainer.run.sections import DataConfig


def chosen_classes(labels: Iterable[str], config: DataConfig) -> list[str]:
    """Return the labels that a configuration asks for, sorted; all where it asks for none in particular.

    ``first_classes`` counts in alphabetical order, which is that of Food-101's official ``classes.txt``.
    ``random_classes`` draws with ``seed``: the same seed gives the same labels, and those of a smaller number are
    among those of a larger one.

    Args:
        labels: the labels of the data set.
        config: its ``classes``, ``first_classes``, ``random_classes`` and ``seed``.

    Raises:
        InvalidRequest: more than one of the three is given, a label is unknown, there are not so many, or fewer than
            two are asked for.
    """
    known = sorted(set(labels))
    config = replace(config, classes=tuple(trimmed(label) for label in config.classes))
    asked = {
        "--classes": len(set(config.classes)) if config.classes else None,
        "--first-classes": config.first_classes,
        "--random-classes": config.random_classes,
    }
    given = {option: count for option, count in asked.items() if count is not None}
    if not given:
        return known
    if len(given) > 1:
        raise InvalidRequest(f"Expected one of {', '.join(asked)}; received {' and '.join(given)}.")
    ((option, count),) = given.items()
    if count < 2:
        raise InvalidRequest(f"Expected at least two classes with {option}; received {count}.")
    unknown = sorted(set(config.classes) - set(known))
    if unknown:
        raise InvalidRequest(f"Expected labels of the data set in {option}; received {_explained(unknown, known)}.")
    if count > len(known):
        raise InvalidRequest(f"Expected at most {len(known)} with {option}, as many as there are; received {count}.")
    if config.classes:
        return sorted(set(config.classes))
    if config.first_classes is not None:
        return known[:count]
    # RandomState's stream is frozen: another release of NumPy draws the same.
    return sorted(known[index] for index in np.random.RandomState(config.seed).permutation(len(known))[:count])


def has_subset(config: DataConfig) -> bool:
    """Return whether a configuration asks for some of the labels only."""
    return bool(config.classes) or config.first_classes is not None or config.random_classes is not None


def without_subset(config: DataConfig) -> DataConfig:
    """Return the configuration with all labels and photos."""
    return replace(config, classes=(), first_classes=None, random_classes=None, max_per_class=None)


def keep_classes(listing: Listing, classes: Collection[str]) -> Listing:
    """Return a listing without the photos of other labels; files that belong to no class are still reported."""
    others = set(listing.frame["label"]).difference(classes)
    frame, left_out = (table[~table["label"].isin(others)] for table in (listing.frame, listing.left_out))
    return replace(listing, frame=frame.reset_index(drop=True), left_out=left_out.reset_index(drop=True))


def at_most(frame: pd.DataFrame, count: int | None, seed: int) -> pd.DataFrame:
    """Return at most `count` photos of each class in each split, drawn with `seed`; None keeps all.

    A class's draw does not depend on the other classes, and a smaller `count` draws from what a larger one does.

    Args:
        frame: ``image_path``, ``label``, ``split``, each row in its split already.
        count: of photos.
        seed: of the draw.

    Raises:
        InvalidRequest: `count` is less than one.
    """
    if count is None:
        return frame
    if count < 1:
        raise InvalidRequest(f"Expected --max-per-class to be 1 or more; received {count}.")
    kept = [
        rows.index[np.random.RandomState(seed).permutation(len(rows))[:count]]
        for _, rows in frame.groupby(["label", "split"], sort=True)
    ]
    return frame.loc[np.sort(np.concatenate(kept))].reset_index(drop=True) if kept else frame


def _explained(unknown: list[str], known: list[str]) -> str:
    """Name unknown labels, each with those that it may mean."""
    alike = {folded(label): label for label in known}
    parts = []
    for label in unknown[:5]:
        close = [alike[match] for match in difflib.get_close_matches(folded(label), alike, n=3)]
        parts.append(f"{label!r} (close: {', '.join(close)})" if close else repr(label))
    if any(part.endswith(")") for part in parts):
        return ", ".join(parts)
    return f"{', '.join(parts)}; it has {', '.join(known[:10])}{', ...' if len(known) > 10 else ''}"
