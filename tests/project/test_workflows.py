"""GitHub's workflows: read by actionlint, their scripts by shellcheck, their commands by the real command lines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.documented import Command, commands_of
from tests.support.processes import ROOT

BIN = Path(sys.executable).parent
FILES = sorted((ROOT / ".github/workflows").glob("*.yaml"))
PATH = os.pathsep.join([str(BIN), os.environ["PATH"]])


def workflow(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / f".github/workflows/{name}.yaml").read_text()))


def steps(name: str) -> list[dict[str, Any]]:
    (job,) = workflow(name)["jobs"].values()
    return list(job["steps"])


def test_actionlint_finds_nothing() -> None:
    """With shellcheck, which it finds on the path."""
    command = [BIN / "actionlint", "-no-color", *FILES]
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, env={"PATH": PATH}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert len(FILES) == 3


def test_actionlint_would_find_something(tmp_path: Path) -> None:
    text = FILES[0].read_text().replace("vars.MODEL_STORE", "vras.MODEL_STORE").replace("code=$?", "code=$(($?")
    (tmp_path / "w.yaml").write_text(text)
    command = [str(BIN / "actionlint"), "-no-color", str(tmp_path / "w.yaml")]
    done = subprocess.run(command, cwd=tmp_path, env={"PATH": PATH}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert 'undefined variable "vras"' in done.stdout and "shellcheck reported issue" in done.stdout


def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    scripts = [ROOT / ".ci/run", *sorted((ROOT / "scripts").glob("*.sh"))]
    done = subprocess.run([BIN / "shellcheck", *scripts], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_checks_are_those_of_continuous_integration() -> None:
    (job,) = workflow("checks")["jobs"].values()
    ours = [target for targets in job["strategy"]["matrix"]["targets"] for target in targets.split()]
    theirs = re.findall(r"^make (\S+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert set(ours) == set(theirs)


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_no_workflow_has_more_rights_than_it_needs_or_a_key(name: str) -> None:
    body, text = workflow(name), (ROOT / f".github/workflows/{name}.yaml").read_text()
    google = any("google-github-actions/auth" in step.get("uses", "") for step in steps(name))
    assert body["permissions"] == {"contents": "read"} | ({"id-token": "write"} if google else {})
    assert "secrets." not in text and "credentials_json" not in text
    for step in steps(name):
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False
        assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})", step.get("uses", "a/b@v1")), step


@pytest.mark.parametrize("name", ["retrain", "canary"])
def test_the_variables_are_those_that_the_guide_names(name: str) -> None:
    page = (ROOT / "docs/deploy.md").read_text()
    section = page[page.index("\n## 10. ") : page.index("\n## With Terraform")]
    text = (ROOT / f".github/workflows/{name}.yaml").read_text()
    for variable in set(re.findall(r"vars\.(\w+)", text)):
        assert f"`{variable}`" in section, variable


@pytest.mark.parametrize("name", ["retrain", "canary"])
def test_the_command_line_reads_what_they_start(name: str) -> None:
    import typer

    from admin_cli.main import app

    started = [each for step in steps(name) for each in _commands(step.get("run", "")) if each.program == "admin_cli"]
    assert started
    for command in started:
        words = ["--feedback" if "FEEDBACK" in word else word.replace("$PERCENT", "10") for word in command.words[1:]]
        context = typer.main.get_command(app).make_context("admin_cli", words)
        while hasattr(context.command, "commands"):
            inner_name, inner, rest = context.command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            context = inner.make_context(inner_name, rest, parent=context)
        assert context.params


def _commands(script: str) -> list[Command]:
    lines = [line for line in script.replace("\\\n", " ").splitlines() if line.strip().startswith("admin_cli ")]
    return [each for line in lines for each in commands_of("workflow", f"    {' '.join(line.split())}\n")]


@pytest.mark.parametrize(
    ("code", "said", "expected"), [(0, "done", 0), (5, "No photo has changed.", 0), (6, "out of reach", 6)]
)
def test_a_refusal_is_a_warning_and_anything_else_a_failure(
    tmp_path: Path, code: int, said: str, expected: int
) -> None:
    """The script of the step, by bash, with another admin_cli on the path: it says one line and ends with a code."""
    (script,) = (step["run"] for step in steps("retrain") if "admin_cli" in step.get("run", ""))
    other = tmp_path / "admin_cli"
    other.write_text(f"#!/bin/sh\necho first\necho '{said}' >&2\nexit {code}\n")
    other.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "GITHUB_RUN_ID": "1", "PHOTOS": "gs://photos", "PERCENT": "10", "FEEDBACK": "",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == expected, done
    assert (f"::warning::{said}" in done.stdout) == (code == 5)
    assert (tmp_path / "summary").read_text() == f"{said}\n"


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 0), (5, 5)])
def test_no_canary_is_no_failure_and_an_aborted_one_is(tmp_path: Path, code: int, expected: int) -> None:
    (script,) = (step["run"] for step in steps("canary") if "canary watch" in step.get("run", ""))
    other = tmp_path / "admin_cli"
    other.write_text(f"#!/bin/sh\nexit {code}\n")
    other.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment).returncode == expected
