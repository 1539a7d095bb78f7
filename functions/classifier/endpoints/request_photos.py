"""Finds a request's photos: multipart fields, a raw body, base64 in JSON, or a named object in a store."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import threading
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import IO, Any, cast

from flask import Request
from werkzeug.formparser import FormDataParser

from classifier.errors import Forbidden, InvalidRequest, NotFound, TooLarge, UnsupportedMedia
from classifier.photo.limits import Bounded, too_large
from classifier.settings import Settings
from classifier.storage.protocol import ObjectStore

FIELD = "image"
ROOM_FOR_JSON = 64 * 2**10
OTHER_FORM_PARTS = 12
"""How many parts a form may have besides photos: none is wanted, and the first is named in the error."""
MAX_JSON_PARTS = 1000
"""How many values JSON may hold, about: millions of small ones take thirty times the memory of their text."""
EXAMPLE = "With curl: -F image=@photo.jpg"
ONE_JSON_AT_A_TIME = threading.Lock()
"""Held while a body in JSON is parsed: for a moment a photo is there four times, as body, text, base64 and bytes."""


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


def form_parts_limit(settings: Settings) -> int:
    """Return how many parts a form may have."""
    return settings.max_photos + OTHER_FORM_PARTS


def read_photos(request: Request, settings: Settings, photo_store: Callable[[], ObjectStore]) -> list[bytes]:
    """Return the bytes of the request's photos, in order: at least one, several only of a form.

    All together are at most what a body may have. A photo of a form may have more bytes than a photo may.
    ``photo_store`` opens the store that ``{"object": ...}`` reads; it is called only where PHOTO_STORE is set.

    Raises:
        InvalidRequest: no photo, more than one where the body is JSON, or a body that is broken.
        UnsupportedMedia: a body of a type that is not read.
        Forbidden: an object where the settings allow none.
        NotFound: no such object.
        TooLarge: more photos than a request may have, or an object of more bytes than a photo may have.
        Unavailable: the photo store cannot be reached.
    """
    mimetype = request.mimetype
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMedia("Expected a body without Content-Encoding; photos are compressed already.")
    if mimetype == "multipart/form-data":
        return _from_form(request, settings)
    if mimetype == "application/json":
        return [_from_json(request, settings, photo_store)]
    if mimetype.startswith("image/") or mimetype == "application/octet-stream":
        return [read_body(request, settings.max_image_bytes)]
    if not mimetype and not request.stream.read(1):
        raise _no_photo()
    raise UnsupportedMedia(
        f"Expected multipart/form-data, image/*, application/octet-stream or application/json; "
        f"received {mimetype or 'no Content-Type'}. {EXAMPLE}"
    )


def read_body(request: Request, limit: int) -> bytes:
    """Read a body, also one sent in chunks, whose length shows only as it comes; Flask would cut it at the limit."""
    request.max_content_length = limit + 1
    content = bytearray()
    while block := request.stream.read(2**16):
        content += block
    return bytes(content)


def _from_form(request: Request, settings: Settings) -> list[bytes]:
    try:
        files, form = request.files, request.form
    except ValueError as error:
        raise InvalidRequest(
            f"Expected a whole multipart/form-data body; received one that is broken. {EXAMPLE}"
        ) from error
    for name in [*files, *form]:
        if name != FIELD or name in form:
            received = "text" if name in form else "a file"
            raise InvalidRequest(
                f"Expected each photo as a file in the field {FIELD!r}, and nothing else; "
                f"received {received} in the field {name!r}. {EXAMPLE}"
            )
    photos = files.getlist(FIELD)
    if not photos:
        raise _no_photo()
    if len(photos) > settings.max_photos:
        most = "one photo" if settings.max_photos == 1 else f"at most {settings.max_photos} photos"
        raise TooLarge(f"Expected {most} in a request; received {len(photos)}. Send the others in further requests.")
    # Unlike read, it makes no copy of what `_in_memory` has taken.
    return [cast(io.BytesIO, photo.stream).getvalue() for photo in photos]


def _from_json(request: Request, settings: Settings, photo_store: Callable[[], ObjectStore]) -> bytes:
    content = read_body(request, body_limit(settings))
    with ONE_JSON_AT_A_TIME:
        body = _parse(content)
        if "object" not in body:
            return decode_base64(_string(body, FIELD))
    return _from_store(_string(body, "object"), settings, photo_store)


def _parse(content: bytes) -> dict[str, Any]:
    """Read ``{"image": ...}`` or ``{"object": ...}``; a repeated member counts, where `json` would drop one."""
    if not content:
        raise _no_photo()
    body = parse_json(content, object_pairs_hook=lambda pairs: pairs)
    if not isinstance(body, list) or not all(isinstance(member, tuple) for member in body):
        raise InvalidRequest('Expected a JSON object such as {"image": "<base64>"}.')
    for name, _ in body:
        if name not in (FIELD, "object"):
            raise InvalidRequest(f"Expected the member {FIELD!r} or 'object'; received {name!r}.")
    if not body:
        raise _no_photo()
    if len(body) > 1:
        raise InvalidRequest(
            f"Expected one photo in JSON, received {len(body)}. Several can be sent as multipart/form-data. {EXAMPLE}"
        )
    return dict(body)


def parse_json(content: bytes, **options: Any) -> Any:
    """Parse a body whose one large value is a photo; ``options`` are those of `json.loads`.

    Raises:
        InvalidRequest: it is not JSON, or has too many values.
    """
    if sum(map(content.count, (b"[", b"{", b","))) > MAX_JSON_PARTS:
        raise InvalidRequest(f"Expected JSON with a photo in base64; received more than {MAX_JSON_PARTS:,} values.")
    try:
        return json.loads(content, **options)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be decoded"
        raise InvalidRequest(f"Expected a body that is JSON; {reason}.") from error


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


def _in_memory(*_args: object, **_kwargs: object) -> IO[bytes]:
    """Keep an uploaded file in memory: the body is bounded, and a function's /tmp is memory too."""
    return io.BytesIO()


def _no_photo() -> InvalidRequest:
    return InvalidRequest(f"Expected a photo, received none. {EXAMPLE}")


def body_too_large(request: Request, settings: Settings) -> TooLarge:
    """Return the error of a body that was refused while it was read: for its size, or for what its form holds."""
    if request.mimetype != "multipart/form-data":
        return too_large(settings.max_image_bytes)
    each = f"photos of at most {settings.max_image_bytes:,} bytes each"
    if request.content_length is not None and request.content_length > body_limit(settings):
        return TooLarge(
            f"Expected a form of at most {body_limit(settings):,} bytes in all, with {each}; "
            f"received {request.content_length:,}. Send smaller photos, or fewer at a time."
        )
    return TooLarge(
        f"Expected a form of at most {body_limit(settings):,} bytes, with {each}, at most "
        f"{form_parts_limit(settings)} fields, and at most {request.max_form_memory_size:,} bytes of text; received "
        f"more. {EXAMPLE}"
    )
