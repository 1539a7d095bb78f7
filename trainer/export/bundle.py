"""Makes a run's bundle: the chosen file with its figures, golden cases and tables, all described by a manifest."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from classifier.quiet import quiet
from classifier.registry.fields import now
from classifier.registry.manifest import KERAS_FILE, MANIFEST_FILE, MODEL_FILE, PHOTOS_FILE, GoldenCase, Manifest
from classifier.settings import Settings, available_cpus
from trainer.data.ood_photos import read_ood_photos
from trainer.data.sampling import calibration_rows
from trainer.data.source import PhotoSource
from trainer.evaluation.kept import keep_evaluations
from trainer.evaluation.ood import UNKNOWN, familiarity, ood_scores
from trainer.evaluation.served import Evaluation, evaluate
from trainer.evaluation.views import PHOTOS as VIEWED
from trainer.evaluation.views import measure_views
from trainer.export.choice import Choice, choose
from trainer.export.fitted import write_fitted
from trainer.export.golden import write_golden
from trainer.export.held_out import HeldOut
from trainer.export.litert import VARIANTS, convert_all, with_fusible_relus
from trainer.export.measuring import check_heatmaps, measure_variants
from trainer.export.ood_selection import FeatureExtractor, Scoring, fit_score, training_features
from trainer.export.provenance import describe_files, tool_versions, training_of
from trainer.export.temperature import Temperature, has_linear_head_alone, of_frozen_features, of_validation
from trainer.metrics.calibration import calibration_figures
from trainer.metrics.separation import separation, threshold
from trainer.networks import heads
from trainer.networks.backbones import input_spec
from trainer.networks.gradcam import serving_model
from trainer.run.config import TrainingConfig
from trainer.run.export_options import ExportOptions
from trainer.run.files import read_json, write_file
from trainer.run.folder import RunFolder, clear_unfinished_bundle, replace_bundle
from trainer.run.progress import counting
from trainer.training.features import features_of_backbone
from trainer.training.trained import Trained

EXPORTING_BACKEND = "tensorflow"
GOLDEN_TOLERANCE = 0.05
"""Largest difference of a probability: processors round quantised arithmetic differently."""
USUAL = ExportOptions()


def make_bundle(
    trained: Trained,
    config: TrainingConfig,
    run: RunFolder,
    console: Console,
    options: ExportOptions = USUAL,
) -> Manifest:
    """Export, measure, choose and evaluate a trained network, and write ``<run>/bundle``.

    The bundle appears whole, or not at all; an earlier one is replaced.

    Args:
        trained: the network and its photos.
        config: how it was trained.
        run: the run's folder.
        console: where progress is shown.
        options: which file is served, and by what it is chosen.

    Raises:
        InvalidRequest: that variant cannot be made, or no OOD photo can be read.
        NotFound: there is no folder of OOD photos.
    """
    photos = HeldOut.of(trained)
    others = read_ood_photos(options.ood, input_spec(config.network), console) if options.ood else None
    look = FeatureExtractor(trained, features_of_backbone(run, config, trained.photos))
    fitted = _fit(trained, look, photos, others, console, frozen=has_linear_head_alone(run, config))
    exported = _export(trained, photos, fitted, options, console)
    content = exported.choice.served.content
    evaluations = _evaluate(trained, photos, content, console)
    keep_evaluations(run, content, trained.photos.fingerprint, evaluations)
    limit, unknown = _measure_unknown(trained, evaluations, fitted, (content, others, options.pass_own), console)
    figures = {split: (each.probabilities, each.truth) for split, each in evaluations.items()}
    clear_unfinished_bundle(run)
    run.new_bundle.mkdir()
    write_fitted(run.new_bundle, fitted.temperature.value, fitted.scoring.score)
    golden = _write_files(trained, photos, run, content, evaluations)
    manifest = Manifest(
        schema_version=1,
        model=None,
        version=None,
        labels=trained.labels,
        input=input_spec(config.network),
        files=describe_files(run.new_bundle),
        metrics={split: evaluation.figures() for split, evaluation in evaluations.items()}
        | {
            "calibration": calibration_figures(figures, fitted.temperature.value) | fitted.temperature.figures(),
            "unknown": unknown,
            "heatmap_error": exported.heatmap_error,
            "variants_measured_on": len(photos.compared.labelled),
            "variants_compared_on": {"unseen": photos.compared.unseen, "learnt": len(photos.compared.learnt)},
            "latency_cpus": {"serving": options.serving_cpus, "all": available_cpus()},
        },
        golden=golden,
        golden_tolerance=GOLDEN_TOLERANCE,
        variant=exported.choice.served.name,
        variants=exported.choice.table(),
        thresholds={UNKNOWN: limit},
        tta=_tta(evaluations["test"].figures(), _views(trained, photos, content, console)),
        training=training_of(config, run, trained) | {"temperature": round(fitted.temperature.value, 6)},
        data=read_json(run.summary),
        parent_version=options.parent,
        created_by=None,
        created_at=now(),
        tools=tool_versions(),
        notice=(options.notice or "").strip() or None,
        extra={},
    )
    write_file(run.new_bundle / MANIFEST_FILE, lambda path: path.write_bytes(manifest.to_json()))
    replace_bundle(run)
    return manifest


def backend() -> str:
    """Return what Keras runs on; the export needs `EXPORTING_BACKEND`."""
    return str(keras.backend.backend())


class _Fitted(NamedTuple):
    """What is fitted to a trained network and becomes part of its files."""

    temperature: Temperature
    scoring: Scoring


class _Exported(NamedTuple):
    """The files, the choice among them, and how exact float32's heatmaps are."""

    choice: Choice
    heatmap_error: float


def _fit(
    trained: Trained,
    look: FeatureExtractor,
    photos: HeldOut,
    others: PhotoSource | None,
    console: Console,
    *,
    frozen: bool,
) -> _Fitted:
    """Fit temperature and score; `frozen` says that the backbone has not learnt from the training photos."""
    rows = photos.rows["validation"]
    seen = look(trained.photos.source, rows, console, "logits of validation photos")
    train, truth = training_features(trained, look, console), photos.truth[rows]
    if frozen and train is not None and len(train[1]) == (trained.photos.frame["split"] == "train").sum():
        temperature = of_frozen_features(train, (seen.pooled, truth), seen.logits)
    else:
        temperature = of_validation(seen.logits, truth)
    return _Fitted(temperature, fit_score(trained, look, train, (rows, seen), temperature.value, others, console))


def _export(trained: Trained, photos: HeldOut, fitted: _Fitted, options: ExportOptions, console: Console) -> _Exported:
    """Make the files, measure them, choose one and show why."""
    frame, source = trained.photos.frame, trained.photos.source
    with console.status("exporting to LiteRT"), quiet(tell_on_error=True):
        backbone = with_fusible_relus(trained.backbone)
        served = serving_model(backbone, trained.head, fitted.temperature.value, fitted.scoring.score)
        calibration = calibration_rows(list(frame["label"]), np.flatnonzero(frame["split"] == "train"))
        contents, failures = convert_all(
            served,
            lambda: (source.array(int(row)) for row in calibration),
            (options.variant,) if options.variant else VARIANTS,
        )
        few = [source.array(int(row)) for row in photos.compared.labelled[:2]]
        error = check_heatmaps(trained.backbone, trained.head, contents["float32"], few)
        threads = Settings.from_env({}, cpus=options.serving_cpus).threads
        variants, broken = measure_variants(contents, source, photos.compared, threads)
    choice = choose(variants, failures | broken, options.tolerance, options.variant)
    choice.show(console, photos.compared, options.serving_cpus)
    return _Exported(choice, error)


def _evaluate(trained: Trained, photos: HeldOut, content: bytes, console: Console) -> dict[str, Evaluation]:
    evaluations = {}
    for split, rows in photos.rows.items():
        with counting(console, f"evaluating {split} photos", len(rows)) as step:
            evaluations[split] = evaluate(
                content, trained.labels, trained.photos.source, rows, photos.truth[rows], step
            )
    return evaluations


def _measure_unknown(
    trained: Trained,
    evaluations: dict[str, Evaluation],
    fitted: _Fitted,
    served: tuple[bytes, PhotoSource | None, float],
    console: Console,
) -> tuple[float, dict[str, Any]]:
    """Return the threshold of the score, and the manifest's account of it.

    OOD photos that the score learnt from are not measured.
    """
    content, others, passing = served
    scores = {split: familiarity(evaluation) for split, evaluation in evaluations.items()}
    limit = threshold(scores["validation"], passing)
    accepted = {split: _share(values >= limit) for split, values in scores.items()}
    unknown = {**fitted.scoring.figures, "pass_own": passing, "accepted": accepted}
    if others is not None:
        told = ood_scores(content, trained.labels, others.select(fitted.scoring.unseen), console)
        unknown["ood"] = separation(scores["test"], told, limit)
    return limit, unknown


def _write_files(
    trained: Trained, photos: HeldOut, run: RunFolder, content: bytes, evaluations: dict[str, Evaluation]
) -> tuple[GoldenCase, ...]:
    """Write all but the manifest, and return its golden cases."""
    folder, frame = run.new_bundle, trained.photos.frame
    (folder / MODEL_FILE).write_bytes(content)
    _plain_model(trained).save(folder / KERAS_FILE)
    golden = write_golden(folder, frame, trained.photos.source, photos.rows["test"], content)
    _write_report(folder / "report", run, evaluations, {split: frame.iloc[rows] for split, rows in photos.rows.items()})
    write_file(folder / PHOTOS_FILE, lambda path: frame[["sha256", "label", "split"]].to_csv(path, index=False))
    return golden


def _plain_model(trained: Trained) -> Any:
    """Return the network without augmentation, for the next training to start from."""
    return heads.classifier(trained.backbone, trained.head)


def _write_report(
    folder: Path, run: RunFolder, evaluations: dict[str, Evaluation], photos: dict[str, pd.DataFrame]
) -> None:
    folder.mkdir()
    for split, evaluation in evaluations.items():
        evaluation.write(folder, split, photos[split])
    for path in (run.log, run.rejected, *([run.decisions] if run.decisions.is_file() else [])):
        shutil.copyfile(path, folder / path.name)


def _tta(figures: Mapping[str, float | int], choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest's account of test-time augmentation, measured on the test photos.

    What is beside ``choices`` is about the mirror image alone, on all of them: readers of earlier releases know it.
    """
    gain = figures["tta_top_1"] - figures["top_1"]
    mirrored = {"views": ["original", "mirrored"], "top_1": figures["tta_top_1"], "gain": round(gain, 6)}
    return mirrored | {"choices": dict(choices)}


def _views(trained: Trained, photos: HeldOut, content: bytes, console: Console) -> dict[str, Any]:
    rows = photos.rows["test"]
    with counting(console, "measuring views of test photos", min(len(rows), VIEWED)) as step:
        return measure_views(content, trained.photos.source, rows, photos.truth[rows], step)


def _share(found: NDArray[np.bool_]) -> float:
    return round(float(found.mean()), 6)
