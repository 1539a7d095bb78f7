"""Ctrl-C reaches a command wherever its program is: in callbacks that swallow it, twice, and where it is ignored."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.support.processes import environment

CALLBACK = """
import signal, sys, time, weakref
def fall(): signal.raise_signal(signal.SIGINT)
class Thing: pass
class Falling:
    def __del__(self): fall()
def in_callback():
    thing = Thing()
    watch = weakref.ref(thing, lambda _: fall())
    del thing
def in_finaliser():
    thing = Falling()
    del thing
"""
MAIN = """
import typer
from {module}.main import main
import {module}.main as program
def command(*args, **options):
    app = typer.Typer()
    @app.callback(invoke_without_command=True)
    def run():
        {where}()
        print("going on", flush=True)
        time.sleep(20)
        print("swallowed", flush=True)
    return app([], standalone_mode=False)
program.app = command
main()
"""
FROM_HERE = "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""What runs in the background of a shell ignores Ctrl-C, and its children inherit that."""


def run(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("module", ["admin_cli", "trainer"])
@pytest.mark.parametrize("where", ["in_callback", "in_finaliser"])
def test_an_interrupt_that_a_callback_swallows_ends_the_command(module: str, where: str) -> None:
    with run(CALLBACK + FROM_HERE + MAIN.format(module=module, where=where)) as process:
        out, said = process.communicate(timeout=60)
    assert (process.returncode, "swallowed" in out) == (130, False), out + said
    assert said.startswith(f"{module}: interrupted; ") and said.count("\n") == 1


def test_also_while_a_file_is_written() -> None:
    writing = (
        "from pathlib import Path\nimport tempfile\nfrom classifier.interrupts import interrupts\n"
        "from trainer.run.files import write_file\n"
        "with interrupts(), tempfile.TemporaryDirectory() as folder:\n"
        "    def write(path):\n        path.write_text('new')\n        in_finaliser()\n        time.sleep(20)\n"
        "    Path(folder, 'f').write_text('old')\n"
        "    try:\n        write_file(Path(folder, 'f'), write)\n"
        "    except KeyboardInterrupt:\n        print(Path(folder, 'f').read_text())\n"
    )
    with run(CALLBACK + FROM_HERE + writing) as process:
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out, said) == (0, "old\n", "")


def test_a_second_one_ends_at_once() -> None:
    stubborn = (
        "import signal, time\n" + FROM_HERE + "from classifier.interrupts import interrupts\n"
        "with interrupts():\n"
        "    try:\n        print('ready', flush=True)\n        time.sleep(20)\n"
        "    except KeyboardInterrupt:\n        print('clearing up', flush=True)\n        time.sleep(20)\n"
    )
    with run(stubborn) as process:
        assert process.stdout is not None
        for line in ("ready\n", "clearing up\n"):
            assert process.stdout.readline() == line
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert time.monotonic() - began < 5


def test_who_ignores_it_goes_on_ignoring_it() -> None:
    background = (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nfrom classifier.interrupts import interrupts\n"
        "with interrupts():\n    signal.raise_signal(signal.SIGINT)\nprint(signal.getsignal(signal.SIGINT).name)\n"
    )
    with run(background) as process:
        assert process.communicate(timeout=60) == ("SIG_IGN\n", "")
