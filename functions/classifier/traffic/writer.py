"""One instance's counts on their way into the store: at most one object a minute, written inside a request."""

from __future__ import annotations

import atexit
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from classifier.errors import PreconditionFailed
from classifier.logs import log
from classifier.registry.fields import now
from classifier.storage.protocol import MUST_NOT_EXIST, ObjectStore
from classifier.traffic.counts import Counts
from classifier.traffic.spans import Span

STATS_FOLDER = "stats"
WAITED_FOR = 0.25
"""Seconds that a request waits for the write that it began; the platform may take the CPU as soon as it is answered."""
ENDS_WITHIN = 2.0
"""Seconds that a process which is told to end waits."""
MOST_WAITING = 30
"""Spans that a store which does not take them leaves waiting; the oldest beyond are given up, which is logged."""


class Writer:
    """Counts, and writes what was counted. Any thread may call any method.

    Args:
        store: opens the store, when there is something to write.
        model: the model's name in it.
        every: seconds between two writes.
        last: adds what is to be counted at the end; it raises nothing.
    """

    def __init__(
        self,
        store: Callable[[], ObjectStore],
        model: str,
        every: float,
        last: Callable[[Counts], None] = lambda _: None,
    ) -> None:
        self._open = store
        self._model = model
        self._every = every
        self._last = last
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._counts = Counts()
        self._began = now("milliseconds")
        self._next: float | None = None
        self._waiting: list[Span] = []
        """Closed spans that are not known to be in the store."""
        self._failed = False

    @contextmanager
    def counting(self) -> Iterator[Counts]:
        """Lend the counts of the span at hand, to nobody else meanwhile."""
        with self._lock:
            if self._next is None:
                self._next = time.monotonic() + self._every
                atexit.register(self.close)
            yield self._counts

    def write_when_due(self) -> None:
        """Write if a span is over, and wait a moment for it; raises nothing, whatever the store does."""
        if self._next is None or time.monotonic() < self._next:
            return
        if not self._writing.acquire(blocking=False):
            return  # another request's
        self._next = time.monotonic() + self._every
        try:
            thread = threading.Thread(target=self._write_and_release, name="stats", daemon=True)
            thread.start()
        except RuntimeError:  # no thread is to be had: the request matters more
            self._writing.release()
            return
        thread.join(WAITED_FOR)

    def close(self) -> None:
        """Write what is left, and wait for it a little longer."""
        if not self._writing.acquire(timeout=ENDS_WITHIN):
            return
        with self._lock:
            self._last(self._counts)
        try:
            thread = threading.Thread(target=self._write_and_release, name="stats", daemon=True)
            thread.start()
        except RuntimeError:  # the interpreter is going down
            self._writing.release()
            return
        thread.join(ENDS_WITHIN)

    def _write_and_release(self) -> None:
        try:
            self._write()
        finally:
            self._writing.release()

    def _write(self) -> None:
        self._close_span()
        try:
            store = self._open()
            while self._waiting:
                span = self._waiting[0]
                with suppress(PreconditionFailed):  # it is there: only the answer to an earlier try was lost
                    store.write(
                        self._path(span), span.to_json(), if_generation=MUST_NOT_EXIST, content_type="application/json"
                    )
                self._waiting.pop(0)
            self._failed = False
        except Exception as error:  # noqa: BLE001 - statistics never cost a reply; they are tried again
            if not self._failed:
                log("WARNING", "Could not write statistics; they are tried again.", error=error)
            self._failed = True

    def _close_span(self) -> None:
        with self._lock:
            counts, self._counts = self._counts, Counts()
            began, self._began = self._began, now("milliseconds")
            ended = self._began
        if counts:
            self._waiting.append(Span(uuid.uuid4().hex[:16], began, ended, counts))
        if len(self._waiting) > MOST_WAITING:
            lost = self._waiting[:-MOST_WAITING]
            self._waiting = self._waiting[-MOST_WAITING:]
            log("ERROR", "Statistics were lost: the store does not take them.", spans=len(lost), since=lost[0].began)

    def _path(self, span: Span) -> str:
        ended = datetime.fromisoformat(span.ended).astimezone(UTC)
        return f"{self._model}/{STATS_FOLDER}/{ended:%Y-%m-%d}/{ended:%H}/{ended:%H%M%S}-{span.id}.json"
