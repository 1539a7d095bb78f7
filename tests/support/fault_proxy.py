"""A proxy before the Cloud Storage emulator that can answer 503, hang, break off in the middle, or not be there."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Fault = Literal["", "503", "hang", "refuse", "cut"]


class Proxy:
    """Answers as the server behind it does, until it is told otherwise; one connection a request."""

    def __init__(self, behind: str) -> None:
        self._behind = urlsplit(behind).netloc
        self._fault: Fault = ""
        self._healed = threading.Event()
        self._port = 0
        self._listen()
        self.url = f"http://127.0.0.1:{self._port}"
        self.requests = 0
        """How many came while there was a fault that let them come."""

    def set(self, fault: Fault) -> None:
        """From now on, have this fault; those that hang are let go when there is another or none."""
        before, self._fault = self._fault, fault
        self._healed.set()
        self._healed = threading.Event()
        self.requests = 0
        if fault == "refuse":
            self.close()
        elif before == "refuse":
            self._listen()

    def close(self) -> None:
        self._healed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _listen(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                proxy._answer(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        fault, healed = self._fault, self._healed
        if fault:
            self.requests += 1
        if fault == "hang":
            healed.wait(60)
            return
        if fault == "503":
            request.send_error(503)
            return
        connection = http.client.HTTPConnection(self._behind, timeout=30)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "connection"}
        connection.request(request.command, request.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        request.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if fault == "cut":  # as many bytes were promised; an answer without any ends before its head is read
            request.wfile.write(content[: len(content) // 2])
            request.close_connection = True
            return
        request.wfile.write(content)


@contextmanager
def fault_proxy(behind: str) -> Iterator[Proxy]:
    proxy = Proxy(behind)
    try:
        yield proxy
    finally:
        proxy.close()
