"""How large a photo may be, in bytes, pixels and memory, and a read that stops there."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from classifier.errors import TooLarge
from classifier.photo.memory import Memory
from classifier.variables import MIB


class Bounded(io.BytesIO):
    """Takes at most ``limit`` bytes, so that a large object is never held whole."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        """Raise `TooLarge` instead of going over the limit."""
        if self.tell() + len(data) > self._limit:
            raise too_large(self._limit)
        return super().write(data)


def too_large(limit: int) -> TooLarge:
    """Return the error of a photo that has more than ``limit`` bytes."""
    return TooLarge(f"Expected a photo of at most {limit:,} bytes ({limit / MIB:.1f} MiB); received a larger one.")


@dataclass(frozen=True)
class Limits:
    """What a photo may cost: its bytes, its pixels (width x height) before any reduction, and memory to decode it."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    memory: Memory | None = None
    """Shared by all photos that are decoded at the same time; None for no bound."""

    def lend(self, cost: int) -> AbstractContextManager[None]:
        """Lend bytes of the memory, or all of it where they are more; not to who has some already.

        Raises what `Memory.lend` raises.
        """
        return nullcontext() if self.memory is None else self.memory.lend(min(cost, self.memory.total))
