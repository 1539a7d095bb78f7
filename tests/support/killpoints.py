"""Kills a program at every step at which it changes the disk, one after the other.

    python tests/support/killpoints.py MODULE:FUNCTION

imports the function and takes a job a line on stdin: {"template", "copies", "arguments", "visible", "stride"}. For n =
1, 2, 3, ... or, with a stride of 4, 1, 5, 9, ... it copies the folder "template" to "copies"/n, forks, and calls the
function in the fork with `sys.argv` set to the arguments, in which "{store}" stands for the copy; the environment's
MODEL_STORE is the copy too. The fork ends itself with SIGKILL before its n-th step, or behind it where only "visible"
steps count. The first fork that ends undisturbed is the last; its exit code is the answer. The function must not have
been given threads before: it is imported, not called, in the parent.
"""

from __future__ import annotations

import fcntl
import importlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import environment

VISIBLE = ((os, "replace"), (os, "rename"), (os, "link"), (os, "unlink"), (os, "rmdir"), (io, "open"))
"""What readers see the effect of. Of `io.open` only files that are opened to be written count: they are empty then."""
STEPS = (
    *VISIBLE,
    (os, "open"),
    (os, "fdopen"),
    (os, "mkdir"),
    (os, "fsync"),
    (os, "utime"),
    (fcntl, "flock"),
)
"""What a store on a disk is changed, locked or made durable with. Between two of them nothing is visible."""

Everywhere = Callable[..., list[Path]]


def kill_everywhere(target: str, template: Path, copies: Path, *arguments: str) -> list[Path]:
    """Return the stores that the killed runs left, in order, and last the undisturbed one."""
    with killing(target) as everywhere:
        return everywhere(template, copies, *arguments)


@contextmanager
def killing(target: str) -> Iterator[Everywhere]:
    """Run this program; what is lent does a job, as `kill_everywhere`, and expects an exit code of it."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, __file__, target],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )

        def everywhere(
            template: Path, copies: Path, *arguments: str, visible: bool = False, code: int = 0, stride: int = 1
        ) -> list[Path]:
            job: dict[str, Any] = {"template": str(template), "copies": str(copies), "arguments": arguments}
            job |= {"visible": visible, "stride": stride}
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline().strip()
            said.seek(0)
            assert answer == str(code), f"{arguments} ended with {answer or 'no answer'}: {said.read()[-3000:]}"
            return sorted(copies.iterdir(), key=lambda path: int(path.name))

        with process:
            yield everywhere
            process.stdin.close()


def main() -> None:
    module, _, name = sys.argv[1].partition(":")
    function = getattr(importlib.import_module(module), name)
    # What the function prints is not an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        print(do(function, **json.loads(line)), file=answers, flush=True)


def do(
    function: Callable[[], object], template: str, copies: str, arguments: list[str], visible: bool, stride: int
) -> int:
    """Return the exit code of the first fork that was not killed."""
    for number in itertools.count(1, stride):
        store = Path(copies, str(number))
        shutil.copytree(template, store)
        child = os.fork()
        if child == 0:
            run(function, [each.replace("{store}", str(store)) for each in arguments], store, number, visible=visible)
        status = os.waitpid(child, 0)[1]
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            return os.waitstatus_to_exitcode(status)
    raise AssertionError("never reached")


def run(function: Callable[[], object], arguments: list[str], store: Path, kill_at: int, *, visible: bool) -> None:
    """Call the function in a fork and end it, with its exit status, without the parent's clean-up."""
    status = 1
    try:
        sys.argv = [sys.argv[0], *arguments]
        os.environ["MODEL_STORE"] = str(store)
        install(kill_at, visible=visible)
        function()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def install(kill_at: int, *, visible: bool) -> None:
    """Make this process end itself with SIGKILL before its n-th step, from 1 on, or behind its n-th visible one."""
    steps = itertools.count(1)

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            if original is io_open and not to_be_written(*args, **options):
                return original(*args, **options)
            killed = next(steps) == kill_at
            if killed and not visible:
                os.kill(os.getpid(), signal.SIGKILL)
            done = original(*args, **options)
            if killed:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return step

    io_open = io.open
    for module, name in VISIBLE if visible else STEPS:
        setattr(module, name, counted(getattr(module, name)))


def to_be_written(file: Any, mode: str = "r", *_: Any, **__: Any) -> bool:
    """Say whether `io.open` is asked for a file by its path, to be written."""
    return not isinstance(file, int) and not set(mode).isdisjoint("wax+")


if __name__ == "__main__":
    main()
