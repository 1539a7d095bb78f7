"""What the temperature is worth, fitted on validation photos alone and by cross-validation on training photos too.

    python bench/calibration.py [--data DIR] [--weights DIR] [--cache DIR] [--runs RUN ...]

Without --runs: heads trained on the frozen features of MobileNetV2 as `trainer train` does, on both shared data sets,
eight draws of the validation photos each. With --runs: fine-tuned networks, whose photos that were not trained on are
drawn eight times into validation photos, as many as the run has, and photos to measure on; there the training photos
can help only by the features of the backbone as it was before (``cross-validation``, ``both``). Each row has the
expected calibration error in percent, what is left of it beyond chance, and of that the worst draw. ``best`` is
fitted on the photos that it is measured on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from bench import near_ood  # noqa: E402

DRAWS = 8
Array = NDArray[np.floating[Any]]
Truth = NDArray[np.int32]
Draws = list[Mapping[str, tuple[float, Array, Truth]]]
"""Temperature, logits and truth of each way, a draw each."""


def main() -> None:
    """Print a table a data set, or a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = near_ood.SHARED
    data = os.environ.get("POINTER_DATA", shared / "data")
    weights = os.environ.get("POINTER_WEIGHTS", shared / "weights")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder with food-101 and dog-breed")
    parser.add_argument("--weights", type=Path, default=Path(weights), help="folder with the weights")
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench", help="where features are kept")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="folders of fine-tuned runs")
    options = parser.parse_args()
    for run in options.runs:
        show(str(run), of_run(run, options.cache))
    for dataset in () if options.runs else ("food-101", "dog-breed"):
        options.dataset = dataset
        show(f"{dataset}, heads on MobileNetV2", of_heads(*near_ood.cached(options, "mobilenet_v2")))


def show(title: str, draws: Draws) -> None:
    """Print how honest the probabilities of each temperature are, over all draws."""
    from trainer.metrics.calibration import calibration_error, log_loss

    print(title)
    print("fitted on             temperature    ECE  beyond chance (worst)  log-loss  too sure")
    for name in draws[0]:
        found = []
        for draw in draws:
            temperature, logits, truth = draw[name]
            tempered = logits.astype(np.float64) / temperature
            chances = np.exp(tempered - tempered.max(axis=1, keepdims=True))
            chances /= chances.sum(axis=1, keepdims=True)
            error = calibration_error(chances, truth)
            sure = chances.max(axis=1).mean() - (chances.argmax(axis=1) == truth).mean()
            found.append((temperature, error.error, error.beyond, log_loss(logits, truth, temperature), sure))
        mean, spread = np.mean(found, axis=0), np.std(found, axis=0)
        worst = max(each[2] for each in found)
        print(
            f"{name:<20} {mean[0]:6.3f} ± {spread[0]:.3f}  {mean[1]:5.1%}  {mean[2]:9.1%} ({worst:.1%})"
            f"{mean[3]:15.3f}  {mean[4] * 100:+6.1f} ± {spread[4] * 100:.1f}"
        )
    print(flush=True)


def of_heads(features: Array, labels: NDArray[Any], splits: NDArray[Any]) -> Draws:
    """Return temperature, test logits and truth of each way, a draw of the validation photos each."""
    from trainer.export.temperature import of_frozen_features, of_validation
    from trainer.metrics.calibration import fit_temperature

    numbers = np.unique(labels, return_inverse=True)[1].astype(np.int32)
    test = splits == "test"
    known = np.flatnonzero(~test)
    found: Draws = []
    for seed in range(DRAWS):
        parts = drawn(known, numbers, round(len(known) / 10), seed)
        own = {name: features[rows] for name, rows in parts.items()}
        truth = {name: numbers[rows] for name, rows in parts.items()}
        head = near_ood.trained_head(own, truth)
        validation, tested = head(own["validation"]), head(features[test])
        crossed = of_frozen_features(
            (own["train"], truth["train"]), (own["validation"], truth["validation"]), validation
        )
        temperatures = {
            "nothing": 1.0,
            "validation": of_validation(validation, truth["validation"]).value,
            crossed.fitted_on: crossed.value,
            "best": fit_temperature(tested, numbers[test]),
        }
        found.append({name: (each, tested, numbers[test]) for name, each in temperatures.items()})
    return found


def of_run(path: Path, cache: Path) -> Draws:
    """Return the same of a fine-tuned network, whose photos that were not trained on are drawn anew."""
    from trainer.export.temperature import cross_validated
    from trainer.metrics.calibration import fit_temperature
    from trainer.networks.ood_score import regressed

    logits, frozen, numbers, splits = looked_at(path, cache)
    training = splits == "train"
    found: Draws = []
    held, count = np.flatnonzero(~training), int((splits == "validation").sum())
    for seed in range(DRAWS):
        parts = drawn(held, numbers, count, seed)
        validation, test = parts["validation"], parts["train"]
        rows = np.concatenate([np.flatnonzero(training), validation])
        given = regressed(frozen[training], numbers[training], frozen[validation])
        wanted, given = (each - each.mean(axis=1, keepdims=True) for each in (logits[validation], given))
        crossed = cross_validated(frozen[rows], numbers[rows]) * np.float32((wanted * given).sum() / (given**2).sum())
        both = np.concatenate([logits[validation], crossed[: training.sum()]])
        temperatures = {
            "nothing": 1.0,
            "validation": fit_temperature(logits[validation], numbers[validation]),
            "cross-validation": fit_temperature(crossed, numbers[rows]),
            "both": fit_temperature(both, np.concatenate([numbers[validation], numbers[training]])),
            "best": fit_temperature(logits[test], numbers[test]),
        }
        found.append({name: (each, logits[test], numbers[test]) for name, each in temperatures.items()})
    return found


def looked_at(path: Path, cache: Path) -> tuple[NDArray[np.float32], NDArray[np.float32], Truth, NDArray[Any]]:
    """Return logits, pooled features of the backbone as it was frozen, class numbers and splits of a run's photos."""
    from rich.console import Console

    from trainer.data.loaders import class_targets
    from trainer.export.ood_selection import FeatureExtractor
    from trainer.networks.backbones import build_backbone
    from trainer.run.starting import open_run
    from trainer.training.trained import Trained, load_trained

    kept = cache / f"calibration-{path.name}.npz"
    run, config = open_run(path)
    trained = load_trained(run, config)
    frame = trained.photos.frame
    numbers, splits = class_targets(frame["label"], trained.labels, one_hot=False), frame["split"].to_numpy(str)
    if not kept.is_file():
        quiet, rows = Console(quiet=True), np.arange(len(frame))
        before = Trained(build_backbone(config.network), trained.head, trained.labels, trained.photos)
        logits, frozen = (FeatureExtractor(each)(trained.photos.source, rows, quiet, "") for each in (trained, before))
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, logits=logits.logits, frozen=frozen.pooled)
    with np.load(kept) as saved:
        return saved["logits"], saved["frozen"], numbers, splits


def drawn(rows: NDArray[np.intp], numbers: Truth, count: int, seed: int) -> dict[str, NDArray[np.intp]]:
    """Draw `count` rows as validation photos, as many of each class as of another."""
    from sklearn.model_selection import train_test_split

    train, validation = train_test_split(rows, test_size=count, random_state=seed, stratify=numbers[rows])
    return {"train": train, "validation": validation}


if __name__ == "__main__":
    main()
