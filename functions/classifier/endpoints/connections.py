"""A gunicorn worker whose threads get requests that have arrived: slow and silent clients hold none of them."""

from __future__ import annotations

import atexit
import errno
import json
import os
import selectors
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from types import FrameType
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

from classifier.endpoints.arrival import Pace
from classifier.endpoints.client_socket import ClientSocket, NotArrived
from classifier.endpoints.problems import MEDIA_TYPE, body_of_problem, kind_of
from classifier.endpoints.request_photos import body_limit
from classifier.errors import TooSlow
from classifier.logs import log
from classifier.settings import Settings
from classifier.variables import MIB

HELD_AT_MOST = 32 * MIB
"""Bytes of all requests that are on their way; over it, threads read them as they come."""
PROMPT = 0.25
"""Seconds after its head in which a body usually is whole. Then the request begins without it, and may be refused."""
TICK = 0.25
LINGERS_WITHIN = 10.0
LINGERS_AT_MOST = 64 * MIB
ENDS_WITHIN = 1.0
"""Seconds that requests get to end after a Ctrl-C."""


class Connection(TConn):  # type: ignore[misc]
    """What gunicorn's worker keeps of a connection."""

    sock: ClientSocket
    parser: Any

    def __init__(self, worker: Worker, client: socket.socket, address: Any, server: Any) -> None:
        super().__init__(worker.cfg, ClientSocket(client, worker.pace, worker.longest_body), address, server)
        self.until = time.monotonic() + worker.pace.grace
        """When it is closed if nothing comes."""
        self.begun = 0
        """How often the application has begun with the request."""
        self.queued = 0.0
        """When it was last given to a thread."""
        self.held = 0
        """Bytes of the request, as they count for `HELD_AT_MOST`."""
        self._worker = worker

    def begin_anew(self) -> None:
        """Let the parser see the request from its first byte."""
        self.parser, self.initialized, self.data_ready = None, False, True
        self.sock.rewind()
        self.begun += 1
        self.queued = time.monotonic()

    def close(self, graceful: bool = False) -> None:
        """Close it; ``graceful`` lets the client read its reply first, also while it is still sending."""
        if graceful:
            self._worker.linger(self)
        else:
            super().close()


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker, which waits for requests in its one loop instead of in its threads.

    A thread begins with a request when all of it is here, or when it is too late for that: the application's first
    read then raises TimeoutError. One whose body takes longer than `PROMPT` is begun before, so that it may be refused
    without its body; where the application goes on to read it, NotArrived ends that try.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = Settings.from_env(os.environ)
        self.pace = Pace(settings.request_within, settings.request_least_rate)
        self.longest_body = body_limit(settings)
        self._waiting: set[Connection] = set()
        self._lingering: dict[Connection, int] = {}
        """Those that were answered, and how many bytes they may still send."""
        self._held = 0
        self._next_tick = 0.0
        self._ending = False

    def accept(self, listener: Any) -> None:
        """Take a client in; nothing is known of it before it says something."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        self._wait_for(Connection(self, client, address, listener.getsockname()), self._read)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Look at the clock more often while requests are on their way."""
        super().wait_for_and_dispatch_events(min(timeout, TICK) if self._waiting else timeout)

    def murder_pending(self) -> None:
        """Do what is due by the clock; gunicorn calls it after each event."""
        now = time.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + TICK / 2
        for conn in list(self._waiting):
            self._look_at_clock(conn, now)
        for conn in [each for each in self._lingering if now >= each.until or not self.alive]:
            self._drop(conn)

    def finish_request(self, conn: Connection, done: Future[bool]) -> None:
        """Go on with a connection that a thread is through with."""
        try:
            goes_on = done.result()
        except NotArrived:
            self._wait_for(conn, self._read)
        except Exception:  # noqa: BLE001
            self._drop(conn)
        else:
            self._let_go(conn)
            if goes_on:
                self._wait_for_next(conn)
            else:
                conn.close(graceful=True)

    def handle(self, conn: Connection) -> Any:
        """Begin with a request, in a thread. The time it waited for one is not its client's."""
        conn.sock.arrival.began += time.monotonic() - conn.queued
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Connection) -> bool:
        """Answer a request, on its first try or on one after."""
        if conn.begun > 1:
            req._expected_100_continue = False  # was told
        if not conn.sock.arrival.whole:
            req.force_close()
        return bool(super().handle_request(req, conn))

    def linger(self, conn: Connection) -> None:
        """Throw away what a client still sends: a connection that is closed over it may take the reply with it."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)
            return
        conn.until = time.monotonic() + LINGERS_WITHIN
        self._lingering[conn] = LINGERS_AT_MOST
        self._wait_for(conn, self._throw_away)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """End within `ENDS_WITHIN` seconds, whoever is being answered."""
        if self._ending:  # the terminal's signal, and that of gunicorn's master
            return
        self._ending = True
        end = threading.Timer(ENDS_WITHIN, os._exit, [0])
        end.daemon = True
        end.start()
        for each in (signal.SIGINT, signal.SIGQUIT):  # not yet: the other may have come, and Python misses its handler
            atexit.register(signal.signal, each, signal.SIG_IGN)
        super().handle_quit(sig, frame)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """Say whether another request may follow: what was not read of this one is here and is skipped."""
        return keepalive and bool(conn.parser.finish_body())

    def _wait_for(self, conn: Connection, then: Callable[[Connection, Any], None]) -> None:
        conn.sock.setblocking(False)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(then, conn))
        if conn not in self._lingering:
            self._waiting.add(conn)

    def _wait_for_next(self, conn: Connection) -> None:
        ahead = conn.parser.unreader.take_buffered() + conn.sock.take_rest()
        conn.sock.begin(ahead)
        conn.begun = 0
        conn.until = time.monotonic() + self.cfg.keepalive
        if conn.sock.arrival.ready:
            self._begin(conn)
        else:
            self._wait_for(conn, self._read)

    def _read(self, conn: Connection, _: Any) -> None:
        try:
            block = conn.sock.receive()
        except BlockingIOError:
            return
        except OSError:
            self._drop(conn)
            return
        arrival = conn.sock.arrival
        if not block:
            conn.sock.read_by_thread = True
            if arrival.head_came:
                self._begin(conn)  # the application says what is missing
            else:
                self._drop(conn)
            return
        conn.sock.add(block)
        conn.held += len(block)
        self._held += len(block)
        if self._held > HELD_AT_MOST:
            conn.sock.read_by_thread = True
        if arrival.ready or (
            arrival.head_came and (conn.sock.read_by_thread or (arrival.expects_continue and not conn.begun))
        ):
            self._begin(conn)

    def _begin(self, conn: Connection) -> None:
        """Give a request to a thread."""
        self._stop_waiting(conn)
        conn.begin_anew()
        self.enqueue_req(conn)

    def _look_at_clock(self, conn: Connection, now: float) -> None:
        arrival = conn.sock.arrival
        if not arrival.received:
            if now >= conn.until or (not self.alive and not conn.begun):
                self._drop(conn)
        elif arrival.seconds_left() <= 0:
            if arrival.head_came:
                conn.sock.late = True
                self._begin(conn)
            else:
                self._refuse(conn)
        elif arrival.head_came and not conn.begun and now >= arrival.head_came + PROMPT:
            self._begin(conn)

    def _refuse(self, conn: Connection) -> None:
        """Answer a request of which not even the head has come."""
        self._stop_waiting(conn)
        try:
            conn.sock.send(_too_slow())
        except OSError:
            self._drop(conn)
        else:
            conn.close(graceful=True)

    def _throw_away(self, conn: Connection, _: Any) -> None:
        try:
            block = conn.sock.receive()
        except BlockingIOError:
            return
        except OSError:
            block = b""
        self._lingering[conn] -= len(block)
        if not block or self._lingering[conn] <= 0:
            self._drop(conn)

    def _stop_waiting(self, conn: Connection) -> None:
        if conn in self._waiting or conn in self._lingering:
            self.poller.unregister(conn.sock)
        self._waiting.discard(conn)
        self._lingering.pop(conn, None)

    def _let_go(self, conn: Connection) -> None:
        self._held -= conn.held
        conn.held = 0

    def _drop(self, conn: Connection) -> None:
        self._stop_waiting(conn)
        self._let_go(conn)
        self.nr_conns -= 1
        conn.close()


def _too_slow() -> bytes:
    """Write and log the answer that the application cannot give: it needs a head."""
    error = TooSlow("Expected the whole head of a request; received a part of it, and then nothing for too long.")
    kind, request_id = kind_of(error), uuid.uuid4().hex
    body = json.dumps({**body_of_problem(error), "request_id": request_id}).encode()
    log("INFO", f"{kind.title}.", request_id=request_id, httpRequest={"status": kind.status}, slug=kind.slug)
    lines = (
        f"HTTP/1.1 {kind.status} Request Timeout",
        "Connection: close",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        f"X-Request-Id: {request_id}",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body
