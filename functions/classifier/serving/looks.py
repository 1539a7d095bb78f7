"""When an instance looks at the pointer, and which requests wait for the look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from classifier.logs import log

QUIET_AFTER = 10
"""How many times POINTER_TTL a look lies back that is long past…"""
QUIET_AT_LEAST = 60.0
"""…and how many seconds at least."""
LOOK_WITHIN = 1.0
"""Seconds that requests wait for the first look after a quiet time."""


def now() -> float:
    """Return seconds of a clock that also runs while the machine sleeps or the platform has stopped it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Looks:
    """Starts looks in the background, one at a time, at most every ``ttl`` seconds. Any thread may call it.

    Between requests the platform takes the CPU away. So the last look may be of last night, and so may one be that is
    still going on: it may have read the pointer before it was stopped. Then a request waits for a look that was begun
    after it came; only so long, though, and while one waits for something that does not end, others no longer do.

    Args:
        look: does it. It raises nothing.
        ttl: POINTER_TTL.
    """

    def __init__(self, look: Callable[[], None], ttl: float) -> None:
        self._look = look
        self._ttl = ttl
        self._lock = threading.Lock()
        self._known = now()
        """As of when it is known what the pointer says: when the last look began that has ended."""
        self._next = 0.0
        self._going_on: threading.Event | None = None
        self._wait_until: float | None = None
        """Since the quiet time was noticed: until when requests wait."""

    def have_looked(self) -> None:
        """Take note that the pointer was read otherwise."""
        with self._lock:
            self._known = now()
            self._next = self._known + self._ttl

    def is_due(self) -> bool:
        """Say whether POINTER_TTL has passed."""
        return now() >= self._next

    def look_when_due(self) -> None:
        """Start a look if it is time for one, and wait for it if the last one is long past."""
        while True:
            with self._lock:
                quiet = self._is_quiet()
                if self._going_on is None and not quiet and not self.is_due():
                    return
                looked = self._going_on or self._start()
                if not quiet or looked is None:
                    return
                if self._wait_until is None:
                    self._wait_until = now() + LOOK_WITHIN
                left = self._wait_until - now()
            if left <= 0 or not looked.wait(left):
                return

    def _is_quiet(self) -> bool:
        return now() - self._known >= max(QUIET_AFTER * self._ttl, QUIET_AT_LEAST)

    def _start(self) -> threading.Event | None:
        looked = threading.Event()
        try:
            threading.Thread(target=self._run, args=(looked, now()), name="pointer", daemon=True).start()
        except RuntimeError as error:  # no thread is to be had: the request matters more
            self._next = now() + self._ttl
            log("WARNING", "Could not start to look at the pointer.", error=error)
            return None
        self._going_on = looked
        return looked

    def _run(self, looked: threading.Event, began: float) -> None:
        try:
            self._look()
        finally:
            with self._lock:
                self._known, self._next, self._going_on = began, now() + self._ttl, None
                if not self._is_quiet():
                    self._wait_until = None
            looked.set()
