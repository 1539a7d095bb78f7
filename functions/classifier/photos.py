"""Finds a request's one photo: a multipart field, a raw body, base64 in JSON, or a named object in a store."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import IO, Any

from flask import Request
from werkzeug.formparser import FormDataParser

from classifier.errors import Forbidden, InvalidRequest, NotFound, TooLarge, UnsupportedMedia
from classifier.settings import MIB, Settings
from classifier.store import ObjectStore

FIELD = "image"
ROOM_FOR_JSON = 64 * 2**10
MAX_FORM_PARTS = 20
EXAMPLE = "With curl: -F image=@photo.jpg"


class PhotoRequest(Request):
    """A request whose multipart body is kept in memory, is bounded, and is refused when it is broken."""

    def make_form_data_parser(self) -> FormDataParser:
        """Return a parser that raises ValueError where Flask's would quietly return nothing."""
        return FormDataParser(
            stream_factory=_in_memory,
            max_form_memory_size=self.max_form_memory_size,
            max_content_length=self.max_content_length,
            max_form_parts=self.max_form_parts,
            cls=self.parameter_storage_class,
            silent=False,
        )


def body_limit(settings: Settings) -> int:
    """Return how many bytes a body may have: the largest photo in base64, and its surroundings."""
    return settings.max_image_bytes * 4 // 3 + ROOM_FOR_JSON


def read_photo(request: Request, settings: Settings, photo_store: Callable[[], ObjectStore]) -> bytes:
    """Return the bytes of the request's one photo.

    ``photo_store`` opens the store that ``{"object": ...}`` reads; it is called only where PHOTO_STORE is set.

    Raises:
        InvalidRequest: no photo, more than one, or a body that is broken.
        UnsupportedMedia: a body of a type that is not read.
        Forbidden: an object where the settings allow none.
        NotFound: no such object.
        TooLarge: more bytes than a photo may have.
        Unavailable: the photo store cannot be reached.
    """
    mimetype = request.mimetype
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMedia("Expected a body without Content-Encoding; photos are compressed already.")
    if mimetype == "multipart/form-data":
        photo = _from_form(request)
    elif mimetype == "application/json":
        photo = _from_json(request, settings, photo_store)
    elif mimetype.startswith("image/") or mimetype == "application/octet-stream":
        photo = read_body(request, settings.max_image_bytes)
    elif not mimetype and not request.stream.read(1):
        raise _wrong_count(0)
    else:
        raise UnsupportedMedia(
            f"Expected multipart/form-data, image/*, application/octet-stream or application/json; "
            f"received {mimetype or 'no Content-Type'}. {EXAMPLE}"
        )
    if len(photo) > settings.max_image_bytes:
        raise too_large(settings.max_image_bytes)
    return photo


def read_body(request: Request, limit: int) -> bytes:
    """Read a body, also one sent in chunks, whose length shows only as it comes; Flask would cut it at the limit."""
    request.max_content_length = limit + 1
    content = bytearray()
    while block := request.stream.read(2**16):
        content += block
    return bytes(content)


def _from_form(request: Request) -> bytes:
    try:
        files, form = request.files, request.form
    except ValueError as error:
        raise InvalidRequest(
            f"Expected a whole multipart/form-data body; received one that is broken. {EXAMPLE}"
        ) from error
    for name in [*files, *form]:
        if name not in (FIELD, "object"):
            raise InvalidRequest(f"Expected the photo in the field {FIELD!r}; received the field {name!r}. {EXAMPLE}")
    count = sum(len(part.getlist(name)) for part in (files, form) for name in part)
    if count != 1:
        raise _wrong_count(count)
    if FIELD not in files:
        raise InvalidRequest(f"Expected a file in the field {FIELD!r}; received text. {EXAMPLE}")
    return files[FIELD].stream.read()


def _from_json(request: Request, settings: Settings, photo_store: Callable[[], ObjectStore]) -> bytes:
    body = _parse(read_body(request, body_limit(settings)))
    if "object" in body:
        return _from_store(_string(body, "object"), settings, photo_store)
    return decode_base64(_string(body, FIELD))


def _parse(content: bytes) -> dict[str, Any]:
    """Read ``{"image": ...}`` or ``{"object": ...}``; a repeated member counts, where `json` would drop one."""
    if not content:
        raise _wrong_count(0)
    try:
        body = json.loads(content, object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be decoded"
        raise InvalidRequest(f"Expected a body that is JSON; {reason}.") from error
    if not isinstance(body, list) or not all(isinstance(member, tuple) for member in body):
        raise InvalidRequest('Expected a JSON object such as {"image": "<base64>"}.')
    for name, _ in body:
        if name not in (FIELD, "object"):
            raise InvalidRequest(f"Expected the member {FIELD!r} or 'object'; received {name!r}.")
    if len(body) != 1:
        raise _wrong_count(len(body))
    return dict(body)


def _string(body: dict[str, Any], name: str) -> str:
    if not isinstance(body[name], str):
        raise InvalidRequest(f"Expected {name!r} to be a string; received another type.")
    return str(body[name])


def decode_base64(text: str) -> bytes:
    """Decode a photo in standard base64.

    Raises:
        InvalidRequest: it is something else.
    """
    if text.startswith("data:"):
        raise InvalidRequest("Expected plain base64; received a data: URL. Send what follows its comma.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(
            "Expected 'image' to be standard base64, padded and without line breaks; received something else."
        ) from error


def _from_store(name: str, settings: Settings, photo_store: Callable[[], ObjectStore]) -> bytes:
    if not settings.photo_store:
        raise Forbidden("Photos are not read from a store here. An operator may allow one place with PHOTO_STORE.")
    parts = PurePosixPath(name).parts
    if not re.fullmatch(r"[^\x00-\x1f\x7f\\]{1,1000}", name) or "/".join(parts) != name or {"..", "/"} & set(parts):
        raise InvalidRequest(f"Expected the name of an object such as uploads/cat.jpg; received {name!r}.")
    content = Bounded(settings.max_image_bytes)
    try:
        photo_store().download(name, content)
    except NotFound as error:
        raise NotFound(f"Expected the name of a stored photo; there is no object {name!r}.") from error
    return content.getvalue()


class Bounded(io.BytesIO):
    """Takes at most ``limit`` bytes, so that a large object is never held whole."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        """Raise `TooLarge` instead of going over the limit."""
        if self.tell() + len(data) > self._limit:
            raise too_large(self._limit)
        return super().write(data)


def _in_memory(*_args: object, **_kwargs: object) -> IO[bytes]:
    """Keep an uploaded file in memory: the body is bounded, and a function's /tmp is memory too."""
    return io.BytesIO()


def _wrong_count(count: int) -> InvalidRequest:
    if count == 0:
        return InvalidRequest(f"Expected one photo, received none. {EXAMPLE}")
    return InvalidRequest(f"Expected one photo, received {count}.")


def body_too_large(request: Request, settings: Settings) -> TooLarge:
    """Return the error of a body that was refused while it was read: for its size, or for what its form holds."""
    announced = request.content_length
    if request.mimetype != "multipart/form-data" or (announced is not None and announced > body_limit(settings)):
        return too_large(settings.max_image_bytes)
    return TooLarge(
        f"Expected a form with one photo of at most {settings.max_image_bytes:,} bytes, at most {MAX_FORM_PARTS} "
        f"fields, and at most {request.max_form_memory_size:,} bytes of text; received more. {EXAMPLE}"
    )


def too_large(limit: int) -> TooLarge:
    """Return the error of a photo that has more than ``limit`` bytes."""
    return TooLarge(f"Expected a photo of at most {limit:,} bytes ({limit / MIB:.1f} MiB); received a larger one.")
