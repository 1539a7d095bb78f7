"""Counts requests that ask for predictions, each once, when its reply is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from flask import Response, g

from classifier.logs import log
from classifier.registry.channels import SHADOW
from classifier.serving.loader import Loaded
from classifier.serving.models import Models
from classifier.serving.predictor import Answer
from classifier.storage.protocol import ObjectStore
from classifier.traffic.counts import Counts
from classifier.traffic.writer import Writer

NOBODY = ("", "")
"""Version and channel of requests that ended before one was chosen."""


def begin() -> None:
    """Let the request at hand count."""
    g.counted = NOBODY
    g.answers = []


def leave_out() -> None:
    """Let the request at hand not count after all: it asks for no prediction."""
    g.pop("counted", None)


def note_version(loaded: Loaded) -> None:
    """Say which version answers the request at hand, whatever comes of it."""
    g.counted = loaded.pointer.version, loaded.channel


def note_answers(answers: Sequence[Answer]) -> None:
    """Say what the photos of the request at hand got."""
    g.answers = list(answers)


class Writers:
    """One writer of counts a model, made when it is first needed."""

    def __init__(self, models: Models, store: Callable[[], ObjectStore]) -> None:
        self._models = models
        self._store = store
        self._lock = threading.Lock()
        self._writers: dict[str, Writer] = {}

    def of(self, model: str) -> Writer:
        """Return the writer of a model."""
        with self._lock:
            if model not in self._writers:
                every = self._models.settings.stats_every
                self._writers[model] = Writer(self._store, model, every, lambda counts: self.take(model, counts))
            return self._writers[model]

    def take(self, model: str, counts: Counts) -> None:
        """Count what the shadow of a model has seen since the last time."""
        for version, row in self._models.peek(model).instance.shadow.take().items():
            counts.row(version, SHADOW).add(row)


def count(reply: Response, writers: Writers, models: Models) -> None:
    """Count the request at hand if it is to count, and write what was counted if it is time; raises nothing."""
    if "counted" not in g or not models.settings.stats_every:
        return
    try:
        instance, writer = models[g.model].instance, writers.of(g.model)
        with writer.counting() as counts:
            row = counts.row(*g.counted)
            row.add_request(reply.status_code, (time.perf_counter() - g.began) * 1000)
            for answer in g.answers:
                label, confidence = answer.prediction.ranked[0]
                row.add_photo(
                    label,
                    confidence,
                    unknown=answer.prediction.status != "ok",
                    cached=answer.cache == "hit",
                )
            for lane in (instance.canary, instance.shadow):
                if lane.problem:
                    counts.problems[" ".join(lane.problem)] += 1
            writers.take(g.model, counts)
        writer.write_when_due()
    except Exception as error:  # noqa: BLE001 - statistics never cost a reply
        log("ERROR", "Could not count a request.", error=error)
