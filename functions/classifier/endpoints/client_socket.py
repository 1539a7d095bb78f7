"""A client's socket: what has arrived of its request is read first, and what has not arrived is not waited for."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from classifier.endpoints.arrival import Arrival, Pace

BLOCK = 2**17
PIECE = 2**16
"""Bytes of a reply that a client has to take in a fifth of `REQUEST_WITHIN` and at `REQUEST_LEAST_RATE`."""


class NotArrived(BaseException):
    """A body was read that is still on its way. The request begins again when it is here.

    Raised before any reply, out of the application and past its handlers of errors.
    """


class ClientSocket(socket.socket):
    """A client's connection and the bytes that have arrived on it, which are the first to be read."""

    def __init__(self, client: socket.socket, pace: Pace, longest_body: int) -> None:
        super().__init__(fileno=client.detach())
        self._pace, self._longest_body = pace, longest_body
        self.begin()

    def begin(self, ahead: bytes = b"") -> None:
        """Begin a request, of which the first bytes may have come behind the one before."""
        self.arrival = Arrival(self._pace, self._longest_body)
        self.kept: dict[str, Any] = {}
        self.late = False
        """Whether it came too slowly, and is answered without the rest."""
        self.read_by_thread = False
        """Whether a thread waits for the rest, as it comes."""
        self._blocks: list[bytes] = []
        self.rewind()
        if ahead:
            self.add(ahead)

    def add(self, block: bytes) -> None:
        """Keep bytes that have arrived."""
        self._blocks.append(block)
        self.arrival.add(block)

    def rewind(self) -> None:
        """Go back to the first byte of the request."""
        self._at = (0, 0)

    def take_rest(self) -> bytes:
        """Return the bytes that were not read."""
        block, offset = self._at
        rest, self._blocks = b"".join(self._blocks[block:])[offset:], []
        return rest

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read what is here; wait for more only where the rest is not worth waiting for without a thread.

        Raises:
            NotArrived: the rest is on its way.
            TimeoutError: it does not come, or too slowly.
        """
        number, offset = self._at
        if number < len(self._blocks):
            block = self._blocks[number]
            part = block[offset : offset + size]
            if offset + len(part) < len(block):
                self._at = (number, offset + len(part))
            else:
                self._at = (number + 1, 0)
                if self.arrival.ready or self.read_by_thread:
                    self._blocks[number] = b""  # nobody reads it again
            return part
        if self.late:
            raise TimeoutError("The client is too slow.")
        if not self.arrival.ready and not self.read_by_thread:
            raise NotArrived
        late: bytes = self._wait(self.arrival.seconds_left(), lambda: super(ClientSocket, self).recv(size, flags))
        self.arrival.received += len(late)
        return late

    def receive(self) -> bytes:
        """Read from the network what is there. Raises BlockingIOError where nothing is."""
        return super().recv(BLOCK)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send a part of a reply to a client that takes it at least as fast as it has to send.

        It goes in pieces, so that one who takes a byte now and then is let go of soon.
        """
        whole = memoryview(data).cast("B")
        for start in range(0, len(whole), PIECE):
            piece = whole[start : start + PIECE]
            seconds = self._pace.grace + len(piece) / self._pace.least_rate
            try:
                self._wait(seconds, partial(super().sendall, piece, flags))
            except TimeoutError as error:
                raise BrokenPipeError(errno.EPIPE, "The client does not read its reply.") from error

    def _wait(self, seconds: float, work: Callable[[], Any]) -> Any:
        if seconds <= 0:
            raise TimeoutError("The client is too slow.")
        before = self.gettimeout()
        self.settimeout(seconds if before is None else min(seconds, before))
        try:
            return work()
        finally:
            self.settimeout(before)
