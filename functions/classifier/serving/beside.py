"""A second version in an instance's memory, beside production: loaded where there is room, let go of when it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.errors import Overloaded
from classifier.logs import log
from classifier.registry.channels import Pointer
from classifier.serving.loader import Loaded, Loader, Unusable, memory_needed
from classifier.settings import Settings
from classifier.variables import MIB

if TYPE_CHECKING:
    Try = Callable[[Pointer, Callable[[Pointer], Loaded]], Loaded]

STATM = Path("/proc/self/statm")
PAGE = 4096
SPARE = 0.9
"""Of the memory that an instance has, what may be planned with."""


class Beside:
    """Holds the version of one channel, or none. One thread at a time calls `follow`; any may read what is held.

    Args:
        settings: see `Settings`.
        loader: of the instance.
        channel: "canary" or "shadow".
        interpreters: how many of them it will use at most.
        besides: bytes that it needs besides the model.
        threads: of each interpreter; by default as the settings say.
    """

    def __init__(
        self,
        settings: Settings,
        loader: Loader,
        channel: str,
        interpreters: int,
        *,
        besides: int = 0,
        threads: int | None = None,
    ) -> None:
        self._settings = settings
        self._loader = loader
        self._channel = channel
        self._interpreters = interpreters
        self._besides = besides
        self._threads = threads
        self.loaded: Loaded | None = None
        self.problem: tuple[str, str] | None = None
        """The version that cannot be here and why, until the channel has another."""
        self._given_up: Pointer | None = None

    def follow(self, pointer: Pointer | None, use: Try) -> None:
        """Load a version, or let go of what is held. Raises nothing that concerns production.

        Args:
            pointer: what the channel has; None for nothing.
            use: tries to use a version, unless it failed lately.
        """
        if self.loaded is not None and self.loaded.pointer != pointer:
            self.loaded = None
        if self.problem and (pointer is None or self.problem[0] != pointer.version):
            self.problem = None
        if self._given_up not in (None, pointer):
            self._given_up = None
        if pointer is None or self.loaded is not None or self._given_up is not None:
            return
        try:
            self.loaded = use(pointer, self._checked)
        except Unusable as error:
            self.problem = pointer.version, error.reason
            return
        self.problem = None
        log("INFO", f"{pointer.version} is here as the {self._channel}.", version=pointer.version)

    def give_up(self, reason: str) -> None:
        """Let go of what is held because of what it did here, until the channel has another version."""
        if self.loaded is not None:
            self._given_up = self.loaded.pointer
            self.problem = self._given_up.version, reason
        self.loaded = None

    def _checked(self, pointer: Pointer) -> Loaded:
        """Load it where there is room. Raises `Unusable`."""
        chosen = self._loader.choose(pointer)
        needed = memory_needed(chosen.manifest, self._interpreters) + self._besides
        self._loader.make_room(needed)
        free = free_memory(self._settings)
        if free is not None and needed > free:
            error = Overloaded(
                f"Expected {needed / 1e6:,.0f} MB of memory for {pointer.version} beside production; "
                f"{max(free, 0) / 1e6:,.0f} MB are left of FUNCTION_MEMORY={self._settings.function_memory}.",
                retry_after=60,
            )
            raise Unusable(pointer.version, "memory", error)
        return replace(self._loader.load(pointer, warm=1, threads=self._threads), channel=self._channel)


def free_memory(settings: Settings) -> float | None:
    """Return the bytes that the instance may still take; None where the system does not tell what it has."""
    if not STATM.is_file():
        return None
    resident = int(STATM.read_text().split()[1]) * PAGE
    return settings.function_memory * MIB * SPARE - resident
