"""The command `admin_cli`: its commands, and the one table from errors to exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from admin_cli import (
    canary,
    canary_watch,
    compare,
    feedback,
    health,
    housekeeping,
    importing,
    labelling,
    prediction,
    production,
    publishing,
    relabelling,
    retrain,
    shadow,
    traffic,
    versions,
)
from admin_cli.output import printable, with_options
from classifier.errors import Corrupt, PointerError
from classifier.exit_codes import exit_code
from classifier.interrupts import INTERRUPTED, interrupts
from classifier.quiet import write_what_can_be_written
from classifier.release import release
from classifier.usage import usage_line

app = typer.Typer(
    name="admin_cli",
    help="Publish, compare, promote and roll back versions of a model.\n\n"
    "Exit codes: 2 usage, 3 not found, 4 conflict, 5 refused, 6 out of reach or overloaded, 7 asked "
    "too often.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    importing.import_model,
    retrain.retrain,
    publishing.publish,
    versions.list_versions,
    versions.show,
    versions.verify,
    compare.compare,
    production.promote,
    production.rollback,
    production.history,
    prediction.predict,
    traffic.status,
    health.doctor,
    housekeeping.models,
    housekeeping.pull,
    housekeeping.open_report,
    housekeeping.prune,
):
    app.command(name=command.__name__.removesuffix("_versions").removesuffix("_report").removesuffix("_model"))(command)
app.command("label", context_settings={"allow_extra_args": True})(labelling.label)
app.command("relabel-diff")(relabelling.relabel_diff)
app.add_typer(compare.gate, name="gate")
canary.canary.command("watch")(canary_watch.watch)
app.add_typer(canary.canary, name="canary")
app.add_typer(shadow.shadow, name="shadow")
app.add_typer(feedback.feedback, name="feedback")


def _print_release(asked: bool) -> None:
    if asked:
        typer.echo(f"admin_cli {release()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the release and exit.", callback=_print_release, is_eager=True)
    ] = False,
) -> None:
    """Take the options that come before a command."""


def main() -> None:
    """Run the command line; an expected error becomes one line on stderr and its exit code."""
    arguments = sys.argv[1:] or ["--help"]
    write_what_can_be_written()
    try:
        with interrupts():
            code = app(arguments, prog_name="admin_cli", standalone_mode=False)
    except KeyboardInterrupt:  # as the command ended
        code = INTERRUPTED
    except PointerError as error:
        where = f" The store is {error.store}." if isinstance(error, Corrupt) and error.store else ""
        _fail(f"{error}{where}", exit_code(error))
    except TyperException as error:
        _fail(usage_line(error, "admin_cli"), error.exit_code)
    if code == INTERRUPTED:
        typer.echo("admin_cli: interrupted; the same command goes on, or begins anew.", err=True)
    sys.exit(code)


def _fail(message: str, code: int) -> None:
    typer.echo(f"admin_cli: {printable(with_options(' '.join(message.split())))}", err=True)
    sys.exit(code)
