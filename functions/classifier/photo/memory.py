"""The memory that decoding photos may take: what one photo may cost, and all that are decoded at the same time."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from classifier.fair_queue import FairQueue

if TYPE_CHECKING:
    pass

M_MMAP_THRESHOLD = -3
MAPPED_FROM = 1 << 20
"""Bytes; well below the 16 MiB blocks in which Pillow keeps an image."""
SMALL = 32
"""A photo that costs at most 1/32 of all never waits: eight of them, a function's concurrency, cost a quarter."""


class Memory:
    """At most ``total`` bytes, lent to whoever decodes a large photo. Any thread may call any method.

    Args:
        total: bytes.
        wait: seconds to wait until enough of it is free.
        max_waiting: how many may wait.
    """

    def __init__(self, total: int, *, wait: float, max_waiting: int = 16) -> None:
        self.total = total
        self.line = FairQueue(total, wait=wait, max_waiting=max_waiting, busy="Other large photos are being decoded")
        _give_back_what_is_freed()

    @contextmanager
    def lend(self, cost: int) -> Iterator[None]:
        """Lend ``cost`` bytes, which are at most ``total``.

        Raises:
            Overloaded: too many wait already, or the bytes did not become free in time; see `FairQueue`.
        """
        if cost <= self.total // SMALL:
            yield
            return
        with self.line.lend(cost):
            yield


def _give_back_what_is_freed() -> None:
    """Make glibc return large blocks to the system at once.

    By itself it learns from the first large block to keep later ones, in one arena for each thread: eight threads that
    decoded one after another held 650 MB, where each needed 100.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and keeps nothing
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, MAPPED_FROM)
