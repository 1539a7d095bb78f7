"""Photos in buckets, by google-cloud-storage: any name that a bucket can hold, and buckets whose requesters pay.

`classifier.storage` holds versions under names of our own making. Names of photos are other people's: with empty
segments, backslashes or line breaks, all of which a bucket allows.
"""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from classifier.errors import InvalidSetting, NotFound, PointerError
from classifier.storage.names import bucket_of
from classifier.storage.unreachable import denied, no_bucket, unreachable

SCHEME = "gs://"
CONNECTIONS = 64
"""That are kept open, at most."""
TIMEOUT = 30.0
PATIENCE = 60.0
"""Seconds after which a read that always fails is given up."""
FIELDS = "items(name,size,generation),nextPageToken"
_clients: dict[int, Any] = {}
_lock = threading.Lock()


class Object(NamedTuple):
    """One line of a listing."""

    name: str
    generation: int
    size: int
    """Bytes."""


def split(address: str) -> tuple[str, str]:
    """Return the bucket and what is behind its slash, as it is.

    Raises:
        InvalidSetting: no address of a bucket.
    """
    bucket, _, name = address.removeprefix(SCHEME).partition("/")
    if not address.startswith(SCHEME) or bucket_of(f"{SCHEME}{bucket}") is None:
        raise InvalidSetting(f"Expected an address such as gs://bucket/name; received {address!r}.")
    return bucket, name


class Bucket:
    """One bucket, for any thread.

    Args:
        name: the bucket's.
        billing_project: who pays for the requests, where its owner does not; "" for its owner.
    """

    def __init__(self, name: str, billing_project: str = "") -> None:
        self.name = name
        self._project = billing_project or None

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Yield the objects whose names begin with this, a page at a time."""
        with self._reaching():
            blobs = _client().list_blobs(
                self._bucket(), prefix=prefix or None, fields=FIELDS, timeout=TIMEOUT, retry=_retry()
            )
            for blob in blobs:
                yield Object(blob.name, int(blob.generation), int(blob.size))

    def stat(self, name: str) -> Object:
        """Return what a listing says of one object. Raises `NotFound`: there is none."""
        with self._reaching(name):
            blob = self._bucket().blob(name)
            blob.reload(timeout=TIMEOUT, retry=_retry())
            return Object(name, int(blob.generation), int(blob.size))

    def read(self, name: str, generation: int | None = None) -> bytes:
        """Return an object's bytes, whose checksum was compared.

        Raises:
            NotFound: there is none, or it has another generation.
        """
        with self._reaching(name):
            blob = self._bucket().blob(name)
            content: bytes = blob.download_as_bytes(if_generation_match=generation, timeout=TIMEOUT, retry=_retry())
            return content

    def open(self, name: str) -> Any:
        """Return an object as a file, of which only what is asked for is read."""
        return self._bucket().blob(name).open("rb", chunk_size=1 << 18, timeout=TIMEOUT, retry=_retry())

    def _bucket(self) -> Any:
        return _client().bucket(self.name, user_project=self._project)

    @contextmanager
    def _reaching(self, name: str | None = None) -> Iterator[None]:
        """Turn what the library raises into this project's errors."""
        import requests
        import urllib3
        from google.api_core import exceptions as api
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

        url = f"{SCHEME}{self.name}"
        try:
            yield
        except (api.NotFound, api.PreconditionFailed) as error:
            if name is None or "The specified bucket does not exist" in str(error):
                raise no_bucket(url, self.name) from error
            raise NotFound(f"Expected {url}/{name} as it was listed; it is gone or was replaced.") from error
        except api.BadRequest as error:
            if "requester pays" in str(error).lower():
                raise InvalidSetting(
                    f"Expected --billing-project PROJECT for {url}, whose requesters pay; received none."
                ) from error
            raise unreachable(url, error) from error
        except api.Forbidden as error:
            raise denied(url, error) from error
        except (
            api.GoogleAPIError, GoogleAuthError, DataCorruption, InvalidResponse, requests.RequestException,
            urllib3.exceptions.HTTPError, http.client.HTTPException, ConnectionError, TimeoutError,
        ) as error:  # fmt: skip
            raise unreachable(url, error) from error


def _client() -> Any:
    """Return this process's client; a fork does not use its parent's connections."""
    with _lock:
        process = os.getpid()
        if process not in _clients:
            from google.cloud import storage
            from requests.adapters import HTTPAdapter

            # Else a thread asks for the bucket's metadata, for tracing that nobody switched on.
            os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
            _clients.clear()
            # No project: nothing here needs one, and looking for it asks the metadata server.
            client = storage.Client(project=None)
            for scheme in ("https://", "http://"):
                client._http.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
            _clients[process] = client
        return _clients[process]


def _retry() -> Any:
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(PATIENCE)


def is_of_the_store(error: PointerError) -> bool:
    """Say whether an error is about the store as a whole, and not about one photo of it."""
    from classifier.errors import Denied, MissingStore

    return isinstance(error, (Denied, MissingStore, InvalidSetting))
