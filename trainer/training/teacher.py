"""The teacher of a run: found where --teacher says, checked, and kept in the run's folder, so that the run can resume.

teacher/model.keras         the teacher's network
teacher/report/photos.csv   what it was trained on, where it tells
teacher/manifest.json       its version's manifest; written last, so that a teacher is whole where it is there
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from classifier.errors import Corrupt, InvalidRequest, NotFound
from classifier.registry.bundle import difference, entry_of_file
from classifier.registry.catalogue import VERSION, version_name
from classifier.registry.channels import PRODUCTION
from classifier.registry.manifest import KERAS_FILE, MANIFEST_FILE, PHOTOS_FILE, Manifest
from classifier.registry.rules import Registry
from classifier.settings import Settings
from classifier.storage.opening import open_store
from trainer.compute.processes import Workers
from trainer.networks import heads
from trainer.networks.backbones import BACKBONE
from trainer.networks.heads import HEAD
from trainer.networks.teacher import Teacher
from trainer.run.files import write_file
from trainer.run.folder import RunFolder
from trainer.run.sections import Precision
from trainer.training.start import parts

Copy = Callable[[str, Path], Any]
"""Writes one of a teacher's files, by its name, to a path."""
FINISH = "Finish it with `trainer train` or `trainer export`, or name another teacher."


@dataclass(frozen=True)
class KeptTeacher:
    """A teacher whose files are in a run's folder."""

    folder: Path
    manifest: Manifest

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of its network."""
        return self.manifest.files[KERAS_FILE].sha256

    def test_photos_seen(self, frame: pd.DataFrame) -> int | None:
        """Return how many of a pupil's test photos it was trained on; None where it does not tell.

        Their labels are in what it teaches: figures of a pupil on them flatter.

        Args:
            frame: the pupil's photos: ``sha256`` and ``split``.
        """
        if not (self.folder / PHOTOS_FILE).is_file():
            return None
        known = pd.read_csv(self.folder / PHOTOS_FILE, dtype=str, keep_default_na=False)
        seen = set(known.loc[known["split"] == "train", "sha256"])
        return int(frame.loc[frame["split"] == "test", "sha256"].isin(seen).sum())

    def warn_of_photos_seen(self, frame: pd.DataFrame, console: Console) -> None:
        """Say of how many of a pupil's test photos it knows the labels; see `test_photos_seen`."""
        if seen := self.test_photos_seen(frame):
            console.print(
                f"warning: the teacher was trained on {seen} of the test photos, whose figures will flatter. Train it "
                "with the same split: for data without test photos of its own, the same --seed.", style="yellow",
            )  # fmt: skip

    def lineage(self, frame: pd.DataFrame) -> dict[str, Any]:
        """Return what the manifest of a pupil, whose photos are those of `frame`, says of its teacher."""
        return {
            "model": self.manifest.model,
            "version": self.manifest.version,
            "sha256": self.sha256,
            "data_fingerprint": self.manifest.data.get("fingerprint"),
            "test_photos_seen": self.test_photos_seen(frame),
        }

    def layer(self, labels: Sequence[str], precision: Precision) -> Teacher:
        """Return the layer that asks it, for a pupil with these labels.

        Raises:
            InvalidRequest: it lacks some of them, or its network is none of a backbone and a head.
        """
        require_labels(self.manifest, labels)
        backbone, head = parts(self.folder, BACKBONE, HEAD)
        columns = [self.manifest.labels.index(label) for label in labels]
        return Teacher(heads.classifier(backbone, head), columns, precision)


def run_teacher(name: str | None, run: RunFolder, workers: Workers) -> KeptTeacher | None:
    """Return the teacher of a run, which the chief has put into its folder; None if it has none."""
    if name is None:
        return None
    if workers.chief:
        kept = keep_teacher(name, run)
        workers.meet()
        return kept
    workers.meet()
    return kept_teacher(run)


def keep_teacher(name: str, run: RunFolder) -> KeptTeacher:
    """Find a teacher and copy it into the run's folder, unless it is there.

    Args:
        name: the folder of a run, of a bundle or of a version; or a published version, ``v7`` or ``production``, of the
            store and the model that MODEL_STORE and MODEL_NAME name. What production is stays what it was at the start.
        run: the run's folder.

    Raises:
        NotFound: there is no such teacher, or none with a network to learn from, as an imported version has none.
        Corrupt: its files are not what its manifest says.
    """
    if not (run.teacher / MANIFEST_FILE).is_file():
        manifest, copy = _found(name)
        if KERAS_FILE not in manifest.files:
            raise NotFound(
                f"Expected a teacher with the network that it was trained as, {KERAS_FILE}; {name} has none: it was "
                "imported, or made elsewhere. Name a run or a version that `trainer train` made."
            )
        for file in (KERAS_FILE, *({PHOTOS_FILE} & manifest.files.keys())):
            write_file(run.teacher / file, partial(copy, file))
            problem = difference(file, manifest.files[file], entry_of_file(run.teacher / file))
            if problem:
                raise Corrupt(f"The teacher {name} is damaged: {problem}. Export or publish it again.")
        write_file(run.teacher / MANIFEST_FILE, lambda path: path.write_bytes(manifest.to_json()))
    return kept_teacher(run)


def kept_teacher(run: RunFolder) -> KeptTeacher:
    """Return the teacher that a run has kept.

    Raises:
        NotFound: it has kept none.
        Corrupt: its file has changed since.
    """
    path = run.teacher / MANIFEST_FILE
    if not path.is_file():
        raise NotFound(f"Expected the run's teacher in {run.teacher}; there is none. Start the run again.")
    manifest = Manifest.from_json(path.read_bytes())
    problem = difference(KERAS_FILE, manifest.files[KERAS_FILE], entry_of_file(run.teacher / KERAS_FILE))
    if problem:
        raise Corrupt(
            f"The run's teacher is damaged: {problem}. Put {run.teacher / KERAS_FILE} back, or start a new run."
        )
    return KeptTeacher(run.teacher, manifest)


def require_labels(manifest: Manifest, labels: Sequence[str]) -> None:
    """Expect a teacher to know every class of its pupil; it may know more, which are left out.

    Raises:
        InvalidRequest: it does not; the message names those that it lacks.
    """
    missing = [label for label in labels if label not in manifest.labels]
    if missing:
        others = [label for label in manifest.labels if label not in labels]
        raise InvalidRequest(
            f"Expected a teacher that knows all {len(labels)} classes; it lacks {_few(missing)}"
            + (f", and knows {_few(others)} besides" if others else "")
            + ". Train the teacher on the same classes, or take a part of them with --classes."
        )


def _found(name: str) -> tuple[Manifest, Copy]:
    """Return a teacher's manifest and what copies one of its files to a path."""
    folder = Path(name)
    if folder.is_dir():
        return _of_folder(folder)
    wanted = version_name(name.strip().lower())
    if wanted != PRODUCTION and not VERSION.fullmatch(wanted):
        raise NotFound(
            f"Expected --teacher to be the folder of a run, or a published version such as v7 or production; there is "
            f"no folder {name}."
        )
    settings = Settings.from_env(os.environ)
    registry = Registry(open_store(settings.model_store), settings.model_name)
    if wanted == PRODUCTION:
        production = registry.known_channels(newest=0).production
        if production is None:
            raise NotFound(
                f"No version of {registry.model} is promoted in {registry.store.url}. Name one, such as --teacher v1."
            )
        manifest = registry.manifest_at(production)
    else:
        manifest, _ = registry.manifest(wanted)
    return manifest, lambda file, path: path.write_bytes(registry.read_file(manifest, file))


def _of_folder(folder: Path) -> tuple[Manifest, Copy]:
    is_run = (folder / "config.json").is_file() or (folder / "bundle").is_dir()
    bundle = folder / "bundle" if is_run else folder
    if not (bundle / MANIFEST_FILE).is_file():
        raise NotFound(
            f"Expected a finished run at --teacher {folder}; it has no bundle yet. {FINISH}"
            if is_run
            else f"Expected the folder of a run or of a version at --teacher {folder}; it has no {MANIFEST_FILE}."
        )
    manifest = Manifest.from_json((bundle / MANIFEST_FILE).read_bytes())
    for file in sorted({KERAS_FILE, PHOTOS_FILE} & manifest.files.keys()):
        if not (bundle / file).is_file():
            raise Corrupt(f"Expected {file} in {bundle}, as its {MANIFEST_FILE} says; it is not there. {FINISH}")
    return manifest, lambda file, path: shutil.copyfile(bundle / file, path)


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
