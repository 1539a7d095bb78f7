"""The canary of one instance: who is answered by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from classifier.registry.channels import CANARY, Canary, Channels
from classifier.serving.assignment import gets_canary
from classifier.serving.beside import Beside
from classifier.serving.loader import Loaded, Loader
from classifier.settings import Settings

if TYPE_CHECKING:
    from classifier.serving.beside import Try


class CanaryLane(Beside):
    """Follows the canary of ``channels.json``; see `Beside`."""

    def __init__(self, settings: Settings, loader: Loader) -> None:
        super().__init__(settings, loader, CANARY, settings.interpreters)
        self._canary: Canary | None = None

    def follow_channels(self, channels: Channels, use: Try) -> None:
        """Load what the channels name, or let go of what they no longer do; see `follow`."""
        self._canary = channels.canary
        self.follow(channels.canary and channels.canary.pointer, use)

    def for_caller(self, caller: str | None) -> Loaded | None:
        """Return the canary where it is loaded and this caller gets it."""
        loaded, canary = self.loaded, self._canary
        if loaded is None or canary is None or loaded.pointer != canary.pointer:
            return None
        return loaded if gets_canary(canary, caller) else None
