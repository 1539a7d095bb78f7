"""Reads a request's body as it comes: its gzip undone, and never more bytes than it may have."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import partial

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from classifier.errors import InvalidRequest, UnsupportedMedia

BLOCK = 2**16
PLAIN, GZIP = ("", "identity"), ("gzip", "x-gzip")
ROOM_FOR_GZIP = 2**10
"""Bytes by which gzip makes something larger that cannot be made smaller, beside a thousandth of it."""
_GZIP_FORMAT = 16 + zlib.MAX_WBITS


def read_body(request: Request, limit: int) -> bytes:
    """Read a whole body; see `read_blocks`."""
    return b"".join(read_blocks(request, limit))


def read_blocks(request: Request, limit: int) -> Iterator[bytes]:
    """Return a body's blocks, none of them empty, also of one sent in chunks, whose length shows only as it comes.

    Together they have at most ``limit`` + 1 bytes, where Flask would cut a body at its limit.

    Raises, now or with a block:
        UnsupportedMedia: a Content-Encoding that is not gzip.
        InvalidRequest: the gzip is broken, cut short, or followed by something else.
        RequestEntityTooLarge: more bytes, as they are sent or as they are inflated.
    """
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    if coding not in (*PLAIN, *GZIP):
        raise UnsupportedMedia(
            f"Expected a body without Content-Encoding, or with gzip; received {coding!r}. Photos are compressed "
            "already: send them as they are."
        )
    room = limit // 1000 + ROOM_FOR_GZIP if coding in GZIP else 0
    request.max_content_length = limit + room + 1
    blocks = iter(partial(request.stream.read, BLOCK), b"")
    return _inflated(blocks, limit) if coding in GZIP else blocks


def _inflated(blocks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(_GZIP_FORMAT)
    size = 0
    for compressed in blocks:
        rest, more = compressed, True
        while more:
            try:
                block = inflater.decompress(rest, BLOCK)
            except zlib.error as error:
                raise InvalidRequest(
                    "Expected a body in gzip, as Content-Encoding says; received one that is broken, or is not in "
                    "gzip. Without Content-Encoding it is read as it is."
                ) from error
            if inflater.unused_data:
                raise InvalidRequest("Expected a body that ends with its gzip; received more after its end.")
            size += len(block)
            if size > limit + 1:
                raise RequestEntityTooLarge
            if block:
                yield block
            rest = inflater.unconsumed_tail
            more = bool(rest) or len(block) == BLOCK  # some may be left in the inflater itself
    if not inflater.eof:
        raise InvalidRequest("Expected a whole body in gzip; received one that is cut short. Send it again.")
