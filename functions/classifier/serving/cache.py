"""Results that may be asked for again: a bounded memory of what one version answered to one photo's bytes."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import NamedTuple

from classifier.serving.prediction import Prediction
from classifier.serving.query import Query, Tta

ENTRY_BYTES = 1600
LABEL_BYTES = 170
"""What an entry takes in memory besides its overlay, and for each label that it lists besides the label's letters."""


class Key(NamedTuple):
    """What a result depends on. The manifest names the file that is served, by hash, and so the variant too."""

    photo: bytes
    """The SHA-256 of its bytes, not of its pixels."""
    manifest: str
    """The SHA-256 of the version's manifest: a version's number alone could come again in another store."""
    top_k: int
    tta: Tta
    explanation: tuple[str, bool, str, int] | None
    """Which label, whether by occlusion, in which format and size."""


class ResultCache:
    """Keeps the results that were asked for last, in about ``limit`` bytes of memory. Any thread may call it.

    Versions never share a result, in whatever order their requests end, so a swap need not empty it: results of a
    version that is not served any more give way to others, and after a rollback those that are left are right again.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        """Of all that is kept."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Prediction] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Prediction | None:
        """Return what is kept under a key, and keep it the longer."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: Key, prediction: Prediction) -> bool:
        """Keep a result, and let those go that were not asked for the longest; False where it is too large itself."""
        size = size_of(prediction)
        if size > self.limit:
            return False
        with self._lock:
            replaced = self._kept.pop(key, None)  # of a request that came at the same time
            if replaced is not None:
                self.bytes -= size_of(replaced)
            self._kept[key] = prediction
            self.bytes += size
            while self.bytes > self.limit:
                _, oldest = self._kept.popitem(last=False)
                self.bytes -= size_of(oldest)
        return True


def key_of(content: bytes, manifest_sha256: str, query: Query) -> Key:
    """Return the key of a photo's result; what makes no difference to the result makes none to the key."""
    explanation = None
    if query.gradcam is not None:
        size = 0 if query.gradcam_format == "heatmap" else query.gradcam_size
        explanation = query.gradcam, query.occlusion, query.gradcam_format, size
    return Key(hashlib.sha256(content).digest(), manifest_sha256, query.top_k, query.tta, explanation)


def size_of(prediction: Prediction) -> int:
    """Return about how many bytes an entry takes in memory."""
    labels = sum(LABEL_BYTES + len(label) for label, _ in prediction.ranked)
    return ENTRY_BYTES + labels + (len(prediction.overlay.content) if prediction.overlay else 0)
