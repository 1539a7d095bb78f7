"""`pip install .`: what is in the wheel, and that it works in an environment of its own, from another folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.bundles import build_tiny_bundle
from tests.support.processes import ROOT
from tests.support.serving import MODEL, publish

EXTRAS = ("-onnx", "-coreml", "-batch", "-mlflow")


def _run(*command: object, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in os.environ if not name.startswith(("PYTHON", "MODEL_"))}
    return subprocess.run(
        [*map(str, command)], cwd=folder, env=kept | environment, capture_output=True, text=True, timeout=300
    )


def _package(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this project, built of a copy: a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    copied = folder / "project"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout: its files are not known")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (copied / name).parent.mkdir(parents=True, exist_ok=True)
            (copied / name).write_bytes((ROOT / name).read_bytes())
    done = _run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder,
        copied, folder=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return next(folder.glob("pointer-*.whl"))


def test_the_wheel_has_the_page_the_contract_and_the_dependencies_as_they_are_declared(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    page = {f"web/{path.name}" for path in (ROOT / "functions/web").iterdir()}
    for name in {"openapi.yaml", "main.py", "web/index.html", "web/page.js", "web/api.js"} | page:
        assert f"classifier/deployed/{name}" in names
    assert {"trainer/report/page.html", "trainer/report/page.css", "trainer/report/page.js"} <= names
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]
    required = [line.removeprefix("Requires-Dist: ") for line in metadata.splitlines() if "Requires-Dist" in line]
    pinned = [
        line.strip()
        for file in (ROOT / "functions/requirements.txt", *(ROOT / f"requirements{end}.txt" for end in ("", *EXTRAS)))
        for line in file.read_text().splitlines()
        if line.strip() and not line.startswith(("#", "-r"))
    ]
    assert {_package(line) for line in required} == {_package(line) for line in pinned}
    assert {_package(line) for line in required if 'extra == "onnx"' in line} == {"onnx", "onnxruntime", "tf2onnx"}
    assert {_package(line) for line in required if 'extra == "coreml"' in line} == {"coremltools"}
    assert {_package(line) for line in required if 'extra == "mlflow"' in line} == {"mlflow-skinny"}
    batch = {_package(line) for line in required if 'extra == "batch"' in line}
    assert batch == {"apache-beam", "google-apitools", "google-auth-httplib2", "pyarrow"}
    plain = [line for line in required if "extra ==" not in line]
    assert not [line for line in plain if line.lower().startswith(("tensorflow", "keras", "firebase", "flask"))]
    assert set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"]) == {
        "dependencies", "optional-dependencies",
    }  # fmt: skip


@pytest.mark.long
def test_an_installed_admin_cli_works_from_another_folder_without_tensorflow(wheel, tmp_path):
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    done = _run(venv / "bin/pip", "install", "--quiet", "--no-compile", wheel, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert _run(venv / "bin/python", "-c", "import tensorflow", folder=tmp_path).returncode == 1
    store, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    elsewhere.mkdir()
    publish(store, build_tiny_bundle(tmp_path / "bundle"))
    settings = {"MODEL_STORE": str(store), "MODEL_NAME": MODEL}
    listed = _run(venv / "bin/admin_cli", "list", folder=elsewhere, **settings)
    assert listed.returncode == 0, listed.stderr
    assert "* v1" in listed.stdout
    photo = next(tmp_path.glob("bundle/golden/*"))
    said = _run(venv / "bin/admin_cli", "predict", photo, folder=elsewhere, **settings)
    assert said.returncode == 0, said.stderr
    assert "confidence" in said.stdout
    trainer = _run(venv / "bin/trainer", "datasets", folder=elsewhere)
    assert trainer.returncode == 1
    assert trainer.stderr == (
        "trainer: Expected the packages of training; pandas is not installed. Install them: pip install '.[trainer]'\n"
    )
