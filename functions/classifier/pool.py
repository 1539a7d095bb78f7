"""A small pool of interpreters over the same bytes: each runs one photo at a time, callers wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from classifier.errors import Corrupt, Overloaded
from classifier.model import Model


class Pool:
    """At most ``size`` models over ``content``; the first is built now, the others when they are needed.

    Args:
        content: the verified bytes of a ``model.tflite``.
        size: how many photos may be classified at the same time.
        threads: CPU threads of one model.
        wait: seconds to wait for a free model.

    Raises:
        Corrupt: the bytes are not Pointer's kind of LiteRT file.
    """

    def __init__(self, content: bytes, *, size: int, threads: int, wait: float) -> None:
        self._content, self._size, self._threads, self._wait = content, size, threads, wait
        self._free = threading.Semaphore(size)
        self._lock = threading.Lock()
        first = Model(content, threads=threads)
        self._idle = [first]
        self.built = 1
        self.height, self.width, self.classes = first.height, first.width, first.classes

    @contextmanager
    def model(self) -> Iterator[Model]:
        """Lend a model to the calling thread.

        Raises:
            Overloaded: none became free within ``wait`` seconds.
        """
        if not self._free.acquire(timeout=self._wait):
            raise Overloaded(
                f"All {self._size} interpreters were busy for {self._wait:g} s. Try again in a second.",
                retry_after=1,
            )
        try:
            model = self._take()
            try:
                yield model
            finally:
                # Last in, first out: the model that ran last has its arrays in the caches.
                with self._lock:
                    self._idle.append(model)
        finally:
            self._free.release()

    def warm(self, count: int) -> None:
        """Build ``count`` models, at most ``size``, and run each on a black photo: a first run is the slowest.

        Raises:
            Corrupt: a probability or the score is not a number.
        """
        blank = np.zeros((self.height, self.width, 3), np.uint8)
        with ExitStack() as lent:
            for model in [lent.enter_context(self.model()) for _ in range(min(count, self._size))]:
                output = model.run(blank)
                if not np.isfinite([*output.probabilities, output.score]).all():
                    raise Corrupt("Expected probabilities and a score of a black photo; received no numbers.")

    def _take(self) -> Model:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            self.built += 1
        return Model(self._content, threads=self._threads)
