"""Makes a run's bundle: the chosen file with its figures, golden cases and tables, all described by a manifest."""

from __future__ import annotations

import datetime
import importlib.metadata
import io
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from classifier import metadata
from classifier.bundle import entry_of_file
from classifier.errors import InvalidRequest, TooLarge
from classifier.manifest import MANIFEST_FILE, MODEL_FILE, FileEntry, GoldenCase, InputSpec, Manifest
from classifier.model import Model
from classifier.preprocessing import load_array
from classifier.quiet import quiet
from trainer import network
from trainer.atomic_files import read_json, write_file
from trainer.calibration import calibration_figures, fit_temperature
from trainer.config import TrainingConfig, VariantName
from trainer.datasets import class_targets
from trainer.evaluation import Evaluation, evaluate
from trainer.export import calibration_rows, check_heatmaps, choose, measure_variants
from trainer.gradcam import serving_model
from trainer.keeper import TrainingState
from trainer.kept_evaluations import keep_evaluations
from trainer.preparation import input_spec
from trainer.progress import counting
from trainer.run_folder import RunFolder, clear_unfinished_bundle, remove_report, replace_bundle
from trainer.scoring import Look, fit_score
from trainer.strangers import UNKNOWN, familiarity, read_strangers, separation, stranger_scores, threshold
from trainer.training import Trained
from trainer.variants import convert_all, with_fusible_relus

EXPORTING_BACKEND = "tensorflow"
MEASURED_PHOTOS = 200
GOLDEN_CASES = 4
GOLDEN_CANDIDATES = 10
"""How many of a class's smallest test photos are looked at."""
JPEG_END = b"\xff\xd9"
GOLDEN_TOLERANCE = 0.05
"""Largest difference of a probability: processors round quantised arithmetic differently."""
TOOLS = ("keras", "tensorflow", "tensorflow-cpu", "ai-edge-litert", "numpy", "pillow")


def make_bundle(
    trained: Trained,
    config: TrainingConfig,
    run: RunFolder,
    console: Console,
    *,
    tolerance: float = 0.005,
    variant: VariantName | None = None,
    strangers: Path | None = None,
) -> Manifest:
    """Export, measure, choose and evaluate a trained network, and write ``<run>/bundle``.

    The bundle appears whole, or not at all; an earlier one is replaced.

    Args:
        trained: the network and its photos.
        config: how it was trained.
        run: the run's folder.
        console: where progress is shown.
        tolerance: how much lower than float32's the top-1 of the chosen file may be, as a share.
        variant: the file to be served, whatever it measures; None chooses the fastest within the tolerance.
        strangers: folder of photos of something else, by which the way to tell them is chosen; see `trainer.scoring`.

    Raises:
        InvalidRequest: that variant cannot be made, or no stranger can be read.
        NotFound: there is no folder of strangers.
    """
    frame, source = trained.photos.frame, trained.photos.source
    rows = {split: np.flatnonzero(frame["split"] == split) for split in ("validation", "test")}
    truth = class_targets(frame["label"], trained.labels, one_hot=False)
    sample = _spread(rows["validation"], MEASURED_PHOTOS)
    others = read_strangers(strangers, input_spec(config.network), console) if strangers else None
    look = Look(trained)
    seen = look(source, rows["validation"], console, "logits of validation photos")
    temperature = fit_temperature(seen.logits, truth[rows["validation"]])
    scoring = fit_score(trained, look, (rows["validation"], seen), temperature, others, console)
    with console.status("exporting to LiteRT"), quiet(tell_on_error=True):
        served = serving_model(with_fusible_relus(trained.backbone), trained.head, temperature, scoring.outlier)
        calibration = calibration_rows(list(frame["label"]), np.flatnonzero(frame["split"] == "train"))
        contents, failures = convert_all(served, lambda: (source.array(int(row)) for row in calibration))
        photos = [source.array(int(row)) for row in sample[:2]]
        error = check_heatmaps(trained.backbone, trained.head, contents["float32"], photos)
        variants, broken = measure_variants(contents, source, sample, truth[sample], os.cpu_count() or 1)
    choice = choose(variants, failures | broken, tolerance, variant)
    choice.show(console, len(sample))
    chosen = choice.served
    evaluations = {}
    for split in ("validation", "test"):
        with counting(console, f"evaluating {split} photos", len(rows[split])) as step:
            evaluations[split] = evaluate(chosen.content, trained.labels, source, rows[split], truth[rows[split]], step)
    keep_evaluations(run, chosen.content, trained.photos.fingerprint, evaluations)
    scores = {split: familiarity(evaluation) for split, evaluation in evaluations.items()}
    limit = threshold(scores["validation"])
    unknown = {**scoring.figures, "passing": {split: _share(values >= limit) for split, values in scores.items()}}
    if others is not None:
        told = stranger_scores(chosen.content, trained.labels, others, console)
        unknown["strangers"] = separation(scores["test"], told, limit)
    clear_unfinished_bundle(run)
    partial = run.new_bundle
    partial.mkdir()
    (partial / MODEL_FILE).write_bytes(chosen.content)
    _plain_model(trained).save(partial / "model.keras")
    golden = _write_golden(partial, trained, rows["test"], chosen.content)
    paths = {split: [str(frame.at[row, "image_path"]) for row in of_split] for split, of_split in rows.items()}
    _write_report(partial / "report", run, evaluations, paths)
    manifest = Manifest(
        schema_version=1,
        model=None,
        version=None,
        labels=trained.labels,
        input=input_spec(config.network),
        files=describe_files(partial),
        metrics={split: evaluation.figures() for split, evaluation in evaluations.items()}
        | {
            "calibration": calibration_figures(
                {split: (each.probabilities, each.truth) for split, each in evaluations.items()}, temperature
            ),
            "unknown": unknown,
            "heatmap_error": error,
            "variants_measured_on": len(sample),
        },
        golden=golden,
        golden_tolerance=GOLDEN_TOLERANCE,
        variant=chosen.name,
        variants=choice.table(),
        thresholds={UNKNOWN: limit},
        tta=_tta(evaluations["test"].figures()),
        training=_training(config, TrainingState(run)) | {"temperature": round(temperature, 6)},
        data=read_json(run.summary),
        parent_version=None,
        created_by=None,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        tools=tool_versions(),
        extra={},
    )
    write_file(partial / MANIFEST_FILE, lambda path: path.write_bytes(manifest.to_json()))
    # It tells of the former file.
    remove_report(run)
    replace_bundle(run)
    return manifest


def backend() -> str:
    """Return what Keras runs on; the export needs `EXPORTING_BACKEND`."""
    return str(keras.backend.backend())


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
    """Choose a photo that is small and may be sent to the server; whatever it was, no metadata travel with it.

    A JPEG or PNG that gives the same pixels without metadata is preferred; where there is none, it is the pixels as the
    network gets them, as PNG.

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
        bare = metadata.read(data)
        if _holds_pixels_only(bare) and np.array_equal(load_array(bare.data, spec), pixels):
            return path.suffix.lower(), bare.data, pixels
        first = pixels if first is None else first
    if first is None:
        return None
    png = io.BytesIO()
    Image.fromarray(first).save(png, "PNG")
    return ".png", png.getvalue(), first


def _holds_pixels_only(photo: metadata.PhotoFile) -> bool:
    """Return whether a photo that was read without metadata has nothing else of them left.

    Behind a JPEG's end cameras put films and second photos, which say where they were taken; the other formats keep
    metadata in places that their decoders skip.
    """
    if photo.format == "JPEG":
        return photo.data.find(JPEG_END) == len(photo.data) - len(JPEG_END)
    return photo.format == "PNG"


def _write_report(
    folder: Path, run: RunFolder, evaluations: dict[str, Evaluation], paths: dict[str, list[str]]
) -> None:
    folder.mkdir()
    for split, evaluation in evaluations.items():
        evaluation.write(folder, split, paths[split])
    for path in (run.log, run.rejected):
        shutil.copyfile(path, folder / path.name)


def _tta(figures: Mapping[str, float | int]) -> dict[str, Any]:
    """Return the manifest's account of test-time augmentation, measured on the test photos."""
    gain = figures["tta_top_1"] - figures["top_1"]
    return {"views": ["original", "mirrored"], "top_1": figures["tta_top_1"], "gain": round(gain, 6)}


def _share(found: NDArray[np.bool_]) -> float:
    return round(float(found.mean()), 6)


def _training(config: TrainingConfig, state: TrainingState) -> dict[str, Any]:
    """Return the configuration and the best epoch, without the paths of the machine that trained."""
    plain = config.to_json()
    for section, option in (("data", "data_dir"), ("data", "csv"), ("network", "weights")):
        if plain[section][option]:
            plain[section][option] = Path(plain[section][option]).name
    best = {key: value for key, value in (state.best or {}).items() if key not in ("weights", "seeds")}
    return {**plain, "best_epoch": best}
