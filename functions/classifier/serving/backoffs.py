"""Versions that could not be served, left alone for a while: to try again costs as much as to load one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from classifier.errors import Unavailable
from classifier.logs import log
from classifier.registry.channels import Pointer
from classifier.serving.loader import Unusable

SHORTEST = 1.0
"""Seconds before a version that could not be served is tried again, where POINTER_TTL is less."""
LONGEST = 600.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Backoff:
    problem: Unusable
    tries: int
    until: float


class Backoffs:
    """Remembers what failed. Any thread may call any method.

    Args:
        pointer_ttl: seconds; see `Settings`.
    """

    def __init__(self, pointer_ttl: float) -> None:
        self._pointer_ttl = pointer_ttl
        self._failed: dict[Pointer, _Backoff] = {}

    def forget(self) -> None:
        """Let everything be tried again at once."""
        self._failed = {}

    def check(self, pointer: Pointer) -> None:
        """Do nothing unless a version failed lately. Raises `Unusable`: as it failed then."""
        backoff = self._failed.get(pointer)
        if backoff and time.monotonic() < backoff.until:
            raise backoff.problem.with_traceback(None)

    def use(self, pointer: Pointer, use: Callable[[Pointer], _T], *, another_serves: bool) -> _T:
        """Use a version unless it failed lately. Each failure doubles its backoff.

        Args:
            pointer: the version.
            use: what to do with it.
            another_serves: then the backoff grows, up to `LONGEST` seconds, and a store out of reach is a failure of
                this version as any other.

        Raises:
            Unusable: it cannot be served.
            Unavailable: the store cannot be reached, and nothing serves.
        """
        self.check(pointer)
        try:
            return use(pointer)
        except Unusable as error:
            problem = error
        except Unavailable as error:
            if not another_serves:
                raise
            problem = Unusable(pointer.version, "unavailable", error)
        backoff = self._failed.get(pointer)
        tries = backoff.tries + 1 if backoff else 1
        seconds = max(self._pointer_ttl, SHORTEST)
        if another_serves:
            seconds = min(seconds * 2 ** min(tries - 1, 20), max(seconds, LONGEST))
        log(
            "ERROR",
            f"{pointer.version} cannot be served; it is tried again after {seconds:g} s, or when the pointer moves.",
            error=problem.error,
            version=pointer.version,
            reason=problem.reason,
            tries=tries,
        )
        problem.forget_frames()
        self._failed[pointer] = _Backoff(problem, tries, time.monotonic() + seconds)
        raise problem
