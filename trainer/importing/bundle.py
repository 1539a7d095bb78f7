"""Imports a model: reads it, tries it on photos where there are some, and writes a run's folder with its bundle."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from classifier.errors import InvalidRequest
from classifier.quiet import quiet
from classifier.registry.fields import now
from classifier.registry.manifest import MANIFEST_FILE, MODEL_FILE, GoldenCase, InputSpec, Manifest
from classifier.serving.footprint import added_memory
from classifier.settings import Settings, available_cpus
from trainer.evaluation.ood import UNKNOWN, familiarity
from trainer.evaluation.served import Evaluation, evaluate, run_model
from trainer.export.bundle import GOLDEN_TOLERANCE
from trainer.export.choice import Choice, choose
from trainer.export.golden import write_golden
from trainer.export.litert import VARIANTS
from trainer.export.measuring import Compared, latencies, measure_variants
from trainer.export.provenance import describe_files, tool_versions
from trainer.importing.graph import Graph
from trainer.importing.model import Foreign, Told, read_foreign
from trainer.importing.photos import Labelled, fitting_scaling, read_labelled
from trainer.importing.scaling import CANDIDATES, Scaling
from trainer.importing.source import source_of
from trainer.metrics.calibration import calibration_figures, fit_temperature
from trainer.metrics.separation import threshold
from trainer.run.export_options import ExportOptions
from trainer.run.files import write_file, write_json
from trainer.run.folder import RunFolder, clear_unfinished_bundle, replace_bundle
from trainer.run.progress import counting

MARKER = "import.json"
"""Tells the folder of an import."""
CALIBRATED_ON = 128
"""Photos from which int8 learns ranges."""
TOLERANCE = ExportOptions().tolerance
SERVING_CPUS = ExportOptions().serving_cpus


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    path: Path
    told: Told
    name: str
    photos: str | None = None
    notice: str | None = None


@dataclass(frozen=True)
class Imported:
    """A bundle that was made, and what it is made of."""

    manifest: Manifest
    foreign: Foreign
    labelled: Labelled | None
    evaluations: dict[str, Evaluation]


@dataclass
class _Served:
    """The file that is served, and what was measured of it."""

    content: bytes
    variant: str
    variants: dict[str, Any]
    temperature: float = 1.0
    evaluations: dict[str, Evaluation] = field(default_factory=dict)


def import_model(request: Request, run: RunFolder, console: Console) -> Imported:
    """Make a bundle of a foreign model and put it into a run's folder, in the place of an earlier one.

    Raises:
        NotFound: there is no such model, label file or folder of photos.
        InvalidRequest: the model cannot be imported, or does not fit its labels, scaling or photos; says why.
        Corrupt: what was composed of it cannot be run.
    """
    source = source_of(request.path)
    with tempfile.TemporaryDirectory(prefix="pointer-import-") as folder:
        work = Path(folder)
        with console.status(f"reading {source.path.name}"):
            foreign = read_foreign(source, request.told, work)
            foreign.try_composed(work, foreign.scaling or CANDIDATES["0..1"])
        spec = InputSpec(foreign.image.width, foreign.image.height, foreign.resize)
        labelled = read_labelled(request.photos, foreign.labels, spec, console) if request.photos else None
        scaling = _scaling(foreign, labelled, console)
        served = _served(foreign, scaling, labelled, work, console)
    manifest = _write(request, foreign, scaling, served, labelled, spec, run)
    return Imported(manifest, foreign, labelled, served.evaluations)


def _scaling(foreign: Foreign, labelled: Labelled | None, console: Console) -> Scaling:
    if labelled is not None:
        composed = foreign.composed
        return fitting_scaling(labelled, foreign.candidates, foreign.scaling, composed, len(foreign.labels), console)
    if foreign.scaling is None:
        raise InvalidRequest(
            f"Expected --scaling, one of {', '.join(CANDIDATES)} or mean:std: the file does not tell how pixels are "
            "scaled. --photos FOLDER, with a folder for each label, finds out which fits."
        )
    return foreign.scaling


def _served(foreign: Foreign, scaling: Scaling, labelled: Labelled | None, work: Path, console: Console) -> _Served:
    """Return the file that is served: the model's own, or the fastest variant of a network that can be converted."""
    if labelled is None:
        return _measured(foreign, foreign.composed(scaling), None)
    temperature = _temperature(foreign.composed(scaling), labelled)
    content = foreign.composed(scaling, temperature)
    if foreign.source.kind == "tflite":
        served = _measured(foreign, content, labelled)
    else:
        choice = _choice(foreign, scaling, temperature, labelled, work, console)
        table = choice.table()
        if foreign.tail.head is None:
            for row in table.values():
                row.pop("heatmap_correlation", None)
        served = _Served(choice.served.content, choice.served.name, table)
    served.temperature = temperature
    for split, rows in labelled.rows.items():
        with counting(console, f"evaluating {split} photos", len(rows)) as step:
            source, truth = labelled.photos.source, labelled.truth[rows]
            served.evaluations[split] = evaluate(served.content, foreign.labels, source, rows, truth, step)
    return served


def _temperature(content: bytes, labelled: Labelled) -> float:
    """Fit the temperature: the logarithms of probabilities are the logits but for a constant."""
    rows = labelled.rows["validation"]
    given = np.stack([each for each, _ in run_model(content, labelled.photos.source, rows)])
    return fit_temperature(np.log(np.clip(given, 1e-30, 1)), labelled.truth[rows])


def _choice(
    foreign: Foreign, scaling: Scaling, temperature: float, labelled: Labelled, work: Path, console: Console
) -> Choice:
    source, rows = labelled.photos.source, labelled.tried
    with console.status("converting to other variants"):
        photos = np.stack([source.array(int(row)) for row in rows[:CALIBRATED_ON]])
        others = [name for name in VARIANTS if name != "float32"]
        files, failures = foreign.variants(work, scaling, photos, others)
        contents = {"float32": foreign.composed(scaling, temperature)}
        contents |= {name: foreign.composed(scaling, temperature, content) for name, content in files.items()}
        threads = Settings.from_env({}, cpus=SERVING_CPUS).threads
        compared = Compared(rows, labelled.truth[rows], labelled.untried)
        measured, broken = measure_variants(contents, source, compared, threads)
    choice = choose(measured, failures | broken, TOLERANCE)
    choice.show(console, compared, SERVING_CPUS)
    return choice


def _measured(foreign: Foreign, content: bytes, labelled: Labelled | None) -> _Served:
    """Return a file with its time and memory, which need no labels."""
    name = _variant(Graph(foreign.content))
    photo = np.full((foreign.image.height, foreign.image.width, 3), 127, np.uint8)
    if labelled is not None:
        photo = labelled.photos.source.array(int(labelled.tried[0]))
    threads = Settings.from_env({}, cpus=SERVING_CPUS).threads
    with quiet():
        row = {
            "latency_ms": round(latencies({name: content}, photo, threads)[name], 3),
            "latency_all_cpus_ms": round(latencies({name: content}, photo, available_cpus())[name], 3),
            "bytes": len(content),
        }
        memory = added_memory(content, threads)
    return _Served(content, name, {name: row if memory is None else {**row, "memory_bytes": memory}})


def _variant(graph: Graph) -> str:
    """Return in which precision a graph computes and keeps its weights."""
    kinds = [graph.kind(each) for each in graph.sub.operators]
    written = {graph.dtype(int(each.outputs[0])) for each in graph.sub.operators if len(each.outputs)}
    if written & {np.int8, np.uint8}:
        return "int8"
    weights = [
        graph.dtype(int(operator.inputs[1]))
        for operator, kind in zip(graph.sub.operators, kinds, strict=True)
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") and graph.writer(int(operator.inputs[1])) is None
    ]
    if np.int8 in weights or np.uint8 in weights:
        return "int8-dynamic"
    halves = [each for each in range(len(graph.sub.tensors)) if graph.dtype(each) is np.float16]
    return "float16" if halves else "float32"


def _write(
    request: Request,
    foreign: Foreign,
    scaling: Scaling,
    served: _Served,
    labelled: Labelled | None,
    spec: InputSpec,
    run: RunFolder,
) -> Manifest:
    write_json(run.path / MARKER, {"file": request.path.name, "name": request.name, "photos": request.photos})
    clear_unfinished_bundle(run)
    run.new_bundle.mkdir(parents=True)
    (run.new_bundle / MODEL_FILE).write_bytes(served.content)
    golden = _write_figures(run.new_bundle, served, labelled) if labelled is not None else ()
    manifest = Manifest(
        labels=foreign.labels,
        input=spec,
        files=describe_files(run.new_bundle),
        metrics=_metrics(served),
        golden=golden,
        golden_tolerance=GOLDEN_TOLERANCE,
        variant=served.variant,
        variants=served.variants,
        thresholds=_thresholds(served),
        tta=_tta(served),
        training={
            "network": {"architecture": request.name, "weights": "imported"},
            "imported": {
                "file": foreign.source.path.name,
                "kind": foreign.source.kind,
                "sha256": foreign.source.sha256,
                "scaling": scaling.to_json(),
                "outputs": foreign.tail.ending,
            },
            "temperature": round(served.temperature, 6),
        },
        data=_data(labelled),
        created_at=now(),
        tools=tool_versions(),
        notice=(request.notice or "").strip() or None,
        no_gradcam=foreign.tail.why_not or None,
    )
    write_file(run.new_bundle / MANIFEST_FILE, lambda path: path.write_bytes(manifest.to_json()))
    replace_bundle(run)
    return manifest


def _write_figures(folder: Path, served: _Served, labelled: Labelled) -> tuple[GoldenCase, ...]:
    frame = labelled.photos.frame
    golden = write_golden(folder, frame, labelled.photos.source, labelled.rows["test"], served.content)
    (folder / "report").mkdir()
    for split, evaluation in served.evaluations.items():
        evaluation.write(folder / "report", split, frame.iloc[labelled.rows[split]])
    labelled.photos.rejected.to_csv(folder / "report/rejected.csv", index=False)
    return golden


def _metrics(served: _Served) -> dict[str, Any]:
    cpus = {"latency_cpus": {"serving": SERVING_CPUS, "all": available_cpus()}}
    if not served.evaluations:
        return cpus
    figures = {split: (each.probabilities, each.truth) for split, each in served.evaluations.items()}
    limit = _thresholds(served)[UNKNOWN]
    accepted = {
        split: round(float((familiarity(each) >= limit).mean()), 6) for split, each in served.evaluations.items()
    }
    return {
        **{split: each.figures() for split, each in served.evaluations.items()},
        "calibration": calibration_figures(figures, served.temperature),
        "unknown": {"method": "probability", "accepted": accepted},
        **cpus,
    }


def _thresholds(served: _Served) -> dict[str, float]:
    if not served.evaluations:
        return {}
    return {UNKNOWN: threshold(familiarity(served.evaluations["validation"]))}


def _tta(served: _Served) -> dict[str, Any]:
    if not served.evaluations:
        return {}
    figures = served.evaluations["test"].figures()
    gain = round(figures["tta_top_1"] - figures["top_1"], 6)
    return {"views": ["original", "mirrored"], "top_1": figures["tta_top_1"], "gain": gain}


def _data(labelled: Labelled | None) -> dict[str, Any]:
    if labelled is None:
        return {}
    return {
        "dataset": "folder",
        "fingerprint": labelled.photos.fingerprint,
        "photos": {split: len(rows) for split, rows in labelled.rows.items()},
        "classes": int(labelled.photos.frame["label"].nunique()),
        "rejected": len(labelled.photos.rejected),
    }
