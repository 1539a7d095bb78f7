"""The dev container and the hooks of pre-commit: what the Makefile does, with what it installs."""

from __future__ import annotations

import json
import re
import subprocess

import yaml

from tests.support.processes import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
PINNED = {line.partition("==")[0] for line in (ROOT / "requirements-dev.txt").read_text().splitlines() if "==" in line}


def test_the_dev_container_installs_as_the_makefile_says_and_has_its_python_and_port() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    runtime = json.loads((ROOT / "firebase.json").read_text())["functions"][0]["runtime"]
    assert container["postCreateCommand"] == "make install"
    assert f":{runtime.removeprefix('python').replace('3', '3.', 1)}-" in container["image"]
    assert container["forwardPorts"] == [int(re.search(r"^PORT \?= (\d+)$", MAKEFILE, re.MULTILINE)[1])]
    interpreter = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter.endswith(f"/{re.search(r'^VENV := (.*)$', MAKEFILE, re.MULTILINE)[1]}/bin/python")


def test_the_hooks_are_what_make_check_runs_with_the_pinned_tools() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"  # nothing is fetched, and there is no second version
    checks = re.search(r"^check: .*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1]
    commands = [line.strip().removesuffix(" .") for line in checks.splitlines()]
    wanted = [command.replace("$(BIN)/", ".venv/bin/") for command in commands]
    hooks = repository["hooks"]
    assert [hook["entry"].removesuffix(" --force-exclude") for hook in hooks] == wanted
    for hook in hooks:
        assert hook["language"] == "system" and hook["types_or"][:2] == ["python", "pyi"]
        # ruff is given files, and so needs to be told to leave out what its settings leave out.
        assert hook["entry"].endswith("--force-exclude") == hook.get("pass_filenames", True)
    assert {"ruff", "mypy", "import-linter"} <= PINNED


def test_make_install_ends_with_what_is_there_and_what_to_run_next() -> None:
    command = ["make", "--no-print-directory", "-o", ".venv/.installed", "install"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == (
        ".venv has trainer, admin_cli and the tools of development. "
        "Next: make run, make test, or source .venv/bin/activate.\n"
    )
