"""How far a request has arrived: where its head and its body end, and by when they have to be here."""

from __future__ import annotations

import time

LONGEST_HEAD = 2**20
"""Bytes after which the end of a head is not looked for: gunicorn refuses one as long."""
LONGEST_CHUNK_LINE = 2**14
_ENDS_OF_HEAD = (b"\n\r\n", b"\n\n")


class Pace:
    """By when a request has to be here, as Apache's mod_reqtimeout has it: a grace, a least rate, and a total.

    Args:
        within: seconds for all of it.
        least_rate: bytes a second that it has to make once the grace is over.
    """

    def __init__(self, within: float, least_rate: float) -> None:
        self.within = within
        self.least_rate = least_rate
        self.grace = within / 5
        """Seconds that pass before the rate counts: a phone may lose its network for a moment."""

    def allows(self, received: int) -> float:
        """Return how many seconds a request may take of which so many bytes are here."""
        return min(self.within, self.grace + received / self.least_rate)


class Arrival:
    """What is known of one request while its bytes come in.

    It decides when a thread begins with the request, never what the request is: that is gunicorn's parser's to say,
    which gets all bytes as they came, and refuses what is ambiguous.
    """

    def __init__(self, pace: Pace, longest_body: int) -> None:
        self._pace = pace
        self._longest_body = longest_body
        self._head = bytearray()
        self._body: _Length | _Chunks = _Length(0)
        self.received = 0
        self.began = self.head_came = 0.0
        """When the first byte came, and the last one of the head; 0.0 before that."""
        self.whole = False
        """Whether all of it is here."""
        self.ready = False
        """Whether there is nothing to wait for: it is whole, or too long or too broken to be more than refused."""
        self.expects_continue = False
        """Whether the client waits for a word before it sends the body."""

    def add(self, block: bytes) -> None:
        """Take note of the next bytes."""
        self.began = self.began or time.monotonic()
        self.received += len(block)
        if not self.head_came:
            looked_at = len(self._head)
            self._head += block
            first = len(self._head) - len(self._head.lstrip(b"\r\n"))  # empty lines before a request do not count
            found = [(self._head.find(end, max(first, looked_at - 2)), len(end)) for end in _ENDS_OF_HEAD]
            ends = [at + length for at, length in found if at >= 0]
            if not ends:
                self.ready = len(self._head) > LONGEST_HEAD
                return
            self.head_came = time.monotonic()
            block = bytes(self._head[min(ends) :])
            self._read_head(bytes(self._head[: min(ends)]))
            self._head.clear()
        self.whole = self._body.add(block)
        self.ready = self.whole or self._body.size > self._longest_body

    def seconds_left(self) -> float:
        """Return how long it may still take; none is left to one that came too slowly."""
        return self.began + self._pace.allows(self.received) - time.monotonic()

    def _read_head(self, head: bytes) -> None:
        parts = (line.partition(b":") for line in head.split(b"\n"))
        fields = {name.strip().lower(): value.strip().lower() for name, _, value in parts}
        self.expects_continue = fields.get(b"expect") == b"100-continue"
        length = fields.get(b"content-length", b"")
        if b"transfer-encoding" in fields:
            self._body = _Chunks()
        elif length.isdigit() and len(length) < 20:
            self._body = _Length(int(length))


class _Length:
    """A body of a known length."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._left = size

    def add(self, block: bytes) -> bool:
        """Say whether the body is whole with these bytes."""
        self._left -= len(block)
        return self._left <= 0


class _Chunks:
    """A body in chunks, RFC 9112 section 7.1."""

    def __init__(self) -> None:
        self.size = 0
        """Of what came."""
        self._skip = 0
        self._line = b""
        self._in_trailers = False

    def add(self, block: bytes) -> bool:
        """Say whether the body has ended with these bytes, or breaks the rules."""
        self.size += len(block)
        at = 0
        while at < len(block):
            if self._skip:
                step = min(self._skip, len(block) - at)
                self._skip -= step
                at += step
                continue
            end = block.find(b"\n", at) + 1
            self._line += block[at : end or len(block)]
            if not end:
                return len(self._line) > LONGEST_CHUNK_LINE
            at, line, self._line = end, self._line.strip(), b""
            if self._in_trailers:
                if not line:
                    return True
            elif not self._begin_chunk(line):
                return True
        return False

    def _begin_chunk(self, line: bytes) -> bool:
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            return False
        self._in_trailers = size == 0
        self._skip = size + len(b"\r\n") if size else 0
        return size >= 0
