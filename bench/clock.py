"""A clock that jumps both ways under everything that changes a store. Part of `bench/reliability.py`.

`admin_cli` is run command after command, a day later, then two days earlier, and so on; and a function answers while
its clock jumps, with promotions in between. What a jump is, jumping/sitecustomize.py says.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.buckets import ROOT
from bench.load import send
from bench.processes import serve
from tests.support.bundles import build_tiny_bundle, colour_photo
from tests.support.commands import environment_of

HOUR, DAY = 3600, 86400
JUMPS = (0, DAY, -DAY, 400 * DAY, -400 * DAY, 2 * HOUR, -2 * HOUR, 0)
"""Seconds by which the clock is ahead in each round of commands."""
JUMPING = ROOT / "bench" / "jumping"
COMMANDS = (
    "publish {bundle} --again", "promote {next} --force --reason clock", "canary start v1 --percent 20", "canary abort",
    "shadow start v1", "shadow stop", "gate set class_drop={drop}", "rollback", "promote {next} --force --reason again",
    "status --since 1h", "status --compact", "history --all", "list", "doctor",
)  # fmt: skip
"""What is done each round; `doctor` may find that something is worth a look."""
TTL = 0.2
SWAPPED_WITHIN = 10.0


class Jumped(NamedTuple):
    """What came of it."""

    jumps: int
    commands: int
    failed: list[str]
    """Commands that ended with another exit code than 0, and the last line of what they said."""
    history_in_order: bool
    """Whether each change goes on from what the one before left, whatever their times say."""
    answers: int
    unanswered: int
    """Requests of the function that did not get a 200 while its clock jumped."""
    not_followed: list[str]
    """Jumps behind which the function did not follow a promotion within `SWAPPED_WITHIN` seconds."""


def measure() -> Jumped:
    """Let the clock jump."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = build_tiny_bundle(folder / "bundle")
        store, clock = folder / "store", folder / "clock"
        failed, commands = [], 0
        for number, jump in enumerate(JUMPS, 1):
            clock.write_text(str(jump))
            environment = _environment(store, clock)
            for template in COMMANDS:
                command = template.format(bundle=bundle, next=f"v{number}", drop=f"0.{number}")
                if number == 1 and ("start" in command or "abort" in command or "stop" in command):
                    continue  # v1 is production still
                if number == 1 and command == "rollback":
                    continue
                done = _run(command, environment)
                commands += 1
                if done.returncode:
                    said = (done.stderr or done.stdout).strip().splitlines()[-1:]
                    failed.append(f"{_told(jump)}: {command.replace(str(bundle), 'BUNDLE')}: {' '.join(said)}")
        history = json.loads(_run("history --all --json", _environment(store, clock)).stdout)[::-1]
        return Jumped(len(JUMPS), commands, failed, _in_order(history), *_serving(store, clock, folder))


def _run(command: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    program = "from admin_cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *command.split()], env=environment, capture_output=True, text=True, check=False
    )


def _environment(store: Path, clock: Path) -> dict[str, str]:
    environment = environment_of(MODEL_STORE=store, MODEL_NAME="food", POINTER_WHO="bench", JUMPING_CLOCK=clock)
    return {**environment, "PYTHONPATH": f"{JUMPING}:{environment['PYTHONPATH']}"}


def _told(jump: int) -> str:
    return f"{jump / DAY:+g} days" if abs(jump) >= DAY else f"{jump / HOUR:+g} h"


def _in_order(history: list[dict[str, Any]]) -> bool:
    serving = None
    for entry in history:
        if entry["action"] in ("promote", "rollback"):
            if entry["from"] != serving:
                return False
            serving = entry["to"]
    return True


def _serving(store: Path, clock: Path, folder: Path) -> tuple[int, int, list[str]]:
    """Ask a function whose clock jumps, and promote behind each jump."""
    clock.write_text("0")
    photo = colour_photo("red")
    settings = {
        "MODEL_STORE": str(store), "MODEL_NAME": "food", "POINTER_TTL": str(TTL), "STATS_EVERY": "1",
        "RATE_LIMIT": "100000/minute", "JUMPING_CLOCK": str(clock), "PYTHONPATH": str(JUMPING),
    }  # fmt: skip
    answers = unanswered = 0
    late = []
    with serve(ROOT / "functions" / "main.py", folder, settings) as served:
        served.first("/", photo)
        for number, jump in enumerate((*JUMPS, *JUMPS)):
            clock.write_text(str(jump))
            version = f"v{number % len(JUMPS) + 1}"
            _run(f"promote {version} --force --reason jump", _environment(store, clock))
            until, found = time.monotonic() + SWAPPED_WITHIN, ""
            while found != version and time.monotonic() < until:
                outcome, body = send(served.port, "/", photo, "image/png", "10.0.0.1")
                if outcome == "200":
                    found = json.loads(body)["model"]["version"]
                answers, unanswered = answers + (outcome == "200"), unanswered + (outcome != "200")
                time.sleep(0.02)
            if found != version:
                late.append(_told(jump))
    return answers, unanswered, late


def lines(jumped: Jumped) -> Iterator[str]:
    """Yield what was found."""
    yield f"{jumped.commands} commands under {jumped.jumps} clocks, {len(jumped.failed)} failed"
    yield from (f"  {each}" for each in jumped.failed)
    yield f"every change goes on from the one before: {'yes' if jumped.history_in_order else 'no'}"
    yield f"a function whose clock jumps: {jumped.answers:,} answers, {jumped.unanswered} failed"
    if jumped.not_followed:
        yield f"did not follow a promotion behind {', '.join(jumped.not_followed)}"
