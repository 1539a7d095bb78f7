"""`CloudStore`: an `ObjectStore` in a Cloud Storage bucket, by the library google-cloud-storage."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from classifier.errors import NotFound, PreconditionFailed, Unavailable
from classifier.storage.names import check_name, check_prefix
from classifier.storage.protocol import Content, StoredObject, open_source
from classifier.storage.unreachable import denied, no_bucket, unreachable

UPLOAD_CHUNK = 8 << 20
"""Bytes sent in one request; a multiple of 256 KiB, as resumable uploads need."""
SLOWEST_UPLOAD = 200_000
"""Bytes a second. A request's time limit covers the sending of its whole body, so it grows with the body."""
LONGEST_TRANSFER = 3600.0
CONNECTIONS = 64
"""That are kept open, at most."""


class CloudStore:
    """Objects in a bucket. The client is made at first use; STORAGE_EMULATOR_HOST leads it to an emulator.

    Args:
        bucket: the bucket's name.
        prefix: put before every object's name, without slashes at its ends; "" for none.
        patience: seconds after which an operation that makes no progress is given up.
        timeout: seconds to wait for a connection, and for each part of an answer.
    """

    def __init__(self, bucket: str, prefix: str = "", *, patience: float = 8.0, timeout: float = 8.0) -> None:
        self.url = f"gs://{bucket}/{prefix}" if prefix else f"gs://{bucket}"
        self._bucket_name = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._patience = patience
        self._timeout = timeout
        self._client: Any = None
        self._client_lock = threading.Lock()

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        with self._client_lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def read(self, name: str) -> Content:
        """See `ObjectStore.read`."""
        buffer = io.BytesIO()
        generation = self._fetch(name, buffer)
        return Content(buffer.getvalue(), generation)

    def read_if_changed(self, name: str, generation: int) -> Content | None:
        """See `ObjectStore.read_if_changed`."""
        from google.api_core.exceptions import NotModified

        buffer = io.BytesIO()
        try:
            found = self._fetch(name, buffer, if_generation_not_match=generation)
        except NotModified:
            return None
        return Content(buffer.getvalue(), found)

    def write(
        self,
        name: str,
        data: bytes | Path,
        *,
        if_generation: int | None = None,
        content_type: str | None = None,
    ) -> int:
        """See `ObjectStore.write`."""
        check_name(name)
        if isinstance(data, bytes):
            return self._send(name, io.BytesIO(data), len(data), if_generation, content_type)
        with open_source(data) as source:
            return self._send(name, source, os.fstat(source.fileno()).st_size, if_generation, content_type)

    def delete(self, name: str) -> None:
        """See `ObjectStore.delete`."""
        check_name(name)
        with suppress(NotFound), self._reaching(name):
            self._blob(name).delete(timeout=self._timeout, retry=self._retry())

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """See `ObjectStore.list`."""
        check_prefix(prefix)
        with self._reaching():
            blobs = self._connected().list_blobs(
                self._bucket_name,
                prefix=self._prefix + prefix,
                fields="items(name,size,generation,crc32c),nextPageToken",
                timeout=self._timeout,
                retry=self._retry(),
            )
            found = [
                StoredObject(blob.name.removeprefix(self._prefix), int(blob.size), int(blob.generation), blob.crc32c)
                for blob in blobs
            ]
        return iter(sorted(found, key=lambda item: item.name))

    def folders(self, prefix: str = "") -> Iterator[str]:
        """See `ObjectStore.folders`."""
        check_prefix(prefix)
        start = self._prefix + prefix
        with self._reaching():
            listing = self._connected().list_blobs(
                self._bucket_name,
                prefix=start,
                delimiter="/",
                fields="prefixes,nextPageToken",
                timeout=self._timeout,
                retry=self._retry(),
            )
            for _ in listing:  # the prefixes come with the pages
                pass
            return iter(sorted(found.removeprefix(start).rstrip("/") for found in listing.prefixes))

    def download(self, name: str, file: BinaryIO) -> int:
        """See `ObjectStore.download`."""
        return self._fetch(name, file)

    def _fetch(self, name: str, file: BinaryIO, *, if_generation_not_match: int | None = None) -> int:
        """Stream an object into a file. An interrupted transfer goes on where it stopped, same generation.

        Raises:
            google.api_core.exceptions.NotModified: it has `if_generation_not_match`.
        """
        check_name(name)
        progress = _Progress(file)
        with self._reaching(name):
            blob = self._blob(name)
            blob.download_to_file(
                progress,
                if_generation_not_match=if_generation_not_match,
                timeout=self._timeout,
                retry=self._retry(since=progress.since),
            )
        if blob.generation is None:
            raise Unavailable(f"The store {self.url} did not say which generation of {name} it sent.")
        return int(blob.generation)

    def _send(self, name: str, source: BinaryIO, size: int, if_generation: int | None, content_type: str | None) -> int:
        with self._reaching(name, writing=True):
            blob = self._blob(name, chunk_size=UPLOAD_CHUNK)
            blob.upload_from_file(
                source,
                size=size,
                content_type=content_type or "application/octet-stream",
                if_generation_match=if_generation,
                timeout=self._timeout + min(size, UPLOAD_CHUNK) / SLOWEST_UPLOAD,
                retry=self._retry(),
            )
        return int(blob.generation)

    def _blob(self, name: str, **options: Any) -> Any:
        return self._connected().bucket(self._bucket_name).blob(self._prefix + name, **options)

    def _connected(self) -> Any:
        """Return the client, made once however many threads ask."""
        with self._client_lock:
            if self._client is None:
                from google.cloud import storage
                from requests.adapters import HTTPAdapter

                # Else a thread asks for the bucket's metadata, for tracing that nobody switched on: a request more,
                # and an audit-log error where only objects may be read (googleapis/google-cloud-python#17650).
                os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
                # No project: nothing here needs one, and looking for it asks the metadata server.
                self._client = storage.Client(project=None)
                # As many connections as reads at once; its own ten would warn of the eleventh.
                for scheme in ("https://", "http://"):
                    self._client._http.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
            return self._client

    def _retry(self, *, since: Callable[[], float] | None = None) -> Any:
        """Retry what is worth it for `patience` seconds, or for as long as a transfer moves on."""
        from google.api_core.retry import Retry
        from google.cloud.storage.exceptions import InvalidResponse
        from google.cloud.storage.retry import DEFAULT_RETRY

        # The library's own judgement of what is transient; it has no public name.
        transient: Callable[[Exception], bool] = DEFAULT_RETRY._predicate

        def worth_it(error: Exception) -> bool:
            again = transient(error) and (since is None or since() < self._patience)
            if again and isinstance(error, InvalidResponse):
                # The library forgets the answer before the next attempt, with its connection open.
                error.response.close()
            return again

        timeout = self._patience if since is None else LONGEST_TRANSFER
        return Retry(predicate=worth_it, initial=0.1, maximum=2.0, timeout=timeout)

    @contextmanager
    def _reaching(self, name: str | None = None, *, writing: bool = False) -> Iterator[None]:
        """Turn what the client raises into this project's errors, but for `NotModified`."""
        import http.client

        import requests
        import urllib3
        from google.api_core import exceptions as api
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

        try:
            yield
        except api.NotModified:
            raise
        except api.PreconditionFailed as error:
            raise PreconditionFailed(f"Expected {name} in {self.url} to have another generation.") from error
        except api.NotFound as error:
            if name is None or writing or "The specified bucket does not exist" in str(error):
                raise no_bucket(self.url, self._bucket_name) from error
            raise NotFound(f"Expected an object {name!r} in {self.url}; there is none.") from error
        except api.Forbidden as error:
            raise denied(self.url, error) from error
        except (
            api.GoogleAPIError,
            GoogleAuthError,
            DataCorruption,
            InvalidResponse,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as error:
            raise unreachable(self.url, error) from error


class _Progress(io.RawIOBase):
    """A write-only file that knows how long ago it last received something."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._last = time.monotonic()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._last = time.monotonic()
        return self._file.write(data)

    def since(self) -> float:
        """Seconds."""
        return time.monotonic() - self._last
