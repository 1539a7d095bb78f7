"""`Transfer`: an object's bytes on their way from a bucket into a file, over as many requests as that takes."""

from __future__ import annotations

import base64
import time
import zlib
from typing import Any, BinaryIO

from classifier.errors import Unavailable

CHUNK = 1 << 18
"""Bytes that are read at once."""
GENERATION, HASHES, STORED_AS = "X-Goog-Generation", "X-Goog-Hash", "X-Goog-Stored-Content-Encoding"
GZIP = 16 + zlib.MAX_WBITS


def checksum(data: bytes) -> str:
    """Return bytes' CRC32C as Cloud Storage writes it: big-endian in base64."""
    import google_crc32c

    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


class Transfer:
    """What has been received of an object, and of which generation it is.

    Args:
        file: gets the bytes; those of an object that was stored compressed, inflated.
        what: the object, for messages.
    """

    def __init__(self, file: BinaryIO, what: str) -> None:
        self.begun = False
        self.generation = 0
        self._file = file
        self._what = what
        self._received = 0
        self._crc = 0
        self._expected: str | None = None
        self._inflate: Any = None
        self._last = time.monotonic()

    def since_progress(self) -> float:
        """Return the seconds since something was received."""
        return time.monotonic() - self._last

    def of_the_same(self) -> dict[str, int]:
        """Return the query that asks for the generation of which a part is here."""
        return {"generation": self.generation}

    def range(self) -> dict[str, str]:
        """Return the header that asks for what is not here yet."""
        return {"Range": f"bytes={self._received}-"} if self._received else {}

    def receive(self, answer: Any) -> None:
        """Take over an answer's body, as far as it comes.

        Raises:
            Unavailable: the answer lacks its generation, or is not the part that was asked for.
            urllib3.exceptions.HTTPError: the connection broke; ask again for the rest.
        """
        import google_crc32c

        if not self.begun:
            self._begin(answer.headers)
        if self._received and answer.status_code != 206:  # the whole again: some servers know no parts
            self._skip(answer.raw, self._received)
        while chunk := answer.raw.read1(CHUNK, decode_content=False):  # what is here, be it little
            self._last = time.monotonic()
            self._received += len(chunk)
            self._crc = google_crc32c.extend(self._crc, chunk)
            self._file.write(self._inflate.decompress(chunk) if self._inflate else chunk)

    def finish(self) -> None:
        """Make sure that what was received is what was sent.

        Raises:
            Unavailable: it is not.
        """
        if self._expected is not None and self._expected != base64.b64encode(self._crc.to_bytes(4, "big")).decode():
            raise Unavailable(f"What was received of {self._what} is not what is stored: its checksum is another.")
        if self._inflate and not self._inflate.eof:
            raise Unavailable(f"What was received of {self._what} ends in the middle of its gzip stream.")

    def _begin(self, headers: Any) -> None:
        if GENERATION not in headers:
            raise Unavailable(f"The store did not say which generation of {self._what} it sent.")
        self.begun = True
        self.generation = int(headers[GENERATION])
        hashes = dict(each.strip().split("=", 1) for each in headers.get(HASHES, "").split(",") if "=" in each)
        self._expected = hashes.get("crc32c")
        if headers.get("Content-Encoding") == "gzip":
            self._inflate = zlib.decompressobj(GZIP)
        elif headers.get(STORED_AS) == "gzip":
            self._expected = None  # inflated on the way: the checksum is of other bytes

    @staticmethod
    def _skip(raw: Any, count: int) -> None:
        while count and (chunk := raw.read(min(count, CHUNK), decode_content=False)):
            count -= len(chunk)
