"""The command `trainer`: its commands, and its errors as one line each."""

from __future__ import annotations

import sys

import typer
from typer.exceptions import TyperException

from classifier.errors import PointerError
from trainer.commands.data import datasets, samples
from trainer.commands.measuring import evaluate
from trainer.commands.training import export, train

INTERRUPTED = 130
"""What Typer returns after Ctrl-C."""

app = typer.Typer(
    name="trainer",
    help="Train an image classifier on your photos and make a bundle that `admin_cli publish` takes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (train, export, evaluate, datasets, samples):
    app.command()(command)


def main() -> None:
    """Run the command line; an expected error becomes one line on stderr: exit code 1, or 2 for how it is used."""
    arguments = sys.argv[1:] or ["--help"]
    try:
        code = app(arguments, prog_name="trainer", standalone_mode=False)
    except PointerError as error:
        typer.echo(f"trainer: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "trainer"
        typer.echo(f"trainer: {error.format_message().rstrip('.')}. `{path} --help` explains.", err=True)
        sys.exit(error.exit_code)
    if code == INTERRUPTED:
        typer.echo("trainer: interrupted; an interrupted `trainer train` goes on when it is run again.", err=True)
    sys.exit(code)
