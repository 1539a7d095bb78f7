"""Both commands say their release and complete what is typed."""

from __future__ import annotations

from importlib import metadata

import pytest
import typer
from typer.testing import CliRunner

from admin_cli.main import app as admin_cli
from trainer.main import app as trainer

COMMANDS = pytest.mark.parametrize(("app", "name"), [(admin_cli, "admin_cli"), (trainer, "trainer")])


@COMMANDS
def test_version_is_the_installed_release(app: typer.Typer, name: str):
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"{name} {metadata.version('pointer')}\n")


@COMMANDS
def test_completion_can_be_installed(app: typer.Typer, name: str):
    result = CliRunner().invoke(app, ["--help"], prog_name=name)
    assert "--install-completion" in result.output
