"""The shadow of one instance: it classifies a sample of production's photos too, when no request is kept waiting by it.

A photo waits until the reply that it got is settled and no prediction is going on. Where the platform gives processor
time only during requests, it would wait for ever: after `PATIENCE` it is classified beside another request, by a thread
of lower priority, as long as the processors suffice, and one in `BESIDE_EVERY` seconds. What comes faster is dropped.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from classifier.errors import TooLarge
from classifier.logs import log
from classifier.photo.limits import Limits
from classifier.photo.memory import Memory
from classifier.registry.channels import PRODUCTION, SHADOW, Channels, Shadow
from classifier.serving.beside import Beside
from classifier.serving.loader import Loaded, Loader
from classifier.serving.prediction import UNKNOWN, Prediction, predict
from classifier.serving.query import PASSES, Query
from classifier.settings import Settings, available_cpus
from classifier.traffic.corrections import Correction, Seen
from classifier.traffic.counts import Row
from classifier.traffic.feedback import Feedback
from classifier.variables import MIB

if TYPE_CHECKING:
    from classifier.serving.beside import Try

MOST_WAITING, MOST_BYTES = 4, 8 * MIB
"""Photos, and their bytes."""
QUIET = 0.02
"""Seconds without a prediction after which the last reply is on its way."""
PATIENCE = 0.25
"""Seconds until a photo need not wait for a quiet moment."""
BESIDE_EVERY = 1.0
"""Seconds between two photos that are classified beside a request: each may slow that one."""
NICENESS = 10
"""Its thread has a tenth of a request's weight where both want one processor."""
DECODE_BYTES = 24 * MIB
"""Memory to decode a photo, of its own: no request waits for it. One that needs more is dropped."""
SLOWEST_MS = 2000.0
FAULTS = 3
"""Photos in a row that fail, or take longer than `SLOWEST_MS` of processor time, after which the instance gives up."""
STUCK_AFTER, STUCK_REQUESTS = 120.0, 500
"""Seconds that a photo may take, and how many requests are answered meanwhile at least, until it is taken to never end:
seconds alone pass also where the platform takes the processor away between requests."""
KEPT_AN_HOUR = 60
"""Photos that one instance keeps at most."""
IDLE_SECONDS = 60.0


class _Photo(NamedTuple):
    """A photo with what production said of it."""

    content: bytes
    query: Query
    said: Prediction
    by: str
    """The version."""
    offered: float


class _AtHand(NamedTuple):
    """That a photo is being classified."""

    loaded: Loaded
    """By which version."""
    began: float
    requests: int
    """How many predictions had ended when it was begun."""


class ShadowLane(Beside):
    """Follows the shadow of ``channels.json``; see `Beside`. Any thread may call `answering`, `offer` and `take`."""

    def __init__(self, settings: Settings, loader: Loader) -> None:
        super().__init__(settings, loader, SHADOW, 1, besides=MOST_BYTES + DECODE_BYTES, threads=1)
        self._memory = Memory(DECODE_BYTES, wait=0.0)
        self._shadow: Shadow | None = None
        self._changed = threading.Condition()
        self._photos: deque[_Photo] = deque()
        self._thread: threading.Thread | None = None
        self._answering = 0
        self._requests = 0
        """How many predictions have ended."""
        self._at_hand: _AtHand | None = None
        self._answered = 0.0
        """When the last prediction ended."""
        self._beside = 0.0
        """When a photo may be classified beside a request again."""
        self._rows: dict[str, Row] = {}
        self._faults = 0
        self._kept: deque[float] = deque(maxlen=KEPT_AN_HOUR)

    def follow_channels(self, channels: Channels, use: Try) -> None:
        """Load what the channels name, or let go of what they no longer do; see `follow`.

        A canary comes first: an instance holds two models.
        """
        self._shadow = shadow = None if channels.canary else channels.shadow
        if self.loaded is not None and (shadow is None or self.loaded.pointer != shadow.pointer):
            self._faults = 0
        self.follow(shadow and shadow.pointer, use)
        if self.loaded is None:
            with self._changed:
                self._photos.clear()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Hold the shadow off while a request's photo is classified."""
        with self._changed:
            self._answering += 1
        try:
            yield
        finally:
            with self._changed:
                self._answering -= 1
                self._requests += 1
                self._answered = time.monotonic()

    def offer(self, content: bytes, query: Query, said: Prediction, loaded: Loaded) -> None:
        """Give it a photo that was classified, of which it takes a sample. Raises nothing and waits for nothing."""
        shadow, mine = self._shadow, self.loaded
        if self._is_stuck():
            self._abandon()
            return
        if shadow is None or mine is None or loaded.channel != PRODUCTION or random.random() >= shadow.sample:  # noqa: S311
            return
        with self._changed:
            waiting = sum(len(photo.content) for photo in self._photos) + len(content)
            if len(self._photos) >= MOST_WAITING or waiting > MOST_BYTES:
                self._row(mine).shadow["dropped"] += 1
                return
            self._photos.append(_Photo(content, query, said, loaded.pointer.version, time.monotonic()))
            if self._thread is not None:
                self._changed.notify()
                return
            self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no thread is to be had: the next photo tries again
                self._thread = None

    def take(self) -> dict[str, Row]:
        """Return what was counted since the last time, by version."""
        with self._changed:
            rows, self._rows = self._rows, {}
        return rows

    def _is_stuck(self) -> bool:
        at_hand = self._at_hand
        if at_hand is None:
            return False
        ended = self._requests - at_hand.requests
        return time.monotonic() - at_hand.began > STUCK_AFTER and ended >= STUCK_REQUESTS

    def _abandon(self) -> None:
        """Go on without the thread that does not come back; if it ever does, it finds that it is not awaited."""
        with self._changed:
            if self._at_hand is None:
                return
            stuck = self._at_hand.loaded
            self._thread = self._at_hand = None
            self._memory = Memory(DECODE_BYTES, wait=0.0)  # the other may be held for ever
            self._row(stuck).shadow["failed"] += 1
        if self.loaded is stuck:
            self._go_on_without(stuck, "stuck")

    def _is_abandoned(self) -> bool:
        return self._thread is not threading.current_thread()

    def _run(self) -> None:
        _give_way()
        while not self._is_abandoned() and (photo := self._next()):
            mine, shadow = self.loaded, self._shadow
            if mine is not None and shadow is not None:
                self._at_hand = _AtHand(mine, time.monotonic(), self._requests)
                try:
                    self._classify(photo, mine, shadow)
                except Exception as error:  # noqa: BLE001 - the next photo has its turn
                    log("ERROR", "The shadow failed.", error=error, version=mine.pointer.version)
                    self._fault(mine, "failing")
                with self._changed:
                    if not self._is_abandoned():
                        self._at_hand = None

    def _next(self) -> _Photo | None:
        """Wait for a photo, and for its turn; None when there was none for long, and the thread ends."""
        with self._changed:
            while self._photos or self._changed.wait_for(lambda: self._photos, IDLE_SECONDS):
                if self._may_begin(self._photos[0], time.monotonic()):
                    return self._photos.popleft()
                self._changed.wait(QUIET)
            self._thread = None
            return None

    def _may_begin(self, photo: _Photo, now: float) -> bool:
        if not self._answering and now >= self._answered + QUIET:
            return True
        if now < max(self._beside, photo.offered + PATIENCE) or self._answering > available_cpus():
            return False
        self._beside = now + BESIDE_EVERY
        return True

    def _classify(self, photo: _Photo, mine: Loaded, shadow: Shadow) -> None:
        limits = Limits(self._settings.max_image_bytes, self._settings.max_image_pixels, self._memory)
        began = time.thread_time()
        try:
            answer = predict(mine, photo.content, Query(top_k=1, tta=photo.query.tta), limits)
        except TooLarge:
            with self._changed:
                if self._is_abandoned():
                    return
                self._row(mine).shadow["dropped"] += 1
            return
        except Exception as error:  # noqa: BLE001 - whatever it does, production serves
            if self._is_abandoned():
                return
            if not self._faults:
                log("WARNING", "The shadow failed.", error=error, version=mine.pointer.version)
            with self._changed:
                self._row(mine).shadow["failed"] += 1
            self._fault(mine, "failing")
            return
        milliseconds = (time.thread_time() - began) * 1000
        (said, _), (label, confidence) = photo.said.ranked[0], answer.ranked[0]
        with self._changed:
            if self._is_abandoned():
                return
            row = self._row(mine)
            row.add_photo(label, confidence, unknown=answer.status == UNKNOWN, cached=False)
            row.add_shadow(said, label, milliseconds, photo.said.decode_ms + photo.said.infer_ms)
        if milliseconds > SLOWEST_MS * PASSES[photo.query.tta]:
            self._fault(mine, "slow")
            return
        self._faults = 0
        if label != said and shadow.keep_photos and photo.query.consent:
            self._keep(photo, mine, answer)

    def _fault(self, mine: Loaded, reason: str) -> None:
        self._faults += 1
        if self._faults < FAULTS or self.loaded is not mine:
            return
        self._go_on_without(mine, reason)

    def _go_on_without(self, mine: Loaded, reason: str) -> None:
        log("ERROR", f"{mine.pointer.version} is {reason} as the shadow; this instance goes on without it.")
        self.give_up(reason)
        self._faults = 0
        with self._changed:
            self._row(mine).shadow["dropped"] += len(self._photos)
            self._photos.clear()

    def _keep(self, photo: _Photo, mine: Loaded, answer: Prediction) -> None:
        now = time.monotonic()
        if not self._settings.feedback_limit or (len(self._kept) == KEPT_AN_HOUR and now < self._kept[0] + 3600):
            return
        self._kept.append(now)
        correction = Correction.of_disagreement(
            photo.content,
            Seen(photo.by, PRODUCTION, *photo.said.ranked[0], photo.said.status),
            Seen(mine.pointer.version, SHADOW, *answer.ranked[0], answer.status),
        )
        try:
            Feedback(self._loader.store, self._settings.model_name).add(correction, photo.content)
        except Exception as error:  # noqa: BLE001 - as above
            log("WARNING", "Could not keep a photo about which the shadow disagrees.", error=error)

    def _row(self, mine: Loaded) -> Row:
        return self._rows.setdefault(mine.pointer.version, Row())


def _give_way() -> None:
    """Lower the priority of the calling thread, where the system has one for each."""
    with suppress(AttributeError, OSError):  # it has not: requests come first all the same, but for what is being run
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
