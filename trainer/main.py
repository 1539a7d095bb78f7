"""The command `trainer`: its commands, and its errors as one line each."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import warnings
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from classifier.errors import PointerError
from classifier.exit_codes import exit_code
from classifier.interrupts import INTERRUPTED, interrupts
from classifier.quiet import write_what_can_be_written
from classifier.release import release
from classifier.usage import usage_line
from trainer.commands.architectures import architectures
from trainer.commands.auditing import audit
from trainer.commands.data import datasets, download, samples
from trainer.commands.grouping import GroupedCommand
from trainer.commands.importing import import_model
from trainer.commands.looking import explain, network
from trainer.commands.measuring import evaluate
from trainer.commands.reporting import report
from trainer.commands.runs import runs
from trainer.commands.training import export, train
from trainer.commands.tuning import tune
from trainer.commands.uploading import upload

REMEDIES = {
    errno.ENOSPC: "Free some space and run the same command again: it goes on where it stopped.",
    errno.EDQUOT: "Free some of your quota and run the same command again: it goes on where it stopped.",
    errno.EFBIG: "The system's limit of a file's size is reached (ulimit -f): raise it and run the same command again.",
    errno.EACCES: "Give yourself the right to it, or name another folder.",
    errno.EPERM: "Give yourself the right to it, or name another folder.",
    errno.EROFS: "Name a folder on a disk that can be written.",
    errno.ENOTDIR: "Part of the path is a file: name another folder.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
}
"""What to do about the errors of the system."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

app = typer.Typer(
    name="trainer",
    help="Train an image classifier on your photos and make a bundle that `admin_cli publish` takes.\n\n"
    "Exit codes: 2 usage, 3 not found, 4 conflict, 5 refused, 6 out of reach, 1 other.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    train, tune, export, evaluate, report, runs, import_model, architectures, explain, network,
    datasets, audit, download, upload, samples,
):  # fmt: skip
    app.command(command.__name__.removesuffix("_model"), cls=GroupedCommand)(command)


def _print_release(asked: bool) -> None:
    if asked:
        typer.echo(f"trainer {release()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the release and exit.", callback=_print_release, is_eager=True)
    ] = False,
) -> None:
    """Take the options that come before a command."""


def main() -> None:
    """Run the command line; an expected error becomes one line on stderr and its exit code, that of admin_cli.

    So do errors of the system, such as a full disk; what is left is a traceback: a fault of this program.
    """
    arguments = sys.argv[1:] or ["--help"]
    write_what_can_be_written()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # they are about libraries, not about what the user gave
    try:
        with interrupts():
            code = app(arguments, prog_name="trainer", standalone_mode=False)
    except KeyboardInterrupt:  # as the command ended
        code = INTERRUPTED
    except PointerError as error:
        typer.echo(f"trainer: {' '.join(str(error).split())}", err=True)
        _end(exit_code(error))
    except TyperException as error:
        typer.echo(f"trainer: {usage_line(error, 'trainer')}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("classifier", "trainer"):
            raise
        typer.echo(
            f"trainer: Expected the packages of training; {error.name} is not installed. Install them: "
            "pip install '.[trainer]'",
            err=True,
        )
        _end(1)
    except Exception as error:
        line = describe(error)
        if line is None:
            raise
        typer.echo(f"trainer: {line}", err=True)
        # HDF5 crashes over a file that it could not write when the interpreter ends and closes it once more.
        _end(1, at_once=isinstance(error, OSError) and str(error.filename).endswith(".h5"))
    if code == INTERRUPTED:
        typer.echo(
            "trainer: interrupted; a training, search, download or upload goes on when the same command is run again.",
            err=True,
        )
    sys.exit(code)


def describe(error: Exception) -> str | None:
    """Return one line for an error of the system: what it said, of which file, and what can be done about it.

    None for any other error. TensorFlow has errors of its own for a disk that is full; only their text says so.
    """
    if isinstance(error, OSError):
        number = error.errno
        names = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        said = f"{names}: {error.strerror}".removeprefix(": ") if error.strerror else str(error)
    else:
        number = next((full for full in FULL if os.strerror(full) in str(error)), None)
        if number is None:
            return None
        said = f"{os.strerror(number)} (the run's folder, or {tempfile.gettempdir()})"
    return f"{' '.join(said.split()).rstrip('.')}. {REMEDIES.get(number or 0, '')}".rstrip()


def _end(code: int, *, at_once: bool = False) -> NoReturn:
    """End with an exit code, at once where other processes share the training.

    JAX would wait minutes for them at its end, while they wait for this one; so they notice that it is gone.
    """
    jax = sys.modules.get("jax")
    if at_once or (jax is not None and jax.distributed.is_initialized()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
