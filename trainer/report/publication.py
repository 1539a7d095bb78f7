"""Adds a report to its run's bundle: a new bundle is built beside and takes the old one's place whole."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from classifier.registry.bundle import read_bundle
from classifier.registry.manifest import MANIFEST_FILE, Manifest
from trainer.export.provenance import describe_files
from trainer.report.output import CARD, FIGURES, PAGE, TABLES
from trainer.run.files import write_file
from trainer.run.folder import RunFolder, clear_unfinished_bundle, replace_bundle

REPORT = "report"
"""Folder of the bundle; the tables of the export's own evaluation are there too and stay."""


def publish_report(run: RunFolder, folder: Path, files: Sequence[Path]) -> Manifest:
    """Put a report into the bundle, in the place of an earlier one, and list its files in the manifest.

    The old bundle stays as it is until the new one is complete.

    Args:
        run: the run.
        folder: where the report is.
        files: what is published of it, relative to the folder.

    Raises:
        NotFound, Corrupt, Refused: the bundle is missing or is not what its manifest says.
    """
    clear_unfinished_bundle(run)
    manifest = read_bundle(run.bundle)
    new = run.new_bundle
    shutil.copytree(run.bundle, new)
    for former in (FIGURES, TABLES):
        shutil.rmtree(new / REPORT / former, ignore_errors=True)
    for name in (PAGE, CARD):
        (new / REPORT / name).unlink(missing_ok=True)
    for file in files:
        target = new / REPORT / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / file, target)
    manifest = replace(manifest, files=describe_files(new))
    write_file(new / MANIFEST_FILE, lambda path: path.write_bytes(manifest.to_json()))
    replace_bundle(run)
    return manifest
