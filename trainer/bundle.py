"""Makes a run's bundle: the chosen file with its figures, golden cases and tables, all described by a manifest."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from classifier import metadata
from classifier.bundle import entry_of_file
from classifier.errors import InvalidRequest, TooLarge
from classifier.manifest import MANIFEST_FILE, MODEL_FILE, FileEntry, GoldenCase, InputSpec, Manifest
from classifier.model import Model
from classifier.preprocessing import load_array
from classifier.quiet import quiet
from trainer import network
from trainer.calibration import fit_temperature
from trainer.config import TrainingConfig
from trainer.datasets import class_targets
from trainer.evaluation import Evaluation, evaluate
from trainer.export import VARIANTS, Variant, check_heatmaps, choose, convert, measure_variants
from trainer.generator import PhotoSequence
from trainer.keeper import TrainingState
from trainer.preparation import input_spec
from trainer.progress import counting
from trainer.run_folder import RunFolder, clear_unfinished_bundle, read_json, replace_bundle, write_file
from trainer.training import Trained

EXPORTING_BACKEND = "tensorflow"
MEASURED_PHOTOS = 200
GOLDEN_CASES = 4
GOLDEN_CANDIDATES = 10
"""How many of a class's smallest test photos are looked at."""
GOLDEN_TOLERANCE = 0.05
"""Largest difference of a probability: processors round quantised arithmetic differently."""
TOOLS = ("keras", "tensorflow", "tensorflow-cpu", "ai-edge-litert", "numpy", "pillow")


def make_bundle(
    trained: Trained, config: TrainingConfig, run: RunFolder, console: Console, *, tolerance: float = 0.005
) -> Manifest:
    """Export, measure, choose and evaluate a trained network, and write ``<run>/bundle``.

    The bundle appears whole, or not at all; an earlier one is replaced.

    Args:
        trained: the network and its photos.
        config: how it was trained.
        run: the run's folder.
        console: where progress is shown.
        tolerance: how much lower than float32's the top-1 of the chosen file may be, as a share.
    """
    frame, source = trained.photos.frame, trained.photos.source
    rows = {split: np.flatnonzero(frame["split"] == split) for split in ("validation", "test")}
    truth = class_targets(frame["label"], trained.labels, one_hot=False)
    sample = _spread(rows["validation"], MEASURED_PHOTOS)
    with console.status("exporting to LiteRT"), quiet(tell_on_error=True):
        temperature = fitted_temperature(trained, rows["validation"], truth[rows["validation"]])
        contents = {name: convert(trained.backbone, trained.head, name, temperature) for name in VARIANTS}
        photos = [source.array(int(row)) for row in sample[:2]]
        error = check_heatmaps(trained.backbone, trained.head, contents["float32"], photos)
        variants = measure_variants(contents, source, sample, truth[sample], os.cpu_count() or 1)
    chosen = choose(variants, tolerance)
    _print_variants(console, variants, chosen, len(sample))
    evaluations = {}
    for split in ("validation", "test"):
        with counting(console, f"evaluating {split} photos", len(rows[split])) as step:
            evaluations[split] = evaluate(chosen.content, trained.labels, source, rows[split], truth[rows[split]], step)
    clear_unfinished_bundle(run)
    partial = run.new_bundle
    partial.mkdir()
    (partial / MODEL_FILE).write_bytes(chosen.content)
    _plain_model(trained).save(partial / "model.keras")
    golden = _write_golden(partial, trained, rows["test"], chosen.content)
    _write_report(partial / "report", run, evaluations)
    manifest = Manifest(
        schema_version=1,
        model=None,
        version=None,
        labels=trained.labels,
        input=input_spec(config.network),
        files=describe_files(partial),
        metrics={split: evaluation.figures() for split, evaluation in evaluations.items()}
        | {"heatmap_error": error, "variants_measured_on": len(sample)},
        golden=golden,
        golden_tolerance=GOLDEN_TOLERANCE,
        variant=chosen.name,
        variants={variant.name: variant.row() for variant in variants},
        thresholds={},
        training=_training(config, TrainingState(run)) | {"temperature": round(temperature, 6)},
        data=read_json(run.summary),
        parent_version=None,
        created_by=None,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        tools=tool_versions(),
        extra={},
    )
    write_file(partial / MANIFEST_FILE, lambda path: path.write_bytes(manifest.to_json()))
    replace_bundle(run)
    return manifest


def backend() -> str:
    """Return what Keras runs on; the export needs `EXPORTING_BACKEND`."""
    return str(keras.backend.backend())


def fitted_temperature(trained: Trained, rows: Any, truth: Any) -> float:
    """Return the temperature of a trained network, fitted on its validation photos (`rows`)."""
    photos = PhotoSequence(trained.photos.source, rows, None, shuffle=False)
    logits = _plain_model(trained).predict(photos, verbose=0)
    return fit_temperature(np.asarray(logits, np.float32), truth)


def describe_files(folder: Path) -> dict[str, FileEntry]:
    """Return size and sha256 of every file below a folder but the manifest, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_FILE)
    return {path.relative_to(folder).as_posix(): entry_of_file(path) for path in paths}


def tool_versions() -> dict[str, str]:
    """Return the versions of what made the bundle."""
    versions = {"python": platform.python_version()}
    for name in TOOLS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _plain_model(trained: Trained) -> Any:
    """Return the network without augmentation, for the next training to start from."""
    return network.classifier(trained.backbone, trained.head)


def _spread(rows: Any, count: int) -> Any:
    """Return at most `count` rows, evenly spread."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))]


def _write_golden(folder: Path, trained: Trained, rows: Any, content: bytes) -> tuple[GoldenCase, ...]:
    """Copy a few held-out photos of different classes, with the probabilities that the chosen file gives them.

    Raises:
        InvalidRequest: no held-out photo is one that may be sent to the server.
    """
    frame, source = trained.photos.frame, trained.photos.source
    classes = np.unique(frame.loc[rows, "label"])
    model = Model(content)
    cases: list[GoldenCase] = []
    (folder / "golden").mkdir()
    for label in _spread(classes, GOLDEN_CASES):
        of_class = [source.paths[row] for row in rows if frame.at[row, "label"] == label]
        chosen = golden_photo(of_class, source.spec)
        if chosen is None:
            continue
        suffix, photo, pixels = chosen
        name = f"golden/{len(cases)}{suffix}"
        (folder / name).write_bytes(photo)
        probabilities = tuple(round(float(p), 6) for p in model.run(pixels).probabilities)
        cases.append(GoldenCase(file=name, label=str(label), probabilities=probabilities))
    if not cases:
        raise InvalidRequest(
            "Expected test photos within the server's limits, to repeat before each promotion; received none. "
            "Make some of them smaller."
        )
    return tuple(cases)


def golden_photo(paths: list[Path], spec: InputSpec) -> tuple[str, bytes, NDArray[np.uint8]] | None:
    """Choose a photo that is small and may be sent to the server, without metadata if that changes no pixel.

    Returns:
        Ending, bytes and pixels; None if none of the smallest photos can be used.
    """
    first = None
    for path in sorted(paths, key=lambda path: (path.stat().st_size, path))[:GOLDEN_CANDIDATES]:
        data = path.read_bytes()
        try:
            pixels = load_array(data, spec)
        except TooLarge:
            continue
        bare = metadata.read(data).data
        if b"Exif" not in bare and np.array_equal(load_array(bare, spec), pixels):
            return path.suffix.lower(), bare, pixels
        first = first or (path.suffix.lower(), data, pixels)
    return first


def _write_report(folder: Path, run: RunFolder, evaluations: dict[str, Evaluation]) -> None:
    folder.mkdir()
    for split, evaluation in evaluations.items():
        evaluation.write(folder, split)
    for path in (run.log, run.rejected):
        shutil.copyfile(path, folder / path.name)


def _training(config: TrainingConfig, state: TrainingState) -> dict[str, Any]:
    """Return the configuration and the best epoch, without the paths of the machine that trained."""
    plain = config.to_json()
    for section, option in (("data", "data_dir"), ("data", "csv"), ("network", "weights")):
        if plain[section][option]:
            plain[section][option] = Path(plain[section][option]).name
    best = {key: value for key, value in (state.best or {}).items() if key not in ("weights", "seeds")}
    return {**plain, "best_epoch": best}


def _print_variants(console: Console, variants: list[Variant], chosen: Variant, photos: int) -> None:
    from rich.table import Table

    table = Table(title=f"variants on {photos} validation photos", title_justify="left", box=None)
    for column in ("", "variant", "top-1", "agreement", "heatmap corr.", "ms", "MB"):
        table.add_column(column, justify="left" if column in ("", "variant") else "right")
    for variant in variants:
        table.add_row(
            "*" if variant is chosen else "",
            variant.name,
            f"{variant.top_1:.1%}",
            f"{variant.agreement:.1%}",
            f"{variant.heatmap_correlation:.3f}",
            f"{variant.latency_ms:.1f}",
            f"{len(variant.content) / 1e6:.1f}",
        )
    console.print(table)
