"""The process that serves: whether it has been told to end."""

from __future__ import annotations

import signal


def is_ending() -> bool:
    """Say whether this is a gunicorn worker that got its SIGTERM; False in any other process.

    A worker waits for the requests it has, half a minute if need be, and tells nobody that it does. Only the main
    thread may set handlers, and it is gunicorn's; asking which one is set is free to all, and that one knows.
    """
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(worker, "alive", True) is False
