"""The lock of a folder: one process works there at a time, and one that was killed holds nobody up."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from classifier.errors import Conflict, Refused
from trainer.run.files import PARTIAL

LOCK = f"{PARTIAL}lock"
"""In each folder in which one process works at a time."""
A_GLANCE = 0.2
"""Seconds for which a lock is waited for in any case: `is_locked` holds it for a moment."""


@contextmanager
def only_one(path: Path, marker: Path, otherwise: str = "or give another --run folder") -> Iterator[None]:
    """Keep a second process from working in the same folder; one that was killed does not.

    Enter it before anything is written there.

    Args:
        path: the folder, which is made.
        marker: a file that shows that the folder is of the right kind.
        otherwise: what can be done but to wait.

    Raises:
        Conflict: one works there already.
        Refused: the folder holds something else.
    """
    require_own(path, marker)
    path.mkdir(parents=True, exist_ok=True)
    busy = f"Another `trainer` process works in {path}. Wait until it ends, or end it, {otherwise}."
    with locked(path / LOCK, busy=busy):
        yield


def require_own(path: Path, marker: Path) -> None:
    """Refuse a folder that holds other files, and not the marker of what it should be.

    Raises:
        Refused: it does.
    """
    if marker.is_file() or not path.exists():
        return
    if not path.is_dir() or any(not file.name.startswith(PARTIAL) for file in path.iterdir()):
        raise Refused(f"Expected an empty or new folder for --run; {path} holds other files.")


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
