"""A small pool of interpreters over the same bytes: each runs one photo at a time, callers wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from classifier.errors import Corrupt
from classifier.fair_queue import FairQueue
from classifier.serving.model import Model


class Pool:
    """At most ``size`` models over ``content``; the first is built now, the others when they are needed.

    Args:
        content: the verified bytes of a ``model.tflite``.
        size: how many photos may be classified at the same time.
        threads: CPU threads of one model.
        wait: seconds to wait for a free model.
        max_waiting: how many callers may wait.

    Raises:
        Corrupt: the bytes are not Pointer's kind of LiteRT file.
    """

    def __init__(self, content: bytes, *, size: int, threads: int, wait: float, max_waiting: int = 16) -> None:
        self.content, self._size, self._threads = content, size, threads
        busy = "The interpreter is busy" if size == 1 else f"All {size} interpreters are busy"
        self._line = FairQueue(size, wait=wait, max_waiting=max_waiting, busy=busy)
        self._lock = threading.Lock()
        first = Model(content, threads=threads)
        self._idle = [first]
        self.built = 1
        self.height, self.width, self.classes = first.height, first.width, first.classes
        self.has_heatmaps = first.has_heatmaps

    @contextmanager
    def model(self) -> Iterator[Model]:
        """Lend a model to the calling thread.

        Raises:
            Overloaded: too many wait already, or none became free in time; see `FairQueue`.
        """
        with self._line.lend():
            model = self._take()
            try:
                yield model
            finally:
                # Last in, first out: the model that ran last has its arrays in the caches.
                with self._lock:
                    self._idle.append(model)

    def warm(self, count: int) -> None:
        """Build ``count`` models, at most ``size``, and run each on a black photo: a first run is the slowest.

        For a pool that is not in use yet.

        Raises:
            Corrupt: a probability or the score is not a number.
        """
        blank = np.zeros((self.height, self.width, 3), np.uint8)
        models = [self._take() for _ in range(min(count, self._size))]
        for model in models:
            output = model.run(blank)
            if not np.isfinite([*output.probabilities, output.score]).all():
                raise Corrupt("Expected probabilities and a score of a black photo; received no numbers.")
        self._idle += models

    def _take(self) -> Model:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            self.built += 1
        return Model(self.content, threads=self._threads)
