"""A run's folder: what is in it, written so that it can be read, and the run resumed, after a crash at any moment.

    config.json      what was asked for
    data.csv         the photos used: image_path, label, split, sha256
    rejected.csv     the photos left out, each with its reason
    decisions.csv    what was decided over an audit: labels changed, photos left out
    data.json        fingerprint and counts
    unlabelled.csv   the photos of --unlabelled: image_path, sha256, and the reason of those left out
    backbone.keras   the network of --backbone
    teacher/         the network of --teacher and its manifest
    features.npz     pooled features of the frozen backbone, and what the teacher says of the same views
    state.json       phase, epoch, best so far, history; names the checkpoints that belong to it
    checkpoints/     weights: the last epoch's (with the optimizer's state) and the best one's
    log.csv          a line an epoch
    bundle/          what `admin_cli publish` takes; complete when its manifest.json is there
    report/          report.html and model_card.md with their figures and tables, and the evaluations they are made of
    tensorboard/     events, with --tensorboard; mlflow.json names the run of MLflow, with --mlflow
    saved_model/1/   what `trainer export --format saved-model` made, each time under the next number
    onnx/1/          of `--format onnx` likewise; coreml/1/ of `--format coreml`

Every file is written by `trainer.run.files`. The process that works in the folder holds a lock on .partial-lock.
Other files in the folder are left alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from classifier.errors import InvalidSetting, NotFound, Refused
from classifier.registry.bundle import entry_of_file
from trainer.run.config import TrainingConfig
from trainer.run.exports import ExportKind, partial_export
from trainer.run.files import PARTIAL, read_json, write_file, write_json
from trainer.run.locks import is_locked, locked

LOCK = f"{PARTIAL}lock"


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """What was asked for."""
        return self.path / "config.json"

    @property
    def data(self) -> Path:
        """The photos used."""
        return self.path / "data.csv"

    @property
    def rejected(self) -> Path:
        """The photos left out."""
        return self.path / "rejected.csv"

    @property
    def unlabelled(self) -> Path:
        """The photos without labels, used and left out."""
        return self.path / "unlabelled.csv"

    @property
    def teacher(self) -> Path:
        """Folder of the network that teaches."""
        return self.path / "teacher"

    @property
    def backbone(self) -> Path:
        """The network of one's own that it began with."""
        return self.path / "backbone.keras"

    @property
    def decisions(self) -> Path:
        """Labels changed and photos left out by decision."""
        return self.path / "decisions.csv"

    @property
    def summary(self) -> Path:
        """Fingerprint and counts of the photos."""
        return self.path / "data.json"

    @property
    def features(self) -> Path:
        """Cached features."""
        return self.path / "features.npz"

    @property
    def state(self) -> Path:
        """How far the training is."""
        return self.path / "state.json"

    @property
    def log(self) -> Path:
        """A line an epoch."""
        return self.path / "log.csv"

    @property
    def checkpoints(self) -> Path:
        """Folder of weights."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's events."""
        return self.path / "tensorboard"

    @property
    def mlflow(self) -> Path:
        """Which run of MLflow this one is."""
        return self.path / "mlflow.json"

    @property
    def bundle(self) -> Path:
        """What is published."""
        return self.path / "bundle"

    @property
    def report(self) -> Path:
        """Page, figures and tables for people."""
        return self.path / "report"

    @property
    def report_options(self) -> Path:
        """What was chosen for the last report."""
        return self.report / "options.json"

    @property
    def evaluations(self) -> Path:
        """What was measured of the served file."""
        return self.report / "evaluations.npz"

    @property
    def new_bundle(self) -> Path:
        """A bundle that is being made."""
        return self.path / "bundle.partial"

    @property
    def old_bundle(self) -> Path:
        """The former bundle while it is being replaced."""
        return self.path / "bundle.old"

    def exports(self, kind: ExportKind) -> Path:
        """Folder of the numbered exports of one kind."""
        return self.path / kind

    def is_in_use(self) -> bool:
        """Return whether a process works in it now."""
        return is_locked(self.path / LOCK)

    def has_begun(self) -> bool:
        """Return whether its photos were accepted: from then on its configuration stays."""
        return self.summary.exists() or self.state.exists()


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


@contextmanager
def only_one(path: Path, marker: Path, otherwise: str = "or give another --run folder") -> Iterator[None]:
    """Keep a second process from working in the same folder; one that was killed does not.

    Enter it before anything is written there.

    Args:
        path: the folder, which is made.
        marker: a file that shows that the folder is of the right kind.
        otherwise: what can be done but to wait.

    Raises:
        Conflict: one works there already.
        Refused: the folder holds something else.
    """
    require_own(path, marker)
    path.mkdir(parents=True, exist_ok=True)
    busy = f"Another `trainer` process works in {path}. Wait until it ends, or end it, {otherwise}."
    with locked(path / LOCK, busy=busy):
        yield


def require_own(path: Path, marker: Path) -> None:
    """Refuse a folder that holds other files, and not the marker of what it should be.

    Raises:
        Refused: it does.
    """
    if marker.is_file() or not path.exists():
        return
    if not path.is_dir() or any(not file.name.startswith(PARTIAL) for file in path.iterdir()):
        raise Refused(f"Expected an empty or new folder for --run; {path} holds other files.")


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


def remove_report(run: RunFolder) -> None:
    """Remove a report of a former bundle, but for the choices that the next one repeats and the kept evaluations."""
    for entry in run.report.iterdir() if run.report.is_dir() else ():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry not in (run.report_options, run.evaluations):
            entry.unlink()


def replace_bundle(run: RunFolder) -> None:
    """Put the new bundle in the place of the former one; after a crash, `clear_unfinished_bundle` mends the rest."""
    if run.bundle.exists():
        run.bundle.rename(run.old_bundle)
    run.new_bundle.rename(run.bundle)
    shutil.rmtree(run.old_bundle, ignore_errors=True)


def clear_unfinished_bundle(run: RunFolder) -> None:
    """Take back the former bundle where a crash came between it and the new one; remove what else a crash left."""
    if run.old_bundle.exists() and not run.bundle.exists():
        run.old_bundle.rename(run.bundle)
    for folder in (run.old_bundle, run.new_bundle):
        shutil.rmtree(folder, ignore_errors=True)


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
