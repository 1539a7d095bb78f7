"""Starting the project's code in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = ROOT / "functions"
SUPPORT = ROOT / "tests" / "support"
RIVALS = 8
"""How many processes or threads want the same thing at the same moment."""


def environment() -> dict[str, str]:
    """The environment of the tests, with the project importable."""
    paths = [str(FUNCTIONS), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def start_together(code: str, arguments: list[list[str]]) -> list[str]:
    """Run one process for each list of arguments, let all go on at the same moment, return what each printed.

    The code calls ``wait()`` when it is ready.
    """
    wait = "import sys\ndef wait():\n    print('ready', flush=True)\n    sys.stdin.readline()\n"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", wait + code, *each],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for each in arguments
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return printed
