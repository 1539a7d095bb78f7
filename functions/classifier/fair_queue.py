"""A line of requests for what there is only so much of: first come, first served, and nobody waits in vain."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from classifier.errors import Overloaded

RECENT = 0.2
"""The weight of the latest use in the mean of how long one takes."""
RETRY_AFTER = 1, 60
"""Least and most seconds that a caller is told to stay away."""


class FairQueue:
    """Lends at most ``total`` units at a time, in the order in which they were asked for. Any thread may call it.

    A caller is turned away at once where ``max_waiting`` wait already, or where its turn is not expected within
    ``wait`` seconds: units asked for, its own and those ahead, x recent seconds of one use / ``total``.

    Args:
        total: how many units there are.
        wait: seconds that one caller may wait.
        max_waiting: how many callers may wait at the same time.
        busy: what those who are turned away are told, such as "All interpreters are busy".
    """

    def __init__(self, total: int, *, wait: float, max_waiting: int, busy: str) -> None:
        self.total = total
        self.lent = 0
        """How many units are in use now."""
        self._wait, self._max_waiting, self._busy = wait, max_waiting, busy
        self._lock = threading.Lock()
        self._waiting: deque[_Turn] = deque()
        self._using: list[_Turn] = []
        self._recent: float | None = None

    @property
    def waiting(self) -> int:
        """How many callers wait now."""
        return len(self._waiting)

    @contextmanager
    def lend(self, units: int = 1) -> Iterator[None]:
        """Lend units, at most ``total``, to the calling thread.

        Raises:
            Overloaded: others wait already, too many or for too long, or the turn did not come in time.
                ``retry_after`` is when it would be expected to come.
        """
        turn = _Turn(units)
        self._enter(turn)
        try:
            yield
        finally:
            self._leave(turn)

    def _enter(self, turn: _Turn) -> None:
        with self._lock:
            expected = self._expected(turn)
            self._waiting.append(turn)
            self._call()
            if turn.came.is_set():
                return
            if len(self._waiting) > self._max_waiting or expected > self._wait:
                self._waiting.pop()
                raise self._overloaded(expected)
        if turn.came.wait(self._wait):
            return
        with self._lock:
            if turn.came.is_set():  # at the last moment
                return
            expected = self._expected(turn)
            self._waiting.remove(turn)
            self._call()  # those behind it may need less
        raise self._overloaded(expected)

    def _leave(self, turn: _Turn) -> None:
        with self._lock:
            taken = time.monotonic() - turn.since
            self._recent = taken if self._recent is None else self._recent + RECENT * (taken - self._recent)
            self._using.remove(turn)
            self.lent -= turn.units
            self._call()

    def _call(self) -> None:
        """Let in those at the head of the line for whom there is enough."""
        while self._waiting and self.lent + self._waiting[0].units <= self.total:
            turn = self._waiting.popleft()
            turn.since = time.monotonic()
            self.lent += turn.units
            self._using.append(turn)
            turn.came.set()

    def _expected(self, turn: _Turn) -> float:
        """Return in how many seconds a turn, in the line or about to join it, may be expected to come."""
        ahead = 0
        for other in self._waiting:
            if other is turn:
                break
            ahead += other.units
        return (ahead + turn.units) * self._one_use() / self.total

    def _one_use(self) -> float:
        """Return the recent seconds of one use; those that have not ended count where they already take longer."""
        now = time.monotonic()
        so_far = sum(now - turn.since for turn in self._using) / max(1, len(self._using))
        return max(self._recent or 0.0, so_far)

    def _overloaded(self, expected: float) -> Overloaded:
        least, most = RETRY_AFTER
        seconds = min(max(math.ceil(expected), least), most)
        return Overloaded(f"{self._busy}, and too many wait already. Try again in {seconds} s.", retry_after=seconds)


class _Turn:
    """One caller's place in the line."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.came = threading.Event()
        self.since = 0.0
