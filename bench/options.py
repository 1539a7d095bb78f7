"""Which options of a training earn their place: each alone beside the defaults, on validation photos, several seeds.

    python bench/options.py [--seeds 7,8,9] [--only none,cutmix] [--datasets food-101,dog-breed] [--image-size 160]

MobileNetV2 is fine-tuned on the photos of POINTER_DATA with the weights of POINTER_WEIGHTS, or where --data and
--weights say. Three tenths of the training photos validate. A line a run has the log-loss and the share right of its
best epoch by the calibrated log-loss, as `log.csv` has it; the table has the mean difference to the run without the
option of the same seed, and the standard error of that mean over the seeds. Test photos decide nothing and are not
told. The dogs are ten breeds drawn with the seed, trained for half as long.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from math import sqrt
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parent.parent
TRAINER = Path(sys.executable).parent / "trainer"
NONE = "none"
CHOICES = {
    NONE: (),
    "average-epochs": ("--average-epochs", "2"),
    "cutmix": ("--cutmix", "1.0"),
    "mixup": ("--mixup", "0.2"),
    "randaugment": ("--randaugment", "2"),
    "small-first": ("--first-image-size", "96"),
    "last-resolution": ("--first-image-size", "128", "--image-size-schedule", "constant"),
    "label-smoothing": ("--label-smoothing", "0.1"),
    "strength": ("--augmentation-strength", "1.7"),
    "all-layers": ("--fine-tune-layers", "-1", "--layer-decay", "0.8", "--fine-tune-learning-rate", "2e-4"),
}
DATASETS = {"food-101": (), "dog-breed": ("--random-classes", "10", "--fine-tune-epochs", "6")}
Figures = tuple[float, float]
"""Calibrated log-loss and share right of the validation photos."""


def main() -> None:
    """Print a line a run, and a table a data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = ROOT.parent / "shared"
    parser.add_argument("--seeds", default="7,8,9", help="default: %(default)s")
    parser.add_argument("--only", default=",".join(CHOICES), help="default: %(default)s")
    parser.add_argument("--datasets", default=",".join(DATASETS), help="default: %(default)s")
    parser.add_argument("--image-size", type=int, default=160, help="default: %(default)s")
    parser.add_argument("--data", type=Path, default=os.environ.get("POINTER_DATA", shared / "data"))
    parser.add_argument("--weights", type=Path, default=os.environ.get("POINTER_WEIGHTS", shared / "weights"))
    options = parser.parse_args()
    names = list(dict.fromkeys([NONE, *options.only.split(",")]))
    if unknown := set(names) - set(CHOICES):
        parser.error(f"expected --only among {', '.join(CHOICES)}; received {', '.join(sorted(unknown))}")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    for dataset in options.datasets.split(","):
        found: dict[str, list[Figures]] = {}
        for seed in seeds:
            for name in names:
                figures = trained(options, dataset, name, seed)
                found.setdefault(name, []).append(figures)
                print(f"{dataset} {name}, seed {seed}: log-loss {figures[0]:.3f}, right {figures[1]:.1%}", flush=True)
        print("\n".join(["", *table(dataset, found), ""]), flush=True)


def trained(options: argparse.Namespace, dataset: str, name: str, seed: int) -> Figures:
    """Train once, in a folder that is removed.

    Raises:
        SystemExit: the training failed; its output is the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [
            TRAINER, "train", "--dataset", dataset, "--data-dir", options.data / dataset,
            "--architecture", "mobilenet_v2",
            "--weights", options.weights / "mobilenet_v2_1.0_224_no_top.weights.h5",
            "--image-size", options.image_size, "--validation-share", 0.3, *DATASETS[dataset], *CHOICES[name],
            "--seed", seed, "--variant", "float32", "--no-report", "--run", run,
        ]  # fmt: skip
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        with (run / "log.csv").open() as file:
            return best(list(csv.DictReader(file)))


def best(log: list[dict[str, str]]) -> Figures:
    """Return the figures of the best epoch of fine-tuning."""
    epochs = [
        (float(row["val_calibrated_log_loss"]), float(row["val_accuracy"]))
        for row in log
        if row["phase"] == "fine-tuning"
    ]
    return min(epochs)


def table(dataset: str, found: dict[str, list[Figures]]) -> list[str]:
    """Return the lines of a table."""
    losses, right = zip(*found[NONE], strict=True)
    lines = [
        f"| {dataset} | log-loss | right |",
        "| --- | --- | --- |",
        f"| {NONE} | {mean(losses):.3f} | {mean(right):.1%} |",
    ]
    for name, rows in found.items():
        if name != NONE:
            pairs = list(zip(rows, found[NONE], strict=True))
            loss, share = ([each[at] - of[at] for each, of in pairs] for at in (0, 1))
            lines.append(f"| {name} | {shift(loss, '+.3f')} | {shift([100 * each for each in share], '+.1f')} points |")
    return lines


def shift(differences: list[float], form: str) -> str:
    """Return a mean and its standard error."""
    error = f" ± {stdev(differences) / sqrt(len(differences)):{form[1:]}}" if len(differences) > 1 else ""
    return f"{mean(differences):{form}}{error}"


if __name__ == "__main__":
    main()
