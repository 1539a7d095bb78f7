"""`make run` from the port to Ctrl-C: what it says, where it listens, and that it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from tests.support.processes import ROOT
from tests.support.serving import MODEL, closed_port

SCRIPT = ["bash", str(ROOT / "scripts/run.sh")]


def environment(store: Path, **changes: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    names = {"MODEL_STORE": str(store), "MODEL_NAME": MODEL, "LISTEN": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, "PATH": path, **names, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Port {port} of 127.0.0.1 is in use. Choose another one: make run PORT=8081\n"),
        ({"LISTEN": "nowhere"}, "Expected LISTEN to be an address of this machine and PORT a free port; received "),
        ({"PORT": "http"}, "Expected LISTEN to be an address of this machine and PORT a free port; received "),
        ({"PORT": "80800"}, "Expected LISTEN to be an address of this machine and PORT a free port; received "),
    ],
)
def test_where_it_cannot_listen_is_one_line_before_anything_else(
    tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        asked = environment(tmp_path / "nothing promoted", **{"PORT": port, **changes})
        run = subprocess.run(SCRIPT, cwd=ROOT, env=asked, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(said.format(port=port)) and run.stderr.count("\n") == 1


def test_it_serves_this_machine_alone_and_ends_with_ctrl_c(published: Path, tmp_path: Path) -> None:
    asked = subprocess.run(["make", "-n", "run"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert 'LISTEN="127.0.0.1"' in asked.stdout
    port = closed_port()
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            SCRIPT, cwd=ROOT, env=environment(published, PORT=str(port)), stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + 30
        while not log.read_text():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        assert log.read_text().startswith(f"Pointer serves {MODEL} from {published} at http://localhost:{port} ")
        assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5).ok, "it was announced before it answered"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)
        with socket.create_connection(("127.0.0.1", port), timeout=5):  # a browser's, which says nothing yet
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(10) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert log.read_text().count("\n") == 1
