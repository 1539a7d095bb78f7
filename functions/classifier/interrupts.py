"""Ctrl-C for command lines: it ends the program, wherever in the program it comes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

INTERRUPTED = 130
"""The exit code: 128 and the number of the signal, as shells have it."""
AGAIN_AFTER = 0.02
"""Seconds after which an interrupt is raised again that was lost: the callback that lost it has ended by then."""


@contextmanager
def interrupts() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt once in the block, and a second one end the process at once.

    Python runs the handler of a signal wherever the main thread is: also in a weak reference's callback or a
    ``__del__``, where whatever is raised is printed and ignored, as it is in a callback of native code. What was lost
    so is raised again a moment later, and again, until it comes through.

    Where SIGINT is ignored, as in the background of a shell, or somebody handles it already, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if handler is not signal.default_int_handler:
        yield
        return
    came = False

    def interrupt(_: int, __: FrameType | None) -> None:
        nonlocal came
        if came:
            _end()
        came = True
        raise KeyboardInterrupt

    def unraisable(lost: Any) -> None:
        nonlocal came
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            hook(lost)
            return
        came = False
        again = threading.Timer(AGAIN_AFTER, os.kill, [os.getpid(), signal.SIGINT])
        again.daemon = True
        again.start()

    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        sys.unraisablehook = hook


def _end() -> None:
    """End without clean-up: whatever is written is written whole, or found as not whole by whoever reads it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):  # RuntimeError: the interrupt came while it was written to
            stream.flush()
    os._exit(INTERRUPTED)
