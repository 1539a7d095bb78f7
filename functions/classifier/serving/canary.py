"""The canary of one instance: loaded beside production, for the callers who get it, and given up where it cannot be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.errors import Overloaded
from classifier.logs import log
from classifier.registry.channels import CANARY, PRODUCTION, Canary, Channels, Pointer
from classifier.registry.manifest import MODEL_FILE, Manifest
from classifier.serving.assignment import gets_canary
from classifier.serving.loader import Loaded, Loader, Unusable
from classifier.settings import MIB, Settings

if TYPE_CHECKING:
    Try = Callable[[Pointer, Callable[[Pointer], Loaded]], Loaded]

STATM = Path("/proc/self/statm")
PAGE = 4096
SPARE = 0.9
"""Of the memory that an instance has, what may be planned with."""
UNMEASURED = 4
"""How many times its file's size a model takes at most, where its manifest does not tell."""


class CanaryLane:
    """Follows the canary of ``channels.json``. Any thread may call any method.

    Args:
        settings: see `Settings`.
        loader: of the instance.
    """

    def __init__(self, settings: Settings, loader: Loader) -> None:
        self._settings = settings
        self._loader = loader
        self._busy = threading.Lock()
        self._canary: Canary | None = None
        self._loaded: Loaded | None = None
        self.problem: tuple[str, str] | None = None
        """The version that could not be loaded here and why, until the canary is another."""

    def for_caller(self, caller: str | None) -> Loaded | None:
        """Return the canary where it is loaded and this caller gets it."""
        loaded, canary = self._loaded, self._canary
        if loaded is None or canary is None or loaded.pointer != canary.pointer:
            return None
        return loaded if gets_canary(canary, caller) else None

    def taken(self, pointer: Pointer) -> Loaded | None:
        """Return the canary as production where it is this version and loaded: it was promoted."""
        loaded = self._loaded
        return replace(loaded, channel=PRODUCTION) if loaded is not None and loaded.pointer == pointer else None

    def follow(self, channels: Channels, use: Try) -> None:
        """Load what the channels name, or let go of what they no longer do. Raises nothing that concerns production.

        Args:
            channels: as they were last read.
            use: tries to use a version, unless it failed lately.
        """
        if not self._busy.acquire(blocking=False):
            return  # the next look will
        try:
            canary = channels.canary
            self._canary = canary
            if canary is None or self._loaded is None or self._loaded.pointer != canary.pointer:
                self._loaded = None
            if canary is None:
                self.problem = None
                return
            if self.problem and self.problem[0] != canary.version:
                self.problem = None
            if self._loaded is None:
                self._load(canary, use)
        finally:
            self._busy.release()

    def _load(self, canary: Canary, use: Try) -> None:
        try:
            self._loaded = use(canary.pointer, self._checked)
        except Unusable as error:
            self.problem = canary.version, error.reason
            return
        self.problem = None
        log("INFO", f"{canary.version} serves {canary.percent:g} % as the canary.", version=canary.version)

    def _checked(self, pointer: Pointer) -> Loaded:
        """Load it where there is room. Raises `Unusable`."""
        chosen = self._loader.choose(pointer)
        needed, free = memory_needed(chosen.manifest, self._settings.interpreters), self._free()
        if free is not None and needed > free:
            error = Overloaded(
                f"Expected {needed / 1e6:,.0f} MB of memory for {pointer.version} beside production; "
                f"{max(free, 0) / 1e6:,.0f} MB are left of FUNCTION_MEMORY={self._settings.function_memory}.",
                retry_after=60,
            )
            raise Unusable(pointer.version, "memory", error)
        return replace(self._loader.load(pointer, warm=1), channel=CANARY)

    def _free(self) -> float | None:
        """Return the bytes that the instance may still take; None where the system does not tell what it has."""
        if not STATM.is_file():
            return None
        resident = int(STATM.read_text().split()[1]) * PAGE
        return self._settings.function_memory * MIB * SPARE - resident


def memory_needed(manifest: Manifest, interpreters: int) -> int:
    """Return about how many bytes a version takes: as it was measured at export, or what its file lets expect."""
    size = manifest.files[MODEL_FILE].bytes
    row = manifest.variants.get(manifest.variant)
    measured = row.get("memory_bytes") if isinstance(row, dict) else None
    if not isinstance(measured, int):
        return size * UNMEASURED
    return measured + (measured - size if measured > size else 0) * (interpreters - 1)
