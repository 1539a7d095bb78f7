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

Every file is written by `trainer.run.files`. The process that works in the folder holds its lock (`trainer.run.locks`).
Other files in the folder are left alone. `trainer.run.starting` begins a run, resumes it and clears it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from trainer.run.exports import ExportKind
from trainer.run.locks import LOCK, is_locked


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
