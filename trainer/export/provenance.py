"""What a manifest says of how a bundle was made: its files, the tools, and the training."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from classifier.registry.bundle import entry_of_file
from classifier.registry.manifest import MANIFEST_FILE, FileEntry
from trainer.run.config import SECTIONS, TrainingConfig
from trainer.run.declarations import declared
from trainer.run.files import read_json
from trainer.run.folder import RunFolder
from trainer.training.checkpoints import TrainingState
from trainer.training.teacher import kept_teacher
from trainer.training.trained import Trained

TOOLS = ("keras", "tensorflow", "tensorflow-cpu", "ai-edge-litert", "numpy", "pillow")


def describe_files(folder: Path) -> dict[str, FileEntry]:
    """Return size and sha256 of every file below a folder but the manifest, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_FILE)
    return {path.relative_to(folder).as_posix(): entry_of_file(path) for path in paths}


def tool_versions(names: Iterable[str] = TOOLS) -> dict[str, str]:
    """Return the versions of what made the bundle, or of others of those packages that are installed."""
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def training_of(config: TrainingConfig, run: RunFolder, trained: Trained) -> dict[str, Any]:
    """Return the configuration, the best epoch and the teacher, without the paths of the machine that trained."""
    plain = config.to_json()
    for section, kind in SECTIONS.items():
        for each in declared(kind):
            value = plain[section][each.name]
            if each.option.names_a_place and value and not value.startswith("gs://"):
                plain[section][each.name] = Path(value).name
    if config.network.backbone is not None:
        given = Path(read_json(run.config)["network"]["backbone"]).name
        plain["network"]["backbone"] = given
        plain["backbone"] = {"file": given, "sha256": entry_of_file(run.backbone).sha256}
    best = TrainingState(run).best or {}
    plain["best_epoch"] = {key: value for key, value in best.items() if key not in ("weights", "seeds")}
    if config.schedule.teacher is not None:
        plain["teacher"] = kept_teacher(run).lineage(trained.photos.frame)
        # What production was: it may be another version when this is trained again.
        plain["schedule"]["teacher"] = plain["teacher"]["version"] or plain["schedule"]["teacher"]
    return plain
