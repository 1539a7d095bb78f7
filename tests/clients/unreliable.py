"""What may stand between a client and the function: a proxy that is busy, damages what passes, or lets time go by."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.fault_proxy import Proxy

BUSY = {
    "type": "urn:pointer:problem:overloaded",
    "title": "Too many requests at once",
    "status": 503,
    "detail": "Too many requests wait. Try again in 30 s.",
    "request_id": "1",
}
FULL = b"<html>The request was aborted because there was no available instance."
SILENCE = 30
"""Seconds."""


class Unreliable(Proxy):
    """Passes requests on, but for those of which it is told something else."""

    def __init__(self, behind: str, fault: str = "", before: Callable[[str, int], None] | None = None) -> None:
        """Make a proxy.

        Args:
            behind: the function's address.
            fault: `damaged`: a bit of every file that passes is another. `busy`: a 503 with `Retry-After: 30`.
                `silent`: no answer. `full`: the first answer is like that of Google's front end, a 503 that is no
                problem and says no time.
            before: is called with the path and number of each request before it is passed on.
        """
        super().__init__(behind)
        self._unreliable = fault
        self._before = before
        self.paths: list[str] = []

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.command == "OPTIONS":  # which browsers ask by themselves
            super()._answer(request)
            return
        self.paths.append(request.path)
        if self._before:
            self._before(request.path, len(self.paths))
        if self._unreliable == "silent":
            time.sleep(SILENCE)
        elif self._unreliable == "busy":
            _refuse(request, "application/problem+json", json.dumps(BUSY).encode(), {"Retry-After": "30"})
        elif self._unreliable == "full" and len(self.paths) == 1:
            _refuse(request, "text/html", FULL, {})
        else:
            if self._unreliable == "damaged" and request.path.startswith("/model/file"):
                request.wfile = _Damaging(request.wfile)  # type: ignore[assignment]
            super()._answer(request)


def _refuse(request: BaseHTTPRequestHandler, media_type: str, body: bytes, headers: dict[str, str]) -> None:
    request.rfile.read(int(request.headers.get("Content-Length", 0)))
    request.send_response_only(503)
    request.send_header("Content-Type", media_type)
    request.send_header("Content-Length", str(len(body)))
    request.send_header("Access-Control-Allow-Origin", "*")
    request.send_header("Access-Control-Expose-Headers", "Retry-After")
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


class _Damaging:
    """Writes what it is given, with one bit of every long body turned over."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, content: bytes) -> int:
        if len(content) > 1000 and not content.startswith(b"HTTP/"):
            content = content[:500] + bytes([content[500] ^ 1]) + content[501:]
        written: int = self._file.write(content)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def unreliable(behind: str, fault: str = "", before: Callable[[str, int], None] | None = None) -> Iterator[Unreliable]:
    proxy = Unreliable(behind, fault, before)
    try:
        yield proxy
    finally:
        proxy.close()
