"""The program that is killed: the command line, in a copy of a place. What it would import is here before it forks."""

from __future__ import annotations

import os
from pathlib import Path

import ai_edge_litert.interpreter  # noqa: F401
import typer.main

import admin_cli.main
import classifier.photo.preprocessing
import classifier.serving.golden  # noqa: F401
from tests.support.kill_cases import enter

COMMANDS = typer.main.get_command(admin_cli.main.app)
"""Built once: that takes longer than most commands."""


def program() -> None:
    """Run a command in the place that the environment's MODEL_STORE names."""
    enter(Path(os.environ["MODEL_STORE"]))
    admin_cli.main.app = COMMANDS
    admin_cli.main.main()
