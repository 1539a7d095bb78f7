"""What runs have come to, beside each other: read from their folders, without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from classifier.errors import NotFound, PointerError
from classifier.registry.manifest import MANIFEST_FILE, Manifest
from classifier.wording import plural
from trainer.run.config import TrainingConfig
from trainer.run.files import read_json
from trainer.run.finished import is_trained
from trainer.run.folder import RunFolder
from trainer.run.starting import open_run

INPUTS = ".inputs"
"""How the folder beside a run ends in which `admin_cli retrain` hands over what it is trained with."""
CURVES = ["phase", "epoch", "val_accuracy", "val_log_loss"]


@dataclass(frozen=True)
class RunSummary:
    """One run; None is what it does not have yet, or what nothing tells."""

    name: str
    state: str
    """exported, trained, training, interrupted, not begun (its photos were refused, or not looked at to the end), or
    cannot be read."""
    problem: str | None
    """Why it cannot be read."""
    architecture: str
    image_size: int | None
    data: str | None
    """The fingerprint of its photos: figures of other photos are not comparable."""
    dataset: str
    classes: int | None
    train_photos: int | None
    test_photos: int | None
    top_1: float | None
    """On the test photos, of the served file; with its 95 % interval."""
    top_1_low: float | None
    top_1_high: float | None
    ece: float | None
    """Expected calibration error on the test photos."""
    epochs: int
    seconds: float
    """Of these epochs; features, export and report come on top."""
    variant: str | None
    latency_ms: float | None
    """Of the served file, with the CPUs of ``serving_cpus``."""
    serving_cpus: int | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def read_runs(paths: Sequence[Path]) -> tuple[list[RunSummary], list[str]]:
    """Return the runs among some folders, the most accurate first, and the folders that are none.

    Raises:
        NotFound: none is one.
    """
    folders = list(dict.fromkeys(paths))
    runs = [path for path in folders if RunFolder(path).config.is_file() and path.suffix != INPUTS]
    if not runs:
        raise NotFound(
            f"Expected folders of runs with a config.json; {', '.join(map(str, folders[:3])) or 'nothing'} has none."
        )
    found = [_read(path) for path in runs]
    found.sort(key=lambda each: (each.top_1 is None, -(each.top_1 or 0.0)))
    return found, [str(path) for path in folders if path not in runs]


def curves_of(path: Path) -> pd.DataFrame | None:
    """Return a run's validation figures, a row an epoch of all phases; None where it has none that can be read."""
    log = RunFolder(path).log
    try:
        table = pd.read_csv(log)
    except (OSError, ValueError):
        return None
    return table if len(table) and set(CURVES) <= set(table) else None


def data_letters(runs: Sequence[RunSummary]) -> dict[str, str]:
    """Return a letter for each data set by its fingerprint: A, B, ..., in the order of the runs."""
    prints = list(dict.fromkeys(each.data for each in runs if each.data))
    return {data: chr(ord("A") + number) if number < 26 else str(number) for number, data in enumerate(prints)}


def data_lines(runs: Sequence[RunSummary]) -> list[str]:
    """Return a line for each data set of the runs: its letter, and what it is."""
    first = {each.data: each for each in reversed(runs) if each.data}
    return [
        f"{letter}: {each.dataset}, {plural(each.classes or 0, 'class')}, {each.train_photos:,} train and "
        f"{plural(each.test_photos or 0, 'test photo')} ({data[:8]})"
        for data, letter in data_letters(runs).items()
        if (each := first[data])
    ]


def _read(path: Path) -> RunSummary:
    try:
        run, config = open_run(path)
        summary = read_json(run.summary) if run.summary.is_file() else {}
        manifest = _manifest(run)
    except (PointerError, OSError) as error:
        return _summary(path, "cannot be read", None, {}, None, problem=str(error))
    return _summary(path, "exported" if manifest else _state(run), config, summary, manifest)


def _state(run: RunFolder) -> str:
    """Return how far a run without a bundle is."""
    if is_trained(run):
        return "trained"
    if run.is_in_use():
        return "training"
    return "interrupted" if run.has_begun() else "not begun"


def _summary(
    path: Path,
    state: str,
    config: TrainingConfig | None,
    summary: dict[str, Any],
    manifest: Manifest | None,
    *,
    problem: str | None = None,
) -> RunSummary:
    test = dict(manifest.metrics.get("test", {})) if manifest else {}
    served = manifest.variants.get(str(manifest.variant), {}) if manifest else {}
    photos, log = summary.get("photos", {}), curves_of(path)
    latency = served.get("latency_ms")
    return RunSummary(
        name=str(path),
        state=state,
        problem=problem,
        architecture=config.network.architecture if config else "",
        image_size=manifest.input.width if manifest else config.network.image_size if config else None,
        data=summary.get("fingerprint"),
        dataset=config.data.dataset if config else "",
        classes=summary.get("classes"),
        train_photos=photos.get("train"),
        test_photos=photos.get("test"),
        top_1=test.get("top_1"),
        top_1_low=test.get("top_1_low"),
        top_1_high=test.get("top_1_high"),
        ece=test.get("ece"),
        epochs=0 if log is None else len(log),
        seconds=0.0 if log is None or "seconds" not in log else round(float(log["seconds"].sum()), 3),
        variant=manifest.variant if manifest else None,
        latency_ms=float(latency) if isinstance(latency, int | float) else None,
        serving_cpus=manifest.metrics.get("latency_cpus", {}).get("serving") if manifest else None,
    )


def _manifest(run: RunFolder) -> Manifest | None:
    path = run.bundle / MANIFEST_FILE
    return Manifest.from_json(path.read_bytes()) if path.is_file() else None
