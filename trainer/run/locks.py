"""The lock of a folder: one process works there at a time, and one that was killed holds nobody up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from classifier.errors import Conflict


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
        held.acquire(timeout=0)
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
