"""Kills a program at every step at which it changes the disk, one after the other.

    python tests/support/killpoints.py MODULE:FUNCTION TEMPLATE COPIES [ARGUMENT...]

For n = 1, 2, 3, ... it copies the folder TEMPLATE to COPIES/n, forks, and calls the function in the fork with
`sys.argv` set to the arguments, in which "{store}" stands for the copy; the environment's MODEL_STORE is the copy
too. The fork ends itself with SIGKILL before its n-th step. The first fork that ends undisturbed is the last. The
function must not have been given threads before: it is imported, not called, in the parent.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.processes import environment

STEPS = (
    (os, "open"),
    (os, "fdopen"),
    (os, "mkdir"),
    (os, "fsync"),
    (os, "utime"),
    (os, "replace"),
    (os, "rename"),
    (os, "link"),
    (os, "unlink"),
    (fcntl, "flock"),
)
"""What a store on a disk is changed, locked or made durable with. Between two of them nothing is visible."""


def kill_everywhere(target: str, template: Path, copies: Path, *arguments: str) -> list[Path]:
    """Run this program; return the stores that the killed runs left, in order, and last the undisturbed one."""
    command = [sys.executable, __file__, target, str(template), str(copies), *arguments]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return sorted(copies.iterdir(), key=lambda path: int(path.name))


def main() -> None:
    target, template, copies, *arguments = sys.argv[1:]
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    for number in range(1, 10_000):
        store = Path(copies, str(number))
        shutil.copytree(template, store)
        child = os.fork()
        if child == 0:
            run(function, [each.replace("{store}", str(store)) for each in arguments], store, number)
        status = os.waitpid(child, 0)[1]
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            sys.exit(os.waitstatus_to_exitcode(status))
    sys.exit("the program never ended undisturbed")


def run(function: Callable[[], object], arguments: list[str], store: Path, kill_at: int) -> None:
    """Call the function in a fork and end it, with its exit status, without the parent's clean-up."""
    status = 1
    try:
        sys.argv = [sys.argv[0], *arguments]
        os.environ["MODEL_STORE"] = str(store)
        install(kill_at)
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


def install(kill_at: int) -> None:
    """Make this process end itself with SIGKILL before its n-th step, counted from 1."""
    steps = iter(range(1, sys.maxsize))

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            if next(steps) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)

        return step

    for module, name in STEPS:
        setattr(module, name, counted(getattr(module, name)))


if __name__ == "__main__":
    main()
