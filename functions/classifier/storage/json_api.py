"""`JsonApiStore`: an `ObjectStore` in a Cloud Storage bucket, by plain requests to its JSON API.

google-cloud-storage takes as long to import as all the rest of a cold start's reading. Requests and answers:
https://cloud.google.com/storage/docs/json_api/v1.
"""

from __future__ import annotations

import io
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

from classifier.errors import NotFound, PreconditionFailed
from classifier.storage.connection import Answer, Connection
from classifier.storage.names import check_name, check_prefix
from classifier.storage.protocol import Content, StoredObject, open_source
from classifier.storage.transfer import Transfer, checksum
from classifier.storage.unreachable import denied, no_bucket, unreachable

PUBLIC = "https://storage.googleapis.com"
TRANSIENT = {408, 429, 500, 502, 503, 504}
"""Statuses after which a request is repeated: https://cloud.google.com/storage/docs/retry-strategy."""
FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 2.0
"""Seconds; the wait doubles from one to the other, and half of each is random."""
LONGEST_TRANSFER = 3600.0
LARGEST_REQUEST = 8 << 20
"""Bytes. What is larger is sent by google-cloud-storage, in parts of which a broken connection loses one."""
SLOWEST_UPLOAD = 200_000
"""Bytes a second. The time limit of a request covers the sending of its body, so it grows with the body."""

Found = TypeVar("Found")


class JsonApiStore:
    """Objects in a bucket. Connections are made at first use; STORAGE_EMULATOR_HOST leads it to an emulator.

    Args:
        bucket: the bucket's name.
        prefix: put before every object's name, without slashes at its ends; "" for none.
        patience: seconds after which an operation that makes no progress is given up.
        timeout: seconds to wait for a connection, and for each part of an answer.
        credentials: of google-auth, to act as somebody else than whoever this runs as.
    """

    def __init__(
        self, bucket: str, prefix: str = "", *, patience: float = 8.0, timeout: float = 8.0, credentials: Any = None
    ) -> None:
        self.url = f"gs://{bucket}/{prefix}" if prefix else f"gs://{bucket}"
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._patience = patience
        self._timeout = timeout
        self._connection = Connection(timeout, credentials)

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self._connection.close()

    def read(self, name: str) -> Content:
        """See `ObjectStore.read`."""
        buffer = io.BytesIO()
        generation = self.download(name, buffer)
        return Content(buffer.getvalue(), generation)

    def read_if_changed(self, name: str, generation: int) -> Content | None:
        """See `ObjectStore.read_if_changed`."""
        buffer = io.BytesIO()
        transfer = self._fetch(name, buffer, {"ifGenerationNotMatch": generation})
        return Content(buffer.getvalue(), transfer.generation) if transfer.begun else None

    def download(self, name: str, file: BinaryIO) -> int:
        """See `ObjectStore.download`."""
        return self._fetch(name, file, {}).generation

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
            if len(data) <= LARGEST_REQUEST:
                return self._send(name, data, if_generation, content_type)
        else:
            with open_source(data) as source:
                if os.fstat(source.fileno()).st_size <= LARGEST_REQUEST:
                    return self._send(name, source.read(), if_generation, content_type)
        return self._send_in_parts(name, data, if_generation, content_type)

    def delete(self, name: str) -> None:
        """See `ObjectStore.delete`."""
        check_name(name)

        def attempt() -> None:
            with self._connection.request("DELETE", self._address(name), query={}) as answer:
                self._expect_success(answer, name)

        with suppress(NotFound):
            self._persist(attempt)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """See `ObjectStore.list`."""
        check_prefix(prefix)
        query = {"prefix": self._prefix + prefix, "fields": "items(name,size,generation,crc32c),nextPageToken"}
        found = [
            StoredObject(
                item["name"].removeprefix(self._prefix), int(item["size"]), int(item["generation"]), item.get("crc32c")
            )
            for page in self._pages(query)
            for item in page.get("items", ())
        ]
        return iter(sorted(found, key=lambda item: item.name))

    def folders(self, prefix: str = "") -> Iterator[str]:
        """See `ObjectStore.folders`."""
        check_prefix(prefix)
        start = self._prefix + prefix
        query = {"prefix": start, "delimiter": "/", "fields": "prefixes,nextPageToken"}
        found = {name for page in self._pages(query) for name in page.get("prefixes", ())}
        return iter(sorted(name.removeprefix(start).rstrip("/") for name in found))

    def _fetch(self, name: str, file: BinaryIO, condition: Mapping[str, int]) -> Transfer:
        """Stream an object into a file; nothing of one that does not meet the condition.

        An interrupted transfer goes on where it stopped, with the same generation.
        """
        check_name(name)
        transfer = Transfer(file, f"{name} in {self.url}")

        def attempt() -> None:
            query: dict[str, Any] = {"alt": "media", **(transfer.of_the_same() if transfer.begun else condition)}
            headers = {"Accept-Encoding": "gzip", **transfer.range()}  # gzip: send the bytes that are stored
            address = self._address(name)
            with self._connection.request("GET", address, query=query, headers=headers, stream=True) as answer:
                if answer.status_code == HTTPStatus.NOT_MODIFIED:
                    return
                if answer.status_code == HTTPStatus.NOT_FOUND and transfer.begun:
                    raise unreachable(self.url, f"{name} was replaced while it was read.")
                self._expect_success(answer, name)
                transfer.receive(answer)

        self._persist(attempt, transfer.since_progress)
        if transfer.begun:
            transfer.finish()
        return transfer

    def _send(self, name: str, data: bytes, if_generation: int | None, content_type: str | None) -> int:
        """Send all in one request, which stores nothing where the checksum is another."""
        kind = content_type or "application/octet-stream"
        facts = {"name": self._prefix + name, "contentType": kind, "crc32c": checksum(data)}
        boundary = f"pointer{random.getrandbits(128):032x}"
        body = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(facts)}\r\n"
            f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n"
        ).encode() + (data + f"\r\n--{boundary}--\r\n".encode())
        query: dict[str, Any] = {"uploadType": "multipart", "fields": "generation"}
        if if_generation is not None:
            query["ifGenerationMatch"] = if_generation
        headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
        timeout = self._timeout + len(body) / SLOWEST_UPLOAD

        def attempt() -> int:
            address = self._address(upload=True)
            with self._connection.request(
                "POST", address, query=query, headers=headers, body=body, timeout=timeout
            ) as answer:
                self._expect_success(answer, name, writing=True)
                return int(_object_in(answer)["generation"])

        return self._persist(attempt)

    def _send_in_parts(self, name: str, data: bytes | Path, if_generation: int | None, content_type: str | None) -> int:
        from classifier.storage.cloud import CloudStore

        prefix = self._prefix.removesuffix("/")
        store = CloudStore(self._bucket, prefix, patience=self._patience, timeout=self._timeout)
        try:
            return store.write(name, data, if_generation=if_generation, content_type=content_type)
        finally:
            store.close()

    def _pages(self, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield the pages of a listing."""
        params = dict(query)

        def attempt() -> dict[str, Any]:
            with self._connection.request("GET", self._address(), query=params) as answer:
                self._expect_success(answer)
                return _object_in(answer)

        while True:
            page = self._persist(attempt)
            yield page
            if not page.get("nextPageToken"):
                return
            params["pageToken"] = page["nextPageToken"]

    def _address(self, name: str | None = None, *, upload: bool = False) -> str:
        """Return the URL of an object, or of all of the bucket's."""
        host = os.environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/") or PUBLIC
        if "://" not in host:
            host = f"http://{host}"
        objects = f"{host}{'/upload' if upload else ''}/storage/v1/b/{quote(self._bucket)}/o"
        return objects if name is None else f"{objects}/{quote(self._prefix + name, safe='')}"

    def _expect_success(self, answer: Answer, name: str | None = None, *, writing: bool = False) -> None:
        """Raise what an answer other than a success means; `_Transient` where it may be another the next time."""
        status = answer.status_code
        if status < HTTPStatus.MULTIPLE_CHOICES:
            return
        reason = _told(answer)
        if status in TRANSIENT:
            raise _Transient(reason)
        if status == HTTPStatus.PRECONDITION_FAILED:
            raise PreconditionFailed(f"Expected {name} in {self.url} to have another generation.")
        if status == HTTPStatus.NOT_FOUND:
            if name is None or writing or "The specified bucket does not exist" in reason:
                raise no_bucket(self.url, self._bucket)
            raise NotFound(f"Expected an object {name!r} in {self.url}; there is none.")
        raise denied(self.url, reason) if status == HTTPStatus.FORBIDDEN else unreachable(self.url, reason)

    def _persist(self, attempt: Callable[[], Found], since_progress: Callable[[], float] | None = None) -> Found:
        """Repeat what fails for a moment, for `patience` seconds, or for as long as a transfer moves on.

        Raises:
            Unavailable: it does not succeed.
        """
        import urllib3
        from google.auth.exceptions import GoogleAuthError, TransportError

        began, backoff = time.monotonic(), FIRST_BACKOFF
        while True:
            try:
                return attempt()
            except (
                _Transient,
                TransportError,
                urllib3.exceptions.HTTPError,
                ConnectionError,
                TimeoutError,
            ) as error:
                taken = time.monotonic() - began
                idle = taken if since_progress is None else since_progress()
                wait = backoff * random.uniform(0.5, 1.0)  # noqa: S311 - so that instances do not come at once
                if idle + wait > self._patience or taken > LONGEST_TRANSFER:
                    raise unreachable(self.url, error) from error
                time.sleep(wait)
                backoff = min(2 * backoff, LONGEST_BACKOFF)
            except (GoogleAuthError, ValueError, KeyError) as error:
                raise unreachable(self.url, error) from error


class _Transient(Exception):
    """A failure that may be gone at the next attempt."""


def _object_in(answer: Answer) -> dict[str, Any]:
    """Return the JSON object that an answer has."""
    found = answer.json()
    if not isinstance(found, dict):
        raise ValueError("it answered no JSON object")
    return found


def _told(answer: Answer) -> str:
    """Return a refusal in words: the API's own where there are some."""
    status = f"{answer.status_code} {answer.reason or ''}".strip()
    try:
        message = " ".join(str(_object_in(answer)["error"]["message"]).split())
    except (ValueError, KeyError, TypeError):
        text = " ".join(answer.text.split())
        message = text if text and not text.startswith("<") else ""
    return f"{status}: {message}" if message and message != answer.reason else status
