"""What can be compared: a published version, what a channel serves, or the bundle of a run that is not published."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from admin_cli.options import version_of
from classifier.errors import Corrupt
from classifier.labels import trimmed
from classifier.registry.bundle import read_bundle, read_bundle_file
from classifier.registry.channels import CANARY, PRODUCTION, Pointer
from classifier.registry.comparison import Answer
from classifier.registry.manifest import MODEL_FILE, Manifest
from classifier.registry.rules import Registry

PREDICTIONS = "report/test_predictions.csv"
"""What the served file said of each test photo, written by the export."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Subject:
    """One side of a comparison."""

    name: str
    """The version, or the run's folder."""
    manifest: Manifest
    read: Callable[[str], bytes]
    """Gives one of its files, verified."""

    @property
    def model_sha256(self) -> str:
        """The SHA-256 of the file that serves."""
        return self.manifest.files[MODEL_FILE].sha256

    @property
    def limit(self) -> float | None:
        """The score below which a photo is told as unknown."""
        return self.manifest.thresholds.get(UNKNOWN)

    def stored_answers(self, *, by_path: bool = False) -> dict[str, tuple[str, Answer]] | None:
        """Return what it said of its test photos when it was exported; None where that was not kept.

        Args:
            by_path: whether photos are known by the fingerprint of all data and their path, which is all that bundles
                of older releases tell, instead of the SHA-256 of their bytes.
        """
        if PREDICTIONS not in self.manifest.files:
            return None
        fingerprint = self.manifest.data.get("fingerprint")
        answers = {}
        for row in csv.DictReader(io.StringIO(self.read(PREDICTIONS).decode("utf-8"))):
            try:
                photo = f"{fingerprint}/{row['image_path']}"
                if not by_path and row.get("sha256"):
                    photo = row["sha256"]
                unknown = None
                if self.limit is not None and row.get("score"):
                    unknown = float(row["score"]) < self.limit
                answer = Answer(trimmed(row["predicted"]), float(row["confidence"]), unknown)
                answers[photo] = (trimmed(row["label"]), answer)
            except (KeyError, ValueError) as error:
                raise Corrupt(f"The table {PREDICTIONS} of {self.name} cannot be used: {error}.") from error
        return answers


def subject(registry: Registry, text: str) -> Subject:
    """Return what somebody names: v7, production, canary, or the folder of a run or of a bundle.

    Raises:
        NotFound: there is no such version or run, or the channel serves nothing.
        Corrupt: it is not what it has to be.
    """
    channels = {PRODUCTION, CANARY}
    folder = Path(text)
    if text.strip().lower() not in channels and folder.is_dir():
        return _of_folder(folder)
    if text.strip().lower() == CANARY:
        return of_pointer(registry, registry.canary())
    version = version_of(registry, text)
    return _of_manifest(registry, registry.manifest(version)[0])


def of_pointer(registry: Registry, pointer: Pointer) -> Subject:
    """Return what a channel serves, compared with what was pointed at."""
    return _of_manifest(registry, registry.manifest_at(pointer))


def of_version(registry: Registry, version: str) -> Subject:
    """Return a published version."""
    return _of_manifest(registry, registry.manifest(version)[0])


def _of_manifest(registry: Registry, manifest: Manifest) -> Subject:
    return Subject(str(manifest.version), manifest, lambda name: registry.read_file(manifest, name))


def _of_folder(folder: Path) -> Subject:
    bundle = folder / "bundle" if (folder / "bundle").is_dir() else folder
    return Subject(str(folder), read_bundle(bundle), lambda name: read_bundle_file(bundle, name))
