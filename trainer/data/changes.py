"""What has changed in a data set since an earlier version was made of it, by the photos' hashes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from classifier.errors import NotFound
from classifier.registry.manifest import PHOTOS_FILE

KINDS = ("added", "removed", "relabelled")


def changes_since(version: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Return how many photos of each class were added, removed, or have another label now.

    Args:
        version: the folder of a version, or of a bundle.
        frame: the photos of today: ``sha256``, ``label``, ``split``.

    Returns:
        ``added``, ``removed``, ``relabelled`` by label, of the labels with any change; a photo that was relabelled
        counts under the label that it has now.

    Raises:
        NotFound: the version does not tell what it was made of; earlier releases kept no such table.
    """
    table = version / PHOTOS_FILE
    if not table.is_file():
        raise NotFound(
            f"Expected {PHOTOS_FILE} in {version}, which tells what it was made of; a release before kept none."
        )
    before = pd.read_csv(table, dtype=str, keep_default_na=False).drop_duplicates("sha256").set_index("sha256")["label"]
    after = frame.drop_duplicates("sha256").set_index("sha256")["label"]
    both = before.index.intersection(after.index)
    moved = both[(before[both] != after[both]).to_numpy()]
    labels = {
        "added": after[after.index.difference(before.index)],
        "removed": before[before.index.difference(after.index)],
        "relabelled": after[moved],
    }
    counts = pd.DataFrame({kind: labels[kind].value_counts() for kind in KINDS}).fillna(0).astype(int)
    return counts.sort_index()


def lines_of(changes: pd.DataFrame) -> list[str]:
    """Return a line for each class: ``pizza: 12 added, 3 relabelled``."""
    return [
        f"{label}: {', '.join(f'{row[kind]:,} {kind}' for kind in KINDS if row[kind])}"
        for label, row in changes.iterrows()
    ]
