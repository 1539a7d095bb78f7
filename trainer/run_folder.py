"""A run's folder: what is in it, written so that it can be read, and the run resumed, after a crash at any moment.

    config.json      what was asked for
    data.csv         the photos used: image_path, label, split, sha256
    rejected.csv     the photos left out, each with its reason
    data.json        fingerprint and counts
    features.npz     pooled features of the frozen backbone
    state.json       phase, epoch, best so far, history; names the checkpoints that belong to it
    checkpoints/     weights: the last epoch's (with the optimizer's state) and the best one's
    log.csv          a line an epoch
    bundle/          what `admin_cli publish` takes; complete when its manifest.json is there

Every file is written beside its name and renamed, so that it is either the old one or the new one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifier.errors import InvalidRequest, NotFound, Refused
from trainer.config import TrainingConfig, read_config


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
    def bundle(self) -> Path:
        """What is published."""
        return self.path / "bundle"


def start_run(path: Path, config: TrainingConfig, *, overwrite: bool = False) -> RunFolder:
    """Return a new run's folder, or the folder of the same run that was interrupted.

    Raises:
        Refused: the folder holds a run with another configuration, or something that is not a run.
    """
    run = RunFolder(path)
    if overwrite and run.config.is_file():
        import shutil

        shutil.rmtree(path)
    if run.config.is_file():
        differences = read_config(run.config).differences(config)
        if differences:
            raise Refused(
                f"{path} holds a run with another configuration ({'; '.join(differences)}). "
                "Give another --run folder, the same options to resume it, or --overwrite to start again."
            )
        return run
    if path.exists() and any(path.iterdir()):
        raise Refused(f"Expected an empty or new folder for --run; {path} holds other files.")
    path.mkdir(parents=True, exist_ok=True)
    write_json(run.config, config.to_json())
    return run


def open_run(path: Path) -> tuple[RunFolder, TrainingConfig]:
    """Return an existing run and its configuration.

    Raises:
        NotFound: there is no run in that folder.
    """
    run = RunFolder(path)
    if not run.config.is_file():
        raise NotFound(f"Expected a run folder with a config.json; {path} has none. `trainer train` makes one.")
    return run, read_config(run.config)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        InvalidRequest: the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequest(f"{path} is not JSON: {error}. Start the run again with --overwrite.") from error


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Have `write` fill a file beside `path`, flush it to disk and rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name keeps its ending: Keras and NumPy go by it.
    beside = path.with_name(f".partial-{path.name}")
    write(beside)
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)
