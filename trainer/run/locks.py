"""The lock of a folder: one process works there at a time, and one that was killed holds nobody up."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from classifier.errors import Conflict

A_GLANCE = 0.2
"""Seconds for which a lock is waited for in any case: `is_locked` holds it for a moment."""


@contextmanager
def locked(lock: Path, *, busy: str | None = None, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock: a file in the folder that it is about, which stays there.

    Args:
        lock: the file.
        busy: what is said where another process holds it; None waits for it instead.
        on_wait: called once before it is waited for.

    Raises:
        Conflict: another process holds it, with `busy`.
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock)
    try:
        held.acquire(timeout=A_GLANCE, poll_interval=A_GLANCE / 10)
    except Timeout as error:
        if busy is not None:
            raise Conflict(busy) from error
        if on_wait is not None:
            on_wait()
        held.acquire()
    try:
        yield
    finally:
        held.release()


def is_locked(lock: Path) -> bool:
    """Return whether another process holds a lock. Nothing is written, and a folder that cannot be written will do."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as filelock does; it goes with the file
    except BlockingIOError:
        return True
    except OSError:  # there is none, or it cannot be read
        return False
    return False
