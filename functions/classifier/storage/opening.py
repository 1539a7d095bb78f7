"""Which store a URL opens, and by which client a bucket is read."""

from __future__ import annotations

import os
from pathlib import Path

from classifier.errors import InvalidSetting
from classifier.storage.local import LocalStore
from classifier.storage.names import bucket_of
from classifier.storage.protocol import ObjectStore

JSON_API, LIBRARY = "json-api", "google-cloud-storage"
"""What STORAGE_CLIENT may be: which client reads and writes a bucket."""


def open_bucket(bucket: str, prefix: str = "") -> ObjectStore:
    """Open a bucket, or what is under a prefix of it. Nothing is read yet.

    Raises:
        InvalidSetting: STORAGE_CLIENT names no client.
    """
    client = os.environ.get("STORAGE_CLIENT") or JSON_API
    if client not in (JSON_API, LIBRARY):
        raise InvalidSetting(f"Expected STORAGE_CLIENT to be {JSON_API} or {LIBRARY}; received {client!r}.")
    if client == LIBRARY:
        from classifier.storage.cloud import CloudStore

        return CloudStore(bucket, prefix)
    from classifier.storage.json_api import JsonApiStore

    return JsonApiStore(bucket, prefix)


def open_store(url: str) -> ObjectStore:
    """Open the store that a setting names, ``gs://bucket/prefix`` or a folder. Nothing is read or made yet.

    Raises:
        InvalidSetting: neither of the two, or STORAGE_CLIENT names no client.
    """
    bucket = bucket_of(url)
    return LocalStore(Path(url).expanduser()) if bucket is None else open_bucket(*bucket)
