"""Whether a retraining should go on from the version before, or begin afresh: a tenth of the photos arrives later.

    python bench/retraining.py [--data DIR] [--classes 10] [--photos 60] [--seeds 7 8]

Prints top-1 on the same test photos and the seconds of the training alone (export included), by `trainer train`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRAINER = Path(sys.executable).with_name("trainer")


def main() -> None:
    """Print a line for each way and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("POINTER_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default, help="folder with food-101 (default: %(default)s)")
    parser.add_argument("--architecture", default="efficientnet_lite0")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--photos", type=int, default=60, help="of each class, for training")
    parser.add_argument("--fine-tune-epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8])
    options = parser.parse_args()
    print(f"{options.architecture}, {options.classes} classes, {options.photos} training photos a class")
    print("seed  way             top-1  seconds")
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            measure(options, seed, Path(folder))


def measure(options: argparse.Namespace, seed: int, folder: Path) -> None:
    """Train on nine tenths, then on all of the photos: from there on, and afresh."""
    root = options.data / "food-101"
    rng = random.Random(seed)
    lists = {split: (root / "meta" / f"{split}.txt").read_text().split() for split in ("train", "test")}
    labels = sorted(rng.sample(sorted({name.split("/")[0] for name in lists["train"]}), options.classes))
    rows: list[tuple[str, str, str, bool]] = []
    for label in labels:
        chosen = [name for name in lists["train"] if name.startswith(f"{label}/")][: options.photos]
        rng.shuffle(chosen)
        rows += [
            (f"images/{name}.jpg", label, "train", number >= len(chosen) // 10) for number, name in enumerate(chosen)
        ]
        rows += [(f"images/{name}.jpg", label, "test", True) for name in lists["test"] if name.startswith(f"{label}/")]
    tables = {}
    for name in ("before", "after"):
        tables[name] = folder / f"{name}.csv"
        with tables[name].open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("image_path", "label", "split"))
            writer.writerows(row[:3] for row in rows if row[3] or name == "after")
    train(options, root, tables["before"], folder / "first", seed, "nine tenths")
    train(options, root, tables["after"], folder / "warm", seed, "warm", "--start", folder / "first/bundle")
    train(options, root, tables["after"], folder / "afresh", seed, "afresh")


def train(
    options: argparse.Namespace, root: Path, table: Path, run: Path, seed: int, way: str, *more: str | Path
) -> None:
    """Train once and print what came of it."""
    began = time.perf_counter()
    command = [
        TRAINER, "train", "--dataset", "csv", "--csv", table, "--data-dir", root, "--architecture",
        options.architecture, "--fine-tune-epochs", options.fine_tune_epochs, "--seed", seed, "--variant", "float32",
        "--no-report", "--run", run, *more,
    ]  # fmt: skip
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    figures = json.loads((run / "bundle/report/test.json").read_text())
    print(f"{seed:>4}  {way:<14}  {figures['top_1']:.1%}  {time.perf_counter() - began:>7.0f}", flush=True)


if __name__ == "__main__":
    main()
