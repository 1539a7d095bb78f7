"""How the command line starts: what it imports for which command, and how long that takes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.commands import PROGRAM, Cli, cli_fixture, environment_of, photo_fixture, process  # noqa: F401  # fixtures

HEAVY = {
    "tensorflow",
    "keras",
    "google.cloud.storage",
    "google.auth",
    "numpy",
    "PIL",
    "ai_edge_litert",
    "flask",
    "werkzeug",
    "requests",
}


def test_help_and_reading_commands_import_nothing_heavy(tmp_path: Path, tiny_bundle: Path, photo: Path) -> None:
    program = f"""
import sys
try:
    {PROGRAM}
finally:
    print(*sys.modules, file=sys.stderr)
"""
    store = {"MODEL_STORE": tmp_path / "store"}

    def imported(*arguments: str | Path) -> set[str]:
        done = process(*arguments, program=program, **store)
        assert done.code == 0, done
        return set(done.err.split())

    for _ in range(2):
        process("publish", tiny_bundle, "--again", **store).well()
    process("promote", "v1", **store).well()
    for arguments in (["--help"], ["promote", "--help"], ["list"], ["show"], ["history"]):
        assert not HEAVY & imported(*arguments), arguments
    assert "rich" not in imported("--help")
    assert HEAVY & imported("predict", photo) == {"numpy", "PIL", "ai_edge_litert"}
    assert HEAVY & imported("promote", "v2") == {"numpy", "PIL", "ai_edge_litert"}


def test_it_starts_within_half_a_second_of_work() -> None:
    seconds = []
    for _ in range(3):
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", PROGRAM, "--help"],
            environment_of(),
            file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
        )
        _, status, usage = os.wait4(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        seconds.append(usage.ru_utime + usage.ru_stime)
    assert min(seconds) < 0.5
