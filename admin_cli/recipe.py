"""A version's recipe: the options that it was trained with, where its photos are, changes, and the run's folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from admin_cli.output import print_text
from classifier.errors import InvalidRequest, NotFound, Refused
from classifier.registry.catalogue import VERSION
from classifier.registry.manifest import MODEL_FILE, Manifest
from classifier.registry.rules import Registry
from classifier.storage.names import bucket_of
from classifier.storage.opening import open_store
from classifier.traffic.feedback import Feedback

SECTIONS = ("data", "network", "schedule", "compute")
BACKBONE = "backbone.keras"
"""In a run's folder: the network of --backbone that it began with."""
RUNS = Path("runs")
"""Where runs are, under the working directory."""

Recipe = dict[str, dict[str, Any]]
"""A training configuration: each section's options with their values."""


def recipe_of(manifest: Manifest) -> Recipe:
    """Return the training configuration of a version.

    Raises:
        NotFound: its manifest has none.
    """
    if "imported" in manifest.training:
        raise NotFound(
            f"{manifest.version} was imported: there is no recipe to train again. Train with `trainer train`, and "
            "publish the run; or import what was trained elsewhere again."
        )
    missing = [name for name in SECTIONS[:3] if not isinstance(manifest.training.get(name), Mapping)]
    if missing:
        raise NotFound(
            f"Expected the manifest of {manifest.version} to tell how it was trained; {', '.join(missing)} is missing. "
            "Train with `trainer train`, and publish the run."
        )
    return {name: dict(manifest.training.get(name) or {}) for name in SECTIONS}


def place_data(config: Recipe, manifest: Manifest, dataset: str | None, data_dir: str | None, csv: Path | None) -> bool:
    """Say where the photos are: a manifest does not tell the folders of the machine that trained.

    Returns:
        Whether they are where those were that it was trained on, as far as that is known.

    Raises:
        NotFound: neither an option nor a run under ``runs/`` tells.
    """
    data = config["data"]
    made = _run_of(manifest)
    former = made.get("data", {}) if made else {}
    before = _places(former) if former else _names(data)
    if dataset is not None:
        data["dataset"] = dataset
    if data_dir is not None or csv is not None:
        data["csv"] = str(csv) if csv else None
        data["data_dir"] = data_dir or (str(csv.parent) if csv else None)
    elif former:
        data["data_dir"], data["csv"] = former.get("data_dir"), former.get("csv")
    elif not str(data.get("data_dir") or "").startswith("gs://"):
        raise NotFound(
            f"Expected a run under {RUNS}/ that made {manifest.version}, which tells where its photos are; found none. "
            "Name them with --data-dir."
        )
    if made and config["network"].get("weights") not in ("imagenet", "none", "own"):
        config["network"]["weights"] = made.get("network", {}).get("weights")
    return _places(data) == before if former else _names(data) == before


def _places(data: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Return data set, folder and table, the paths as they are on this machine."""
    paths = (str(data[name]) if data.get(name) else None for name in ("data_dir", "csv"))
    return (data.get("dataset"), *(path if path is None or "://" in path else os.path.realpath(path) for path in paths))


def _names(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Return data set, folder and table as a manifest tells them: without the paths of the machine that trained."""
    return tuple(Path(str(data.get(name) or "")).name for name in ("dataset", "data_dir", "csv"))


def place_teaching(config: Recipe, manifest: Manifest) -> None:
    """Say where its teacher and its photos without labels are, unless options were set to that.

    A teacher that was published is named by its version, which stays; other places are those of the run that made it.

    Raises:
        NotFound: neither an option nor a run under ``runs/`` tells.
    """
    made = None
    for section, option, what in (
        ("schedule", "teacher", "its teacher is"),
        ("data", "unlabelled", "its photos without labels are"),
    ):
        value = config[section].get(option)
        if not value or value != manifest.training[section].get(option) or str(value).startswith("gs://"):
            continue
        if option == "teacher" and VERSION.fullmatch(str(value)):
            continue
        made = made or _run_of(manifest)
        if not made:
            raise NotFound(
                f"Expected a run under {RUNS}/ that made {manifest.version}, which tells where {what}; found none. "
                f"Name it with --set {option}=FOLDER, or train without with --set {option}=null."
            )
        config[section][option] = made.get(section, {}).get(option)


def place_backbone(config: Recipe, manifest: Manifest) -> None:
    """Say where the network of one's own is that a training began with, unless an option was set to another one.

    Raises:
        NotFound: neither an option nor a run under ``runs/`` tells.
    """
    value = config["network"].get("backbone")
    if not value or value != manifest.training["network"].get("backbone"):
        return
    made = _run_of(manifest)
    if not made:
        raise NotFound(
            f"Expected a run under {RUNS}/ that made {manifest.version}, which has the network {value} that it began "
            "with; found none. Name it with --set backbone=FILE, or go on from a version with --from production."
        )
    config["network"]["backbone"] = made["network"]["backbone"]


def store_of_teacher(config: Recipe, manifest: Manifest, store: str, model: str) -> dict[str, str]:
    """Return the variables by which the trainer finds the version that teaches: the store, and the teacher's model."""
    taught = manifest.training.get("teacher") or {}
    same = taught.get("version") and taught.get("version") == config["schedule"].get("teacher")
    return {"MODEL_STORE": store, "MODEL_NAME": str(taught.get("model") or model) if same else model}


def changes_elsewhere(config: Recipe, changes: list[str] | None) -> list[str]:
    """Return the options to set on a machine where no run tells of the places that a manifest does not."""
    places = {"teacher": config["schedule"].get("teacher"), "unlabelled": config["data"].get("unlabelled")}
    return [*(changes or ()), *(f"{name}={place}" for name, place in places.items() if place)]


def set_option(config: Recipe, change: str) -> None:
    """Set an option of the trainer; the value is JSON where it is, else a text.

    Raises:
        InvalidRequest: it has no such option.
    """
    name, equals, text = change.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    sections = [section for section in SECTIONS if name in config[section]]
    if not equals or not sections:
        known = ", ".join(sorted({option for section in SECTIONS for option in config[section]}))
        raise InvalidRequest(f"Expected --set OPTION=VALUE with one of {known}; received {change!r}.")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    for section in sections:
        config[section][name] = value


def run_folder(registry: Registry, parent: str, config: Recipe, *, afresh: bool, feedback: bool) -> Path:
    """Return the run's folder, which is the same for the same command on the same photos, and else another.

    Photos are told by their names, sizes and times, or generations, which needs no reading of them.
    """
    accepted = []
    if feedback:
        cases = Feedback(registry.store, registry.model).found().cases  # what is damaged is told with the table
        accepted = sorted(case.correction.id for case in cases if case.status == "accepted")
    data_dir, table = str(config["data"]["data_dir"]), config["data"].get("csv")
    digest = hashlib.sha256(json.dumps([config, afresh, accepted], sort_keys=True).encode())
    for line in sorted(_listed(data_dir)):
        digest.update(line.encode("utf-8", "surrogateescape"))
    if table and Path(table).is_file():
        digest.update(Path(table).read_bytes())
    return RUNS / f"{registry.model}-after-{parent}-{digest.hexdigest()[:8]}"


def _run_of(manifest: Manifest) -> dict[str, Any] | None:
    """Return the configuration of the run here whose bundle a version is; None where there is none."""
    for path in sorted(RUNS.glob("*/bundle/manifest.json")):
        try:
            bundle = Manifest.from_json(path.read_bytes())
            if bundle.files[MODEL_FILE] == manifest.files[MODEL_FILE] and bundle.created_at == manifest.created_at:
                found: dict[str, Any] = json.loads((path.parents[1] / "config.json").read_bytes())
                if (kept := path.parents[1] / BACKBONE).is_file():
                    found["network"]["backbone"] = str(kept)
                return found
        except (OSError, ValueError, Refused, NotFound):
            continue
        except Exception as error:  # noqa: BLE001 - a folder that is no run, or one of another release
            print_text(f"passed over {path.parents[1]}: {error}")
    return None


def _listed(data_dir: str) -> Iterator[str]:
    if bucket_of(data_dir):
        for item in open_store(data_dir).list():
            yield f"{item.name}\0{item.generation}\n"
        return
    for parent, _, names in os.walk(data_dir):
        for name in names:
            path = Path(parent, name)
            with suppress(OSError):
                status = path.stat()
                yield f"{path.relative_to(data_dir)}\0{status.st_size}\0{status.st_mtime_ns}\n"
