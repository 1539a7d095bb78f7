"""Accepted corrections as a training takes them: their photos, and a table of paths and labels."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from admin_cli.files import write_file
from classifier.errors import InvalidRequest
from classifier.registry.rules import Registry
from classifier.traffic.corrections import Found
from classifier.traffic.feedback import Feedback

ENDINGS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}


@dataclass(frozen=True)
class Exported:
    """What was written of accepted corrections."""

    photos: int
    without_photo: int
    ids: tuple[str, ...]
    found: Found
    """All that there are, also those that cannot be read."""


def write_accepted(registry: Registry, folder: Path) -> Exported:
    """Write the photos of accepted corrections, and ``corrections.csv``: ``image_path``, ``label``, ``split``.

    The table comes last: killed at any moment it is that of before or of now, and every photo that it names is whole.

    Raises:
        InvalidRequest: the folder cannot be written.
    """
    desk = Feedback(registry.store, registry.model)
    rows, ids, without = [], [], 0
    try:
        found = desk.found()
        for case in found.cases:
            if case.status != "accepted":
                continue
            photo = desk.photo(case) if case.label else None
            if photo is None:
                without += 1
                continue
            ending = next((each for start, each in ENDINGS.items() if photo.startswith(start)), ".photo")
            name = f"{case.correction.id}{ending}"
            write_file(folder / name, photo)
            rows.append((name, case.label, "train"))
            ids.append(case.correction.id)
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("image_path", "label", "split"))
        writer.writerows(rows)
        write_file(folder / "corrections.csv", table.getvalue().encode())
    except OSError as error:
        raise InvalidRequest(f"Expected a folder that can be written; {error.filename}: {error.strerror}.") from error
    return Exported(len(rows), without, tuple(sorted(ids)), found)
