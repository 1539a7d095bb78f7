"""Running `admin_cli`: as a process of its own, or in this one where many runs have to be quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.bundles import colour_photo
from tests.support.processes import environment

PROGRAM = "from admin_cli.main import main; main()"
SETTINGS = ("MODEL_", "POINTER_", "MAX_IMAGE_", "INTERPRETER", "ACCESS", "COLUMNS", "FORCE_COLOR")


class Done(NamedTuple):
    code: int
    out: str
    err: str

    def well(self) -> str:
        """What it printed; it has to have ended well and to have said nothing else."""
        assert (self.code, self.err) == (0, ""), self
        return self.out

    def json(self) -> Any:
        return json.loads(self.well())

    def failed(self, code: int) -> str:
        """The one line that says what is wrong."""
        assert (self.code, self.out) == (code, ""), self
        assert self.err.startswith("admin_cli: ") and self.err.endswith("\n") and self.err.count("\n") == 1, self
        return self.err.removeprefix("admin_cli: ").strip()


def process(*arguments: str | Path, program: str = PROGRAM, **env: str | Path) -> Done:
    """Run it as a process, with no settings but these."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment_of(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def environment_of(**env: str | Path) -> dict[str, str]:
    """The environment of the tests without settings, and these."""
    inherited = {name: value for name, value in environment().items() if not name.startswith(SETTINGS)}
    return {**inherited, **{name: str(value) for name, value in env.items()}}


def call(capfd: pytest.CaptureFixture[str], *arguments: str | Path, **env: str | Path) -> Done:
    """Run its `main` here, with no settings but these; what libraries write to the descriptors counts too."""
    from admin_cli.main import main

    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(SETTINGS):
                patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, str(value))
        patch.setattr(sys, "argv", ["admin_cli", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return Done(code or 0, *capfd.readouterr())


Cli = Callable[..., Done]


@pytest.fixture(name="cli")
def cli_fixture(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Runs the command line in this process, on a store of this test."""
    return partial(call, capfd, MODEL_STORE=tmp_path / "store", POINTER_WHO="kim")


@pytest.fixture(name="photo")
def photo_fixture(tmp_path: Path) -> Path:
    """A red photo, 160 x 120 pixels."""
    path = tmp_path / "photo.png"
    path.write_bytes(colour_photo("red", size=(160, 120)))
    return path
