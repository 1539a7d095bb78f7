"""The sample data set: a few hundred drawn food photos in Food-101's layout, with the box of each object."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from classifier.errors import InvalidSetting
from classifier.settings import available_cpus
from trainer.run.locks import locked
from trainer.samples.foods import FOODS
from trainer.samples.photo import draw

CLASSES: tuple[str, ...] = tuple(sorted(FOODS))
BOXES = "boxes.csv"
BOX_COLUMNS: tuple[str, ...] = ("image_path", "label", "left", "top", "right", "bottom")

_EDITION = 1  # raised whenever the same parameters draw other photos
_MARKER = "samples.json"
_LOCK = ".samples.lock"
_SMALLEST = 48


@dataclass(frozen=True)
class _Parameters:
    photos_per_class: int
    test_per_class: int
    size: int
    seed: int
    edition: int = _EDITION


@dataclass(frozen=True)
class _Photo:
    label: str
    name: str
    split: str
    seed: tuple[int, ...]

    @property
    def path(self) -> str:
        return f"images/{self.label}/{self.name}.jpg"


def generate(
    folder: Path, *, photos_per_class: int = 60, test_per_class: int = 20, size: int = 256, seed: int = 7
) -> pd.DataFrame:
    """Draw the samples into `folder`, unless they are there already, and return its `boxes.csv`.

    Layout: ``images/<class>/<id>.jpg`` of `size` x `size` pixels, ``meta/`` as in Food-101 (`photos_per_class`
    photos of each class for training, `test_per_class` more for testing) and ``boxes.csv`` with the columns
    `image_path` (posix, relative to `folder`), `label`, `left`, `top`, `right`, `bottom`: the box of whole pixels
    around the object, right and bottom exclusive. The same parameters give the same bytes on one machine.

    ``samples.json`` says what was asked for and, as the very last thing, that all of it is there: a folder
    that was left half full is drawn afresh, as is one of other parameters. Raises InvalidSetting for a number out
    of range, and for a folder with anything else in it, which is left as it is.
    """
    parameters = _Parameters(photos_per_class, test_per_class, size, seed)
    _check(parameters)
    if not _is_complete(folder, parameters):
        _check_ours(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / _LOCK):
            if not _is_complete(folder, parameters):  # a rival may have drawn them while this one waited
                _write_all(folder, parameters)
    return read_boxes(folder)


def read_boxes(folder: Path) -> pd.DataFrame:
    """The table of the objects' boxes, as `generate` returned it."""
    return pd.read_csv(folder / BOXES, dtype={"image_path": "str", "label": "str"})


def _check(parameters: _Parameters) -> None:
    least = {"photos_per_class": 1, "test_per_class": 1, "size": _SMALLEST, "seed": 0}
    for name, minimum in least.items():
        value = getattr(parameters, name)
        if value < minimum:
            raise InvalidSetting(f"Expected {name} of at least {minimum} for the samples; received {value}.")


def _check_ours(folder: Path) -> None:
    """Refuse to write among files that are not generated samples: what is there would be deleted."""
    if folder.is_dir():
        # Listed before the marker is read, which a rival writes before all else.
        found = sorted(path.name for path in folder.iterdir() if not path.name.startswith(_LOCK))
        if found and _read_marker(folder) is None:
            raise InvalidSetting(
                f"Expected {folder} to be missing, empty or a folder of generated samples; found {found[0]!r} and no "
                f"{_MARKER}. Choose another folder for the samples."
            )
    elif folder.exists():
        raise InvalidSetting(f"Expected {folder} to be a folder for the samples; it is a file. Choose another one.")


def _write_all(folder: Path, parameters: _Parameters) -> None:
    _write_marker(folder, {"complete": False, "parameters": asdict(parameters)})
    for name in ("images", "meta"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / BOXES).unlink(missing_ok=True)
    photos = _plan(parameters)
    for label in CLASSES:
        (folder / "images" / label).mkdir(parents=True)

    def write(photo: _Photo) -> tuple[int, int, int, int]:
        drawing = draw(photo.label, photo.seed, parameters.size)
        (folder / photo.path).write_bytes(drawing.jpeg())
        return drawing.box

    # Threads, not processes: Pillow and NumPy let go of the interpreter lock, and forking beside TensorFlow may hang.
    with ThreadPoolExecutor(available_cpus()) as pool:
        boxes = list(pool.map(write, photos))
    rows = [(photo.path, photo.label, *box) for photo, box in zip(photos, boxes, strict=True)]
    pd.DataFrame(rows, columns=list(BOX_COLUMNS)).to_csv(folder / BOXES, index=False, lineterminator="\n")
    _write_meta(folder / "meta", photos)
    _write_marker(folder, {"complete": True, "parameters": asdict(parameters), "bytes": _bytes(folder, parameters)})


def _plan(parameters: _Parameters) -> list[_Photo]:
    """Every photo of the data set, sorted by path, with the numbers that it is drawn from."""
    each = parameters.photos_per_class + parameters.test_per_class
    rng = np.random.default_rng(parameters.seed)
    names = rng.choice(3_990_000, each * len(CLASSES), replace=False) + 10_000
    photos = [
        _Photo(
            label,
            str(names[number * each + i]),
            "train" if i < parameters.photos_per_class else "test",
            (parameters.seed, number, i),
        )
        for number, label in enumerate(CLASSES)
        for i in range(each)
    ]
    return sorted(photos, key=lambda photo: photo.path)


def _write_meta(folder: Path, photos: Sequence[_Photo]) -> None:
    folder.mkdir()
    _write_lines(folder / "classes.txt", CLASSES)
    _write_lines(folder / "labels.txt", [label.replace("_", " ").capitalize() for label in CLASSES])
    for split in ("train", "test"):
        members = {
            label: [f"{label}/{photo.name}" for photo in photos if (photo.label, photo.split) == (label, split)]
            for label in CLASSES
        }
        _write_lines(folder / f"{split}.txt", [name for names in members.values() for name in names])
        (folder / f"{split}.json").write_text(json.dumps(members), encoding="utf-8")


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _is_complete(folder: Path, parameters: _Parameters) -> bool:
    marker = _read_marker(folder)
    if marker is None or marker.get("complete") is not True or marker.get("parameters") != asdict(parameters):
        return False
    return marker.get("bytes") == _bytes(folder, parameters)


def _bytes(folder: Path, parameters: _Parameters) -> int | None:
    """The size of everything that was generated, None where a file is missing."""
    meta = [
        f"meta/{name}" for name in ("classes.txt", "labels.txt", "train.txt", "test.txt", "train.json", "test.json")
    ]
    try:
        return sum(
            (folder / name).stat().st_size for name in (BOXES, *meta, *(photo.path for photo in _plan(parameters)))
        )
    except FileNotFoundError:
        return None


def _read_marker(folder: Path) -> dict[str, object] | None:
    try:
        marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def _write_marker(folder: Path, marker: dict[str, object]) -> None:
    draft = folder / f"{_LOCK}.draft"
    draft.write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
    draft.replace(folder / _MARKER)
