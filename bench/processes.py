"""A function served as in production: its process, requests on a kept connection, memory and CPU time."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
START_WITHIN = 60.0


class Reply(NamedTuple):
    """An answer, and how long it took."""

    milliseconds: float
    headers: Mapping[str, str]
    body: bytes


class Memory(NamedTuple):
    """Resident memory of a process and its children in MB (10^6 bytes)."""

    pss: float
    """Shared pages counted once: what the platform charges."""
    rss: float
    """Of the largest process alone, shared pages included."""


class Served:
    """A running function."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, began: float, log: Path) -> None:
        self.process = process
        self.began = began
        """When it was started, by `time.perf_counter`."""
        self.port = port
        self._log = log
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_WITHIN)

    def first(self, path: str, content: bytes) -> float:
        """Send the photo as soon as the port is open; return the milliseconds from the process's start to the 200."""
        while True:
            try:
                self._connection.connect()
                break
            except ConnectionRefusedError:
                late = time.perf_counter() > self.began + START_WITHIN
                if late or self.process.poll() is not None:
                    raise RuntimeError(f"The function did not start:\n{self._log.read_text()}") from None
                time.sleep(0.001)
        self.post(path, content)
        return (time.perf_counter() - self.began) * 1000

    def post(self, path: str, content: bytes) -> Reply:
        """Send the photo; raise RuntimeError unless the answer is 200."""
        began = time.perf_counter()
        self._connection.request("POST", path, content, {"Content-Type": "image/jpeg"})
        answer = self._connection.getresponse()
        body = answer.read()
        milliseconds = (time.perf_counter() - began) * 1000
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {body.decode()}\n{self._log.read_text()}")
        return Reply(milliseconds, dict(answer.headers), body)

    def rate(self, path: str, content: bytes, clients: int, seconds: float) -> float:
        """Return the requests a second, of clients that each send the photo again as soon as they are answered.

        They are threads of this process and so take some of the CPU themselves, the more the faster the function is.

        Raises:
            RuntimeError: an answer is not 200.
        """
        every = [Served(self.process, self.port, self.began, self._log) for _ in range(clients)]
        ready = threading.Barrier(clients + 1)

        def ask(client: Served) -> int:
            answered = 0
            try:
                client.post(path, content)  # connects, and lets the function make what it needs for several at once
            finally:
                ready.wait()
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                client.post(path, content)
                answered += 1
            client._connection.close()
            return answered

        with ThreadPoolExecutor(clients) as threads:
            asking = [threads.submit(ask, client) for client in every]
            ready.wait()
            began = time.perf_counter()
            answered = sum(each.result() for each in asking)
            return answered / (time.perf_counter() - began)

    def memory(self) -> Memory:
        """Return what the process tree holds now."""
        pss = rss = 0
        for pid in self.tree():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
            pss, rss = pss + sizes["Pss"], max(rss, sizes["Rss"])
        return Memory(pss * 1024 / 1e6, rss * 1024 / 1e6)

    def cpu_milliseconds(self) -> float:
        """Return the CPU time, user and system, that the process tree has used."""
        ticks = 0
        for pid in self.tree():
            # Behind the name in parentheses: utime, stime and those of children that have ended.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
        return ticks * 1000 / TICKS

    def tree(self) -> list[int]:
        """Return the ids of its processes, the framework's first."""
        found = [self.process.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in children.read_text().split()]
        return found


@contextmanager
def serve(source: Path, folder: Path, environment: Mapping[str, str]) -> Iterator[Served]:
    """Start a function named ``predict`` with the Functions Framework; end all of it afterwards.

    Args:
        source: its main.py.
        folder: where it runs and logs.
        environment: its settings; of ours it sees only what a process needs.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    # Not PYTHONDONTWRITEBYTECODE above all, with which every start would compile.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    framework = str(Path(sys.executable).with_name("functions-framework"))
    command = [framework, "--target", "predict", "--source", str(source), "--host", "127.0.0.1", "--port", str(port)]
    log = folder / "log"
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**kept, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Served(process, port, began, log)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(10)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait(10)
