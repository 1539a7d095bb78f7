"""The trainer's image, read instead of built: what it copies is there and in the context, and its versions agree."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from admin_cli import vertex
from tests.support.dockerfiles import all_of, copied, environment_of, ignored, stages
from tests.support.processes import ROOT
from trainer.data.mirror import MIRROR_VARIABLE

DOCKERFILE = ROOT / "trainer" / "Dockerfile"
TARGETS = {"cpu": "requirements.txt", "gpu": "requirements-gpu.txt"}


def _pins(name: str) -> dict[str, str]:
    """The pinned versions of a requirements file, by what is installed on Linux: tensorflow, in all its builds."""
    pins = {}
    for line in (ROOT / name).read_text().splitlines():
        requirement = line.partition("#")[0].strip()
        if not requirement or 'platform_system != "Linux"' in requirement:
            continue
        if requirement.startswith("-r "):
            pins |= _pins(requirement.removeprefix("-r ").strip())
            continue
        package, version = requirement.partition(";")[0].strip().split("==")
        pins[package.partition("[")[0].removesuffix("-cpu")] = version
    return pins


def test_every_path_that_is_copied_is_there_and_in_the_context():
    assert len(copied(DOCKERFILE)) >= 8


def test_the_context_is_small():
    large = {".venv", ".git", "node_modules"}  # of tens of thousands of files; one of each is looked at below
    files = [path for top in ROOT.iterdir() if top.name not in large for path in (top, *top.rglob("*"))]
    kept = [name for path in files if path.is_file() and not ignored(name := path.relative_to(ROOT).as_posix())]
    assert {"trainer/main.py", "functions/classifier/serving/model.py", "requirements.txt"} <= set(kept)
    assert sum((ROOT / name).stat().st_size for name in kept) < 3_000_000
    for name in (
        ".venv/bin/python",
        ".git/config",
        "node_modules/typescript/package.json",
        "runs/x/config.json",
        "functions/.secret.local",
        "functions/.env",
        "tests/conftest.py",
        "trainer/__pycache__/main.pyc",
        ".model-store/food/channels.json",
    ):
        assert ignored(name), name


def test_everything_that_is_imported_or_read_is_copied():
    """What an installation reads: the packages' folders, readme, licence, setup.py and the requirements it reads."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    code = all_of(DOCKERFILE, "code")
    sources = {word for instruction, rest in code if instruction == "COPY" for word in shlex.split(rest)[:-1]}
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {package.rstrip("*") for package in packages} == {
        Path(source).name for source in sources if (ROOT / source).is_dir()
    }
    read = {
        "pyproject.toml", "setup.py", "requirements.txt", "requirements-onnx.txt", "requirements-coreml.txt",
        "requirements-batch.txt", "requirements-mlflow.txt",
        "functions/requirements.txt",
    }  # fmt: skip
    assert read | {project["project"]["readme"], *project["project"]["license-files"]} <= sources


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_installs_the_pinned_requirements_and_starts_the_trainer_without_rights(target):
    instructions = all_of(DOCKERFILE, target)
    runs = [rest for instruction, rest in instructions if instruction == "RUN"]
    assert f"pip install -r {TARGETS[target]}" in runs
    assert "pip install --no-deps --editable ." in runs
    # What is installed has been copied before, and so has what it includes.
    install = instructions.index(("RUN", f"pip install -r {TARGETS[target]}"))
    before = " ".join(rest for instruction, rest in instructions[:install] if instruction == "COPY")
    for included in re.findall(r"^-r (.+)$", (ROOT / TARGETS[target]).read_text(), re.MULTILINE):
        assert f"{included} {included}" in before
    assert f"{TARGETS[target]} ./" in before
    # Nothing is installed as the user, nothing else runs as root, and the user may write where runs go.
    assert instructions[-1] == ("USER", "trainer")
    assert any(re.search(r"useradd .*\btrainer\b.*mkdir /data /runs && chown trainer /data /runs", run) for run in runs)
    volumes = next(rest for instruction, rest in instructions if instruction == "VOLUME")
    assert json.loads(volumes) == ["/data", "/runs"]
    command = json.loads(next(rest for instruction, rest in instructions if instruction == "ENTRYPOINT"))
    assert command[0] in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_job_of_vertex_ai_starts_and_writes_is_there(target):
    instructions = all_of(DOCKERFILE, target)
    job = vertex.custom_job("food", [], vertex.JobOptions(image="x"))
    (command,) = job["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["command"]
    assert command in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert "admin_cli" in [source for source, _ in copied(DOCKERFILE)]
    environment = environment_of(instructions)
    volumes = json.loads(next(rest for instruction, rest in instructions if instruction == "VOLUME"))
    # The user may write nowhere else; the mirror would be under the working directory, which is root's.
    for place in (vertex.RUN_THERE, environment[MIRROR_VARIABLE], environment["KERAS_HOME"]):
        assert str(PurePosixPath(place).parent) in volumes, place
    assert ("/usr/local/nvidia/lib64" in environment.get("LD_LIBRARY_PATH", "")) == (target == "gpu")


def test_the_image_s_python_is_the_project_s():
    origin = stages(DOCKERFILE)["base"][0]
    python = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-[a-z]+@sha256:[0-9a-f]{64}", origin).group(1)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == f">={python}"
    assert f'"runtime": "python{python.replace(".", "")}"' in (ROOT / "firebase.json").read_text()


def test_the_base_is_the_service_s():
    assert stages(DOCKERFILE)["base"][0] == stages(ROOT / "Dockerfile")["service"][0]


@pytest.mark.parametrize("target", TARGETS)
def test_the_health_line_fails_where_no_run_could_be_kept(target, tmp_path):
    check = next(rest for instruction, rest in all_of(DOCKERFILE, target) if instruction == "HEALTHCHECK")
    program, option, code = json.loads(check.partition(" CMD ")[2])
    assert (program, option) == ("python", "-c")
    for folder, healthy in ((tmp_path, True), (tmp_path / "missing", False)):
        command = [sys.executable, option, code.replace("'/runs'", repr(str(folder)))]
        assert (subprocess.run(command, capture_output=True).returncode == 0) == healthy
    assert list(tmp_path.iterdir()) == []


def test_both_targets_have_the_same_versions():
    cpu, gpu = _pins("requirements.txt"), _pins("requirements-gpu.txt")
    assert cpu == gpu
    assert {"tensorflow", "keras", "ai-edge-litert", "pandas"} <= set(cpu)
    assert "tensorflow[and-cuda]==" in (ROOT / "requirements-gpu.txt").read_text()
