"""Begins a run in a folder, goes on with it, or opens it: never two runs in one, and never another than was begun."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

from classifier.errors import InvalidSetting, NotFound, Refused
from classifier.registry.bundle import entry_of_file
from trainer.run.config import TrainingConfig
from trainer.run.exports import ExportKind, partial_export
from trainer.run.files import PARTIAL, read_json, write_file, write_json
from trainer.run.folder import RunFolder, remove_report
from trainer.run.locks import LOCK, require_own


def start_run(path: Path, config: TrainingConfig, *, overwrite: bool = False) -> RunFolder:
    """Return a new run's folder, or the folder of the same run that was interrupted, or is to be trained on.

    A configuration that failed before its photos were accepted is replaced by the next one, and one that has been
    trained by one that only asks for more.

    Args:
        path: the folder.
        config: what is asked for.
        overwrite: remove what an earlier run left there, whatever its configuration; other files stay.

    Raises:
        Refused: the folder holds a run with another configuration, or something that is not a run.
    """
    run = RunFolder(path)
    if run.config.is_file():
        former = _read_config(run)
        differences = former.differences(config)
        if not overwrite and not differences:
            return run
        if not overwrite and run.has_begun():
            if former.is_prolonged_by(config) and _can_be_prolonged(run):
                write_json(run.config, config.to_json())
                return run
            raise Refused(
                f"{path} holds a run with another configuration ({'; '.join(differences)}). "
                "Give another --run folder, the same options to resume it, more --fine-tune-epochs or --patience to "
                "train on, or --overwrite to start again."
            )
        if overwrite:
            _clear(run)
        # A crash while a run was cleared may have left them: of another network, but of the same photos.
        run.features.unlink(missing_ok=True)
        run.backbone.unlink(missing_ok=True)
        shutil.rmtree(run.teacher, ignore_errors=True)
    else:
        require_own(path, run.config)
    write_json(run.config, config.to_json())
    return run


def join_run(path: Path, config: TrainingConfig) -> RunFolder:
    """Return the folder of a run that another process, with which this one trains, has started.

    Raises:
        NotFound: it has none in this folder.
        Refused: it has one with another configuration.
    """
    run = RunFolder(path)
    if not run.config.is_file():
        raise NotFound(
            f"Expected the run that process 0 has started in {path}; there is none. All processes share one --run "
            "folder."
        )
    differences = _read_config(run).differences(config)
    if differences:
        raise Refused(f"Process 0 trains with another configuration ({'; '.join(differences)}): give the same options.")
    return run


def open_run(path: Path) -> tuple[RunFolder, TrainingConfig]:
    """Return an existing run and its configuration.

    Raises:
        NotFound: there is no run in that folder.
    """
    run = RunFolder(path)
    if not run.config.is_file():
        raise NotFound(f"Expected a run folder with a config.json; {path} has none. `trainer train` makes one.")
    return run, _with_kept_backbone(run, _read_config(run))


def keep_backbone(run: RunFolder, config: TrainingConfig) -> TrainingConfig:
    """Keep a copy of a network of one's own, which the run needs as long as it is used; return where it is from now on.

    Raises:
        NotFound: there is no such file.
        Refused: it is another one than the run began with.
    """
    if config.network.backbone is None:
        return config
    given = Path(config.network.backbone)
    if not run.backbone.is_file():
        if not given.is_file():
            raise NotFound(f"Expected a network at --backbone {given}; there is none.")
        write_file(run.backbone, lambda path: path.write_bytes(given.read_bytes()))
    elif given.is_file() and entry_of_file(given).sha256 != entry_of_file(run.backbone).sha256:
        raise Refused(
            f"{given} has changed since {run.path} began. Give another --run folder, or --overwrite to start again."
        )
    return _with_kept_backbone(run, config)


def _with_kept_backbone(run: RunFolder, config: TrainingConfig) -> TrainingConfig:
    if config.network.backbone is None or not run.backbone.is_file():
        return config
    return replace(config, network=replace(config.network, backbone=str(run.backbone)))


def _can_be_prolonged(run: RunFolder) -> bool:
    """Return whether a run has kept what it takes to train on; the first versions removed it when they were done."""
    state = read_json(run.state) if run.state.is_file() else {}
    return not state.get("finished") or "planned" in state


def _read_config(run: RunFolder) -> TrainingConfig:
    try:
        return TrainingConfig.from_json(read_json(run.config))
    except InvalidSetting as error:
        raise Refused(f"{run.config} is not a run's configuration. {error} Give another --run folder.") from error


def _clear(run: RunFolder) -> None:
    """Remove what a run owns, its state first and but for its configuration: a crash leaves a run that starts anew.

    Numbered exports stay: a server may be reading them.
    """
    partial = sorted(file for file in run.path.glob(f"{PARTIAL}*") if file.name != LOCK)
    for file in (
        run.state,
        run.summary,
        run.data,
        run.rejected,
        run.unlabelled,
        run.decisions,
        run.features,
        run.log,
        run.mlflow,
        run.backbone,
        *partial,
    ):
        file.unlink(missing_ok=True)
    unfinished = (partial_export(run.exports(kind)) for kind in get_args(ExportKind))
    folders = (run.tensorboard, run.bundle, run.new_bundle, run.old_bundle, run.checkpoints, run.teacher, *unfinished)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    _clear_report(run)


def _clear_report(run: RunFolder) -> None:
    """Remove the report, but not the choices: photos that were left out of it stay out of the next one."""
    remove_report(run)
    run.evaluations.unlink(missing_ok=True)
    if run.report_options.is_file():
        # Another network has other layers.
        write_json(run.report_options, {**read_json(run.report_options), "layers": []})
