"""Starts the program `trainer`, which has Keras, and shows its progress as it comes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote

import typer

from admin_cli.output import print_text
from admin_cli.subjects import Subject
from classifier.errors import NotFound, Unavailable
from classifier.registry.manifest import PHOTOS_FILE

ENDS_WITHIN = 20.0
"""Seconds that it has to end after a Ctrl-C; a second one ends both at once."""


def train(
    folder: Path,
    inputs: Path,
    parent: Subject,
    variables: Mapping[str, str],
    gate: Path | None,
    notice: str | None,
    *,
    force: bool,
) -> None:
    """Train a version's recipe again.

    Args:
        folder: of the run.
        inputs: what it goes on from: ``config.json`` and the version in ``parent``.
        parent: that version.
        variables: of the environment, besides this one's.
        gate: what serves, with whose labels the photos' are compared; None: they are not.
        notice: what users of the model should know.
        force: train also where no photo has changed.

    Raises:
        typer.Exit: it failed, and said why; with its exit code.
    """
    command = ["train", "--config", str(inputs / "config.json"), "--run", str(folder), "--parent", parent.name]
    if PHOTOS_FILE in parent.manifest.files:
        command += ["--since", str(inputs / "parent"), *(["--unchanged"] if force else [])]
    elif not force:
        print_text(f"{parent.name} does not tell what it was made of: what has changed since cannot be said")
    if gate is not None:
        command += ["--gate", str(gate)]
    if notice:
        command += ["--notice", notice]
    run_trainer(command, variables)


def run_trainer(arguments: Sequence[str], variables: Mapping[str, str]) -> None:
    """Run the trainer, and show the command.

    Args:
        arguments: of it.
        variables: of the environment, besides this one's.

    Raises:
        typer.Exit: it failed, and said why; with its exit code.
        Unavailable: it was killed.
        NotFound: it is not installed.
    """
    print_text(" ".join(quote(part) for part in ["trainer", *arguments]))
    code = _wait(subprocess.Popen([trainer(), *arguments], env={**os.environ, **variables}))
    if code < 0:
        raise Unavailable(
            f"Expected the trainer to end by itself; it was killed by {signal.Signals(-code).name}, perhaps because "
            "memory ran out. Each finished epoch is kept: give the same command again."
        )
    if code:
        raise typer.Exit(code)


def trainer() -> str:
    """Return the program `trainer`: the one beside this one, or else on the path.

    Raises:
        NotFound: there is none.
    """
    beside = [Path(each).parent / "trainer" for each in (sys.argv[0], sys.executable) if each]
    found = next((str(path.absolute()) for path in beside if path.is_file()), None) or shutil.which("trainer")
    if found is None:
        raise NotFound("Expected the program trainer beside admin_cli; it is not installed: pip install '.[trainer]'.")
    return found


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Return a program's exit code; after a Ctrl-C, which the terminal tells both, it has a while to end by itself."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_WITHIN)
        raise
    finally:
        process.kill()
        process.wait()
