"""Which store a URL opens."""

from __future__ import annotations

from pathlib import Path

from classifier.storage.local import LocalStore
from classifier.storage.names import bucket_of
from classifier.storage.protocol import ObjectStore


def open_store(url: str) -> ObjectStore:
    """Open the store that a setting names, ``gs://bucket/prefix`` or a folder. Nothing is read or made yet.

    Raises:
        InvalidSetting: neither of the two.
    """
    bucket = bucket_of(url)
    if bucket is None:
        return LocalStore(Path(url).expanduser())
    from classifier.storage.cloud import CloudStore

    return CloudStore(*bucket)
