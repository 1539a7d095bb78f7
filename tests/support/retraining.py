"""A version that can be trained again, and a program in the trainer's place."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from admin_cli import training_program
from classifier.registry.manifest import Manifest
from tests.support.bundles import files_of

RECIPE: dict[str, Any] = {
    "data": {"dataset": "folder", "data_dir": "photos", "csv": None, "seed": 7},
    "network": {"architecture": "base_cnn", "weights": "none"},
    "schedule": {"head_epochs": 5, "seed": 7},
    "compute": {"precision": "float32"},
}
PROGRAM = """#!{python}
import json, os, shutil, sys
arguments = sys.argv[1:]
open("asked.jsonl", "a").write(json.dumps(arguments) + "\\n")
open("store.json", "w").write(json.dumps([os.environ["MODEL_STORE"], os.environ["MODEL_NAME"]]))
if {code}:
    sys.stderr.write("trainer: no\\n")
    sys.exit({code})
shutil.copytree({bundle!r}, arguments[arguments.index("--run") + 1] + "/bundle")
"""


def described(bundle: Path, **changes: Any) -> Path:
    """Give a bundle a recipe and what a training goes on from."""
    (bundle / "report/photos.csv").write_text("sha256,label,split\n")
    manifest = Manifest.from_json((bundle / "manifest.json").read_bytes())
    changed = dataclasses.replace(manifest, files=files_of(bundle), **{"training": RECIPE, **changes})
    (bundle / "manifest.json").write_bytes(changed.to_json())
    return bundle


@pytest.fixture(name="stand_in")
def stand_in_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bundle_original: Path) -> Any:
    """A program in the trainer's place, because the real one takes half a minute: it copies a bundle."""
    monkeypatch.chdir(tmp_path)

    def install(code: int = 0, bundle: Path = tiny_bundle_original) -> None:
        path = tmp_path / "bin/trainer"
        path.parent.mkdir(exist_ok=True)
        path.write_text(PROGRAM.format(python=sys.executable, code=code, bundle=str(bundle)))
        path.chmod(0o755)
        monkeypatch.setattr(training_program, "trainer", lambda: str(path))

    install()
    return install


def asked(folder: Path) -> list[list[str]]:
    """What the program was given, call by call."""
    path = folder / "asked.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def option(arguments: list[str], name: str) -> str:
    """The value of an option that is two words."""
    return arguments[arguments.index(name) + 1]
