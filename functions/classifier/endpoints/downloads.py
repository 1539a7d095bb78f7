"""The model files that are being sent: slow downloads keep them in memory, also of models that were let go of."""

from __future__ import annotations

import threading
from collections.abc import Callable

from classifier.errors import Overloaded

FILES = 2
"""Different files that may be sent at the same time, whatever their size: an instance has memory for two versions."""
SHARE = 0.25
"""Of the instance's memory: what all files that are being sent may have together where they are more."""
RETRY_AFTER = 10
"""Seconds."""


class Downloads:
    """Counts the downloads under way by the bytes that they share. Any thread may call it.

    Args:
        memory: bytes of the instance.
        at_once: downloads at the same time; each has a thread of the server while it lasts.
    """

    def __init__(self, memory: int, at_once: int) -> None:
        self._most = memory * SHARE
        self._at_once = at_once
        self._lock = threading.Lock()
        self._sent: dict[int, tuple[bytes, int]] = {}
        """Each file's bytes by their identity, and how many downloads send them."""

    def begin(self, content: bytes) -> Callable[[], None]:
        """Count a download; return what has to be called when it ends, however it does.

        Raises:
            Overloaded: as many as may are under way, or other files are being sent, and there is no memory for one more
                that may have to be kept.
        """
        with self._lock:
            if sum(count for _, count in self._sent.values()) >= self._at_once:
                raise Overloaded(
                    f"{self._at_once} downloads are under way, and the rest of this instance is for photos. Try again "
                    f"in {RETRY_AFTER} s.",
                    retry_after=RETRY_AFTER,
                )
            if id(content) not in self._sent and len(self._sent) >= FILES:
                held = sum(len(other) for other, _ in self._sent.values())
                if held + len(content) > self._most:
                    raise Overloaded(
                        f"The files of {len(self._sent)} other models or versions are being downloaded, and there is "
                        f"no memory for one more. Try again in {RETRY_AFTER} s.",
                        retry_after=RETRY_AFTER,
                    )
            _, count = self._sent.get(id(content), (content, 0))
            self._sent[id(content)] = content, count + 1
        ended = threading.Event()

        def end() -> None:
            with self._lock:
                if ended.is_set():
                    return
                ended.set()
                _, count = self._sent[id(content)]
                if count > 1:
                    self._sent[id(content)] = content, count - 1
                else:
                    del self._sent[id(content)]

        return end
