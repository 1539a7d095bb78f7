"""Firebase's emulators over a copy of the project, on free ports; nothing that they started outlives them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.support.serving import closed_port

ROOT = Path(__file__).resolve().parents[2]
FIREBASE = ROOT / "node_modules/.bin/firebase"
PROJECT = "demo-pointer"
REGION = "us-central1"
READY_WITHIN = 180.0
ENDED_WITHIN = 15.0
OURS = ("MODEL_", "POINTER_", "ACCESS", "UPLOAD_", "FUNCTION_", "RATE_LIMIT", "GOOGLE_", "GCLOUD_", "FIREBASE_")


@dataclass
class Suite:
    """Running emulators."""

    process: subprocess.Popen[bytes]
    log: Path
    ports: dict[str, int]
    access: str
    """What ACCESS is set to."""

    @property
    def hosting(self) -> str:
        return f"http://127.0.0.1:{self.ports['hosting']}"

    def function(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports['functions']}/{PROJECT}/{REGION}/{name}"

    def sign_up(self) -> str:
        """Make a user; returns its ID token, which the Auth emulator does not sign."""
        url = f"http://127.0.0.1:{self.ports['auth']}/identitytoolkit.googleapis.com/v1/accounts:signUp?key=any"
        account = {"email": "ana@example.com", "password": "a long password", "returnSecureToken": True}
        reply = requests.post(url, json=account, timeout=30)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["idToken"])


@contextmanager
def emulators(folder: Path, *, access: str, **env: str) -> Iterator[Suite]:
    """Serve functions, hosting and auth until the block ends; then no process of the group is alive."""
    project = copy_project(folder / "project")
    ports = use_free_ports(project)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    log = folder / "emulators.log"
    # What the functions' processes would take from the environment of the tests is not what deploys.
    inherited = {**inherited, "PYTHONPATH": "", "XDG_CONFIG_HOME": str(folder / "config"), "CI": "true"}
    inherited["NODE_OPTIONS"] = f"--require={ROOT / 'scripts/no_keep_alive.cjs'}"
    command = [FIREBASE, "emulators:start", "--project", PROJECT, "--only", "functions,hosting,auth"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=project,
            env={**inherited, "ACCESS": access, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    suite = Suite(process, log, ports, access)
    try:
        _wait_until_ready(suite)
        yield suite
    except BaseException:
        sys.stderr.write(log.read_text()[-8000:])
        raise
    finally:
        end_group(process)


def copy_project(project: Path) -> Path:
    """Copy what is deployed, and lend it the virtual environment: firebase-tools looks for functions/venv."""
    ignored = shutil.ignore_patterns("__pycache__", "venv", ".env*", ".secret.local", "*.log")
    shutil.copytree(ROOT / "functions", project / "functions", ignore=ignored)
    shutil.copy(ROOT / ".firebaserc", project)
    shutil.copy(ROOT / "firebase.json", project)
    (project / "functions/venv").symlink_to(Path(sys.prefix))
    # Both are there, and empty, so that nothing is looked up outside.
    for name in (".env", ".secret.local"):
        (project / "functions" / name).touch()
    return project


def use_free_ports(project: Path) -> dict[str, int]:
    """Change the ports in a copy of firebase.json, because those of two jobs on one machine would collide."""
    config = json.loads((project / "firebase.json").read_text())
    emulated: dict[str, Any] = config["emulators"]
    ports = {name: closed_port() for name in ("functions", "hosting", "auth")}
    for name, port in ports.items():
        emulated[name]["port"] = port
    for name in ("hub", "logging", "eventarc", "tasks"):
        emulated[name] = {"host": "127.0.0.1", "port": closed_port()}
    (project / "firebase.json").write_text(json.dumps(config))
    return ports


def alive(group: int) -> list[str]:
    """The processes of a group that are alive: their numbers and command lines."""
    found = subprocess.run(["ps", "-eo", "pgid=,pid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 3) for line in found.splitlines()]
    return [f"{pid} {args}" for pgid, pid, stat, args in lines if int(pgid) == group and not stat.startswith("Z")]


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End what the emulators started, first politely: functions' processes outlive the tools."""
    _signal(process, signal.SIGINT)
    until = time.monotonic() + ENDED_WITHIN
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.2)
    _signal(process, signal.SIGKILL)
    process.wait(ENDED_WITHIN)
    until = time.monotonic() + ENDED_WITHIN
    while (left := alive(process.pid)) and time.monotonic() < until:
        time.sleep(0.2)
    assert left == []


def _signal(process: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, sign)


def _wait_until_ready(suite: Suite) -> None:
    """Wait for a 200 of the function: the emulators say that they are ready also where no function was loaded."""
    until = time.monotonic() + READY_WITHIN
    while True:
        try:
            reply = requests.get(suite.function("predict") + "/healthz", timeout=60)
            if reply.status_code == 200 and requests.get(suite.hosting, timeout=10).ok:
                return
        except requests.RequestException:
            pass
        assert suite.process.poll() is None, "the emulators ended before they were ready"
        assert time.monotonic() < until, "the emulators were not ready in time"
        time.sleep(0.5)
