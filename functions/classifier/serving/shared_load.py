"""One load that all share who come before it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import Generic, TypeVar

from classifier.errors import Overloaded, Unavailable
from classifier.serving.worker import is_ending

FIRST_LOAD_WITHIN = 45.0
"""Seconds that a request waits for the first load, which goes on without it; the function's own limit is 60."""
ENDING_LOOKS_EVERY = 0.2

T = TypeVar("T")


class SharedLoad(Generic[T]):
    """The first load of an instance, in a thread of its own, so that each caller may stop waiting.

    Args:
        afterwards: called in that thread when a load has come to a good end and its callers have been answered.
    """

    def __init__(self, afterwards: Callable[[], object]) -> None:
        self._lock = threading.Lock()
        self._flight: Future[T] | None = None
        self._afterwards = afterwards

    def shared(self, loaded: Callable[[], T | None], load: Callable[[], T]) -> T:
        """Return what is loaded, or wait for a load: the one that is under way, or else a new one.

        Args:
            loaded: what is loaded already; None where nothing is.
            load: loads, and remembers what it loaded before it returns it.

        Raises:
            Unavailable: it takes longer than `FIRST_LOAD_WITHIN` seconds.
            Overloaded: the process is told to end.
            Exception: whatever the load raised; the next caller tries again.
        """
        with self._lock:
            found = loaded()
            if found is not None:
                return found
            flight = self._flight
            if flight is None:
                flight = self._flight = Future()
                # Its log lines have the first caller's trace.
                arguments = (self._fly, flight, load)
                thread = threading.Thread(target=copy_context().run, args=arguments, name="load", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no thread is to be had
                    self._flight = None
                    raise
        return _landed(flight)

    def _fly(self, flight: Future[T], load: Callable[[], T]) -> None:
        try:
            found = load()
        except BaseException as error:  # noqa: BLE001 - the callers raise it
            with self._lock:
                self._flight = None
            flight.set_exception(error)
            return
        with self._lock:
            self._flight = None
        flight.set_result(found)
        self._afterwards()


def _landed(flight: Future[T]) -> T:
    """Wait for the first load, but neither for ever nor at the cost of a clean end."""
    until = time.monotonic() + FIRST_LOAD_WITHIN
    while not wait([flight], timeout=ENDING_LOOKS_EVERY).done:
        if is_ending():
            raise Overloaded("This instance is about to end and has loaded no model. Try again.", retry_after=1)
        if time.monotonic() >= until:
            raise Unavailable(f"The first load has taken more than {FIRST_LOAD_WITHIN:g} s and goes on.")
    return flight.result()
