"""From a photo's bytes to its prediction, the same for every function: what serves, the limits, and what is logged."""

from __future__ import annotations

from typing import Any

from classifier.memory import Memory
from classifier.predictions import STEPS, Prediction, predict
from classifier.queries import Query
from classifier.server import Chosen, Loaded, Server
from classifier.settings import Settings


class Predictor:
    """One instance's predictions, which share its memory. Any thread may call it."""

    def __init__(self, settings: Settings, server: Server | None = None) -> None:
        """Reads nothing yet.

        Args:
            settings: see `Settings`.
            server: what decides what serves; by default a new one.
        """
        self.settings = settings
        self.server = server or Server(settings)
        self._memory = Memory(settings.max_image_memory, wait=settings.wait)

    def __call__(self, content: bytes, query: Query) -> tuple[Prediction, Loaded]:
        """Classify a photo with the version that serves now.

        Raises what `Server.current` and `predictions.predict` raise.
        """
        loaded = self.server.current()
        from classifier.preprocessing import Limits  # with the model, not before

        limits = Limits(self.settings.max_image_bytes, self.settings.max_image_pixels, self._memory)
        return predict(loaded, content, query, limits), loaded


def log_fields(prediction: Prediction, chosen: Chosen) -> dict[str, Any]:
    """Return what the log says of a prediction."""
    label, confidence = prediction.ranked[0]
    return {
        "version": chosen.pointer.version,
        "channel": chosen.channel,
        "label": label,
        "confidence": confidence,
        "status": prediction.status,
        "score": prediction.score,
        "tta": prediction.tta,
        "fallback_for": chosen.fallback.pointed if chosen.fallback else None,
        **{f"{step}_ms": getattr(prediction, f"{step}_ms") for step in STEPS},
    }
