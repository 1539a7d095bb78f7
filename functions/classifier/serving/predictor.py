"""From a photo's bytes to its prediction, the same for every function: what serves, the limits, and what is logged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from classifier.photo.limits import Limits, too_large
from classifier.photo.memory import Memory
from classifier.serving.cache import ResultCache, key_of
from classifier.serving.instance import Instance
from classifier.serving.loader import Loaded
from classifier.serving.prediction import STEPS, Prediction, predict
from classifier.serving.query import PASSES, Query
from classifier.settings import Settings

CacheUse = Literal["hit", "stored", "missed", "off"]
"""What the result cache did: it had the result, keeps it from now on, cannot keep one so large, or is not used."""


@dataclass(frozen=True)
class Answer:
    """What one photo got."""

    prediction: Prediction
    """Its steps took 0 ms where the result cache had it."""
    loaded: Loaded
    """The version that answered."""
    cache: CacheUse


class Predictor:
    """One model's predictions in one instance. Any thread may call it."""

    def __init__(
        self,
        settings: Settings,
        instance: Instance | None = None,
        *,
        memory: Memory | None = None,
        results: ResultCache | None = None,
    ) -> None:
        """Reads nothing yet.

        Args:
            settings: see `Settings`.
            instance: what decides what serves; by default a new one.
            memory: for photos, shared with others; by default its own, and its own result cache.
            results: the result cache that is shared with others; None for none.
        """
        self.settings = settings
        self.instance = instance or Instance(settings)
        self._results = results
        if memory is None:
            memory = Memory(settings.max_image_memory, wait=settings.wait, max_waiting=settings.max_waiting)
            self._results = ResultCache(settings.result_cache_bytes) if settings.result_cache_bytes else None
        self._memory = memory

    def version_for(self, content: bytes, caller: str | None = None) -> Loaded:
        """Return the version that answers a caller.

        Raises:
            TooLarge: the photo has more bytes than one may have; told before anything is loaded.

        Raises also what `Instance.current` raises.
        """
        self._check_size(content)
        return self.instance.current(caller)

    def __call__(self, content: bytes, query: Query, loaded: Loaded | None = None) -> Answer:
        """Classify a photo.

        Args:
            content: its bytes.
            query: what is asked for.
            loaded: the version; by default what production serves now.

        Raises what `version_for` and `predictions.predict` raise. No error is kept in the cache.
        """
        self._check_size(content)
        if loaded is None:
            loaded = self.instance.current()
        if self._results is None:
            return Answer(self._predict(loaded, content, query), loaded, "off")
        # Of the version that answers, not of what serves by the time the answer is there.
        key = key_of(content, loaded.pointer.manifest_sha256, query)
        known = self._results.get(key)
        if known is not None:
            return Answer(known, loaded, "hit")
        prediction = self._predict(loaded, content, query)
        free = replace(prediction, decode_ms=0.0, queue_ms=0.0, infer_ms=0.0, encode_ms=0.0)
        kept = self._results.put(key, free)
        return Answer(prediction, loaded, "stored" if kept else "missed")

    def _check_size(self, content: bytes) -> None:
        if len(content) > self.settings.max_image_bytes:
            raise too_large(self.settings.max_image_bytes)

    def _predict(self, loaded: Loaded, content: bytes, query: Query) -> Prediction:
        limits = Limits(self.settings.max_image_bytes, self.settings.max_image_pixels, self._memory)
        shadow = self.instance.shadow
        with shadow.answering():
            prediction = predict(loaded, content, query, limits)
        shadow.offer(content, query, prediction, loaded)
        return prediction


def log_fields(answer: Answer) -> dict[str, Any]:
    """Return what the log says of a prediction."""
    prediction, chosen = answer.prediction, answer.loaded
    label, confidence = prediction.ranked[0]
    return {
        "version": chosen.pointer.version,
        "channel": chosen.channel,
        "label": label,
        "confidence": confidence,
        "status": prediction.status,
        "score": prediction.score,
        "tta": bool(prediction.tta),
        "views": PASSES[prediction.tta],
        "cached": answer.cache == "hit",
        "fallback_for": chosen.fallback.pointed if chosen.fallback else None,
        **{f"{step}_ms": getattr(prediction, f"{step}_ms") for step in STEPS},
    }
