"""Data sets for the trainer's tests: a few small photos in each layout, written on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"apple": (200, 40, 40), "leaf": (40, 170, 60), "sky": (60, 90, 210)}


def write_photo(path: Path, colour: tuple[int, int, int], seed: int, side: int = 40) -> None:
    """A PNG or JPEG, by its ending: a colour with noise, a bright square at a random place; no two are alike."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(np.array(colour) * 0.5, 18, (side, side, 3)), 0, 255)
    left, top = rng.integers(0, side // 2, 2)
    pixels[top : top + side // 2, left : left + side // 2] = np.clip(
        rng.normal(colour, 12, (side // 2, side // 2, 3)), 0, 255
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def food_101(root: Path, train: int = 12, test: int = 4) -> Path:
    """Food-101's layout: three classes."""
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for number, (label, colour) in enumerate(COLOURS.items()):
        for index in range(train + test):
            name = f"{label}/{1000 * number + index}"
            write_photo(root / "images" / f"{name}.jpg", colour, 1000 * number + index)
            lists["train" if index < train else "test"].append(name)
    (root / "meta").mkdir()
    for split, names in lists.items():
        (root / "meta" / f"{split}.txt").write_text("\n".join(names) + "\n")
    (root / "meta" / "classes.txt").write_text("\n".join(COLOURS) + "\n")
    return root


def dog_breed(root: Path, photos: int = 10) -> Path:
    """The Kaggle Dog Breed layout: three classes."""
    rows = ["id,breed"]
    for number, (label, colour) in enumerate(COLOURS.items()):
        for index in range(photos):
            write_photo(root / "train" / f"{label}{index:03}.jpg", colour, 1000 * number + index)
            rows.append(f"{label}{index:03},{label}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def folder(root: Path, photos: int = 10, prefix: str = "") -> Path:
    """A folder a class, below `prefix` if given."""
    for number, (label, colour) in enumerate(COLOURS.items()):
        for index in range(photos):
            seed = sum(map(ord, prefix)) + 1000 * number + index
            write_photo(root / prefix / label / f"{index}.png", colour, seed)
    return root
