"""`trainer train` and `trainer export`: from photos to a bundle."""

from __future__ import annotations

import time
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from classifier.errors import InvalidRequest, InvalidSetting
from classifier.wording import plural
from trainer.commands.options import CacheOption, RunArgument, RunOption, WorkersOption, declared_options
from trainer.commands.reporting import ReportOption, tell_of_former_report, write_report
from trainer.commands.screen import console, load_keras, print_result
from trainer.run.config import TrainingConfig
from trainer.run.declarations import declared
from trainer.run.export_options import ExportFormat, ExportOptions, PortableFormat

if TYPE_CHECKING:
    from trainer.compute.processes import Workers
    from trainer.run.folder import RunFolder
    from trainer.tracking.tracker import Tracking
    from trainer.training.trained import Trained


@declared_options
def train(
    run: RunOption,
    config: TrainingConfig,
    options: ExportOptions,
    cache_gb: CacheOption = None,
    workers: WorkersOption = None,
    report: ReportOption = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again if the run folder is in use.")] = False,
    since: Annotated[
        Path | None,
        typer.Option(
            "--since", help="Folder of a version: say which photos changed since it; refuse (exit 5) if none did."
        ),
    ] = None,
    unchanged: Annotated[bool, typer.Option("--unchanged", help="Train also where none did.")] = False,
    gate: Annotated[
        Path | None,
        typer.Option(
            "--gate",
            help="JSON of what serves, as admin_cli retrain writes it: refuse (exit 5) labels that its gate would.",
        ),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves and pictures for TensorBoard, to RUN/tensorboard.")
    ] = False,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Log to MLflow, where MLFLOW_TRACKING_URI says; needs the extra mlflow.")
    ] = False,
) -> None:
    """Train on photos and make a bundle.

    What was trained is exported, evaluated and described in a report; all of it is in the run's folder.

    Several processes share a training with --distribution multi-worker (JAX): give all the same options and --run
    folder, and in the environment KERAS_DISTRIBUTION_JOB_ADDRESSES (host:port of process 0),
    KERAS_DISTRIBUTION_NUM_PROCESSES, and KERAS_DISTRIBUTION_PROCESS_ID of each, from 0.

    Example: trainer train --dataset folder --data-dir photos --architecture mobilenet_v2 --run runs/mine
    """
    from trainer.compute.processes import ALONE, read_workers
    from trainer.data.ood_photos import require_folder
    from trainer.run.folder import RunFolder, clear_unfinished_bundle
    from trainer.run.locks import only_one
    from trainer.run.starting import start_run
    from trainer.training.preflight import require_trainable

    if options.ood is not None:
        require_folder(options.ood)
    if mlflow:
        from trainer.tracking.mlflow_run import require_mlflow

        require_mlflow()
    cache_bytes = None if cache_gb is None else int(cache_gb * 1e9)
    place = read_workers() if config.compute.distribution == "multi-worker" else ALONE
    if not place.chief:
        _help_to_train(run, config, place, cache_bytes, workers)
        return
    if overwrite or not RunFolder(run).has_begun():
        require_trainable(config)
    with only_one(run, RunFolder(run).config):
        folder = start_run(run, config, overwrite=overwrite)
        clear_unfinished_bundle(folder)
        tracked = (not tensorboard or folder.tensorboard.exists()) and (not mlflow or folder.mlflow.exists())
        if place.processes == 1 and tracked and _is_finished(folder, config, options, report=report):
            return
        tracking = _tracking(folder, tensorboard=tensorboard, mlflow=mlflow)
        _train(
            folder, config, place, options, cache_bytes, workers,
            report=report, since=None if unchanged else since, gate=gate, tracking=tracking,
        )  # fmt: skip


def _is_finished(folder: RunFolder, config: TrainingConfig, options: ExportOptions, *, report: bool) -> bool:
    """Return whether a run has all that is asked for, and say so; a report that alone is missing is made."""
    from trainer.run.finished import next_step

    step = next_step(folder, config, report=report)
    if step == "report":
        load_keras()
        write_report(folder, options.ood)
    elif step is not None:
        return False
    path = quote(str(folder.path))
    console().print(
        f"{path} is finished: its bundle is in {quote(str(folder.bundle))}. More --fine-tune-epochs train on, "
        f"`trainer export {path}` makes the bundle again, and --overwrite starts anew",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    return True


def _train(
    folder: RunFolder,
    config: TrainingConfig,
    place: Workers,
    options: ExportOptions,
    cache_bytes: int | None,
    workers: int | None,
    *,
    report: bool,
    since: Path | None,
    gate: Path | None,
    tracking: Tracking,
) -> None:
    began = time.perf_counter()
    _load(place)
    from trainer.run.finished import next_step
    from trainer.training import train
    from trainer.training.run_photos import accepted_photos

    photos = None
    if since is not None or gate is not None:
        photos = accepted_photos(since, gate, config, folder, console(), cache_bytes=cache_bytes, workers=workers)
    tracking.begin(folder, config)
    was_trained = next_step(folder, config, report=False) != "training"
    try:
        trained = train.train(
            config, folder, console(),
            photos=photos, cache_bytes=cache_bytes, workers=workers, on_epoch=tracking.epoch,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        console().print("was trained before" if was_trained else f"trained in {seconds:.0f} s", highlight=False)
        _finish(trained, folder, config, options, report=report, tracking=tracking, began=began)
    finally:
        tracking.close()


def _finish(
    trained: Trained,
    folder: RunFolder,
    config: TrainingConfig,
    options: ExportOptions,
    *,
    report: bool,
    tracking: Tracking,
    began: float,
) -> None:
    """Make the bundle and the report of what was trained."""
    from trainer.export import bundle

    if bundle.backend() != bundle.EXPORTING_BACKEND:
        path = quote(str(folder.path))
        console().print(f"next: KERAS_BACKEND=tensorflow trainer export {path}", highlight=False, soft_wrap=True)
        return
    manifest = bundle.make_bundle(trained, config, folder, console(), options)
    print_result(manifest, folder.bundle)
    if report:
        write_report(folder, options.ood)
    else:
        tell_of_former_report(folder)
    tracking.result(folder, manifest.metrics)
    console().print(f"done in {time.perf_counter() - began:.0f} s", highlight=False)


def _tracking(folder: RunFolder, *, tensorboard: bool, mlflow: bool) -> Tracking:
    """Return what follows the training besides its own folder."""
    from trainer.tracking.mlflow_run import MlflowRun
    from trainer.tracking.tensorboard import TensorBoard
    from trainer.tracking.tracker import Tracker, Tracking

    trackers: list[Tracker] = []
    if tensorboard:
        trackers.append(TensorBoard(folder.tensorboard))
    if mlflow:
        trackers.append(MlflowRun(folder.mlflow))
    return Tracking(trackers, console())


def _help_to_train(
    run: Path, config: TrainingConfig, place: Workers, cache_bytes: int | None, workers: int | None
) -> None:
    """Train as one of the processes that leave the run's folder to the chief."""
    _load(place)
    from trainer.run.starting import join_run
    from trainer.training import train

    train.train(config, join_run(run, config), console(), cache_bytes=cache_bytes, workers=workers)
    console().print(f"process {place.process} of {place.processes} is done", highlight=False)


def _load(place: Workers) -> None:
    """Import Keras, and meet the other processes, if there are any, before it computes."""
    load_keras(start=place.processes == 1)
    if place.processes > 1:
        from classifier.quiet import quiet
        from trainer.compute.processes import join_workers

        console().print(f"process {place.process} of {place.processes}: waiting for the others", highlight=False)
        with quiet(tell_on_error=True):
            join_workers()


@declared_options
def export(
    run: RunArgument,
    options: ExportOptions,
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="litert makes the bundle; saved-model, onnx and coreml write the bundle's network.",
        ),
    ] = "litert",
    report: ReportOption = True,
) -> None:
    """Make a run's bundle again from its best checkpoint, or write its network for other servers.

    --format saved-model writes RUN/saved_model/1 for TensorFlow Serving, --format onnx RUN/onnx/1, --format coreml
    RUN/coreml/1, and each time the next number. They are calibrated as the file in the bundle is, compared with it, and
    need no photos. What Core ML computes only Apple's systems can tell: of that file what it declares is checked.

    Example: trainer export runs/food --tolerance 0.01
    """
    from trainer.run.locks import only_one
    from trainer.run.starting import open_run

    if form != "litert":
        _require_portable(form, options)
    folder, config = open_run(run)
    with only_one(run, folder.config):
        load_keras()
        from trainer.export import bundle
        from trainer.training.trained import load_trained

        if bundle.backend() != bundle.EXPORTING_BACKEND:
            raise InvalidSetting(f"Expected KERAS_BACKEND=tensorflow for the export; received {bundle.backend()}.")
        if form != "litert":
            _export_portable(folder, form)
            return
        trained = load_trained(folder, config)
        manifest = bundle.make_bundle(trained, config, folder, console(), options)
        print_result(manifest, folder.bundle)
        if report:
            write_report(folder, options.ood)
        else:
            tell_of_former_report(folder)


def _require_portable(form: ExportFormat, options: ExportOptions) -> None:
    """Refuse what is sure to fail, or to be without effect, before anything is loaded.

    Raises:
        InvalidRequest: an option that is about the bundle.
        NotFound: the format's packages are not installed.
    """
    from trainer.export.coreml_file import require_coremltools
    from trainer.export.onnx_file import require_packages

    useless = [each.flag for each in declared(ExportOptions) if getattr(options, each.name) != each.default]
    if useless:
        raise InvalidRequest(f"--format {form} leaves {' and '.join(useless)} without effect: leave one of them out.")
    if form == "onnx":
        require_packages()
    if form == "coreml":
        require_coremltools()


def _export_portable(folder: RunFolder, form: PortableFormat) -> None:
    from trainer.export.portable import export_portable

    placed, agreement = export_portable(folder, form)
    within = (
        f"within {agreement.served:.1e} of the bundle's {agreement.variant} file on "
        f"{plural(agreement.photos, 'golden photo')}"
    )
    if agreement.network is None:
        within = f"of a network {within}; the file itself was not run, which only Apple's systems can"
    typer.echo(f"{form} (float32) in {placed}, {within}; its README.md says how to call it")
