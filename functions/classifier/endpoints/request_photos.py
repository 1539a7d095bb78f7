"""Finds a request's photos, and the options beside them: in a form, a raw body, JSON, or a named object in a store."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from flask import Request

from classifier.endpoints.bodies import read_blocks, read_body
from classifier.endpoints.form import EXAMPLE, Form, read_form
from classifier.endpoints.json_body import options_in, parse_json
from classifier.endpoints.query_string import PARAMETERS
from classifier.endpoints.text_photos import ONE_TEXT_AT_A_TIME, decode_base64
from classifier.errors import Forbidden, InvalidRequest, NotFound, TooLarge, UnsupportedMedia
from classifier.photo.limits import Bounded, too_large
from classifier.settings import Settings
from classifier.storage.protocol import ObjectStore

FIELD, OBJECT = "image", "object"
BYTES = ("application/octet-stream", "binary/octet-stream")
SAYS_NOTHING = ("", "application/x-www-form-urlencoded")
"""What a photo sent without a Content-Type has: none, or the one that curl adds to --data-binary."""
ROOM_FOR_JSON = 64 * 2**10
OTHER_FORM_PARTS = 12
"""How many parts a form may have besides photos: the options, and some that are named in the error."""


def body_limit(settings: Settings) -> int:
    """Return how many bytes a body may have: the largest photo in base64, and its surroundings."""
    return settings.max_image_bytes * 4 // 3 + ROOM_FOR_JSON


def form_parts_limit(settings: Settings) -> int:
    """Return how many parts a form may have."""
    return settings.max_photos + OTHER_FORM_PARTS


def read_photos(request: Request, settings: Settings, photo_store: Callable[[], ObjectStore]) -> Form:
    """Return the bytes of the request's photos, in order, and the options of its body: at least one photo.

    There are several photos only in a form. All together are at most what a body may have. A photo of a form, or one in
    base64, may have more bytes than a photo may. ``photo_store`` opens the store that ``{"object": ...}`` reads; it is
    called only where PHOTO_STORE is set.

    Raises:
        InvalidRequest: no photo, or a body that is broken or can be understood in two ways.
        UnsupportedMedia: a body of a type that is not read.
        Forbidden: an object where the settings allow none.
        NotFound: no such object.
        TooLarge: more photos than a request may have, or an object of more bytes than a photo may have.
        RequestEntityTooLarge: more bytes than a body may have; see `body_too_large`.
        Unavailable: the photo store cannot be reached.
    """
    mimetype = request.mimetype
    if mimetype == "multipart/form-data":
        return _from_form(request, settings)
    if mimetype == "application/json":
        return _from_json(request, settings, photo_store)
    if mimetype.startswith("image/") or mimetype in BYTES:
        return Form([read_body(request, settings.max_image_bytes)], {})
    if mimetype in SAYS_NOTHING:
        return Form([_untyped(request, settings)], {})
    raise _unsupported(mimetype)


def _from_form(request: Request, settings: Settings) -> Form:
    form = read_form(request, read_blocks(request, body_limit(settings)), max_parts=form_parts_limit(settings))
    if not form.photos:
        raise _no_photo()
    if len(form.photos) > settings.max_photos:
        most = "one photo" if settings.max_photos == 1 else f"at most {settings.max_photos} photos"
        raise TooLarge(
            f"Expected {most} in a request; received {len(form.photos)}. Send the others in further requests."
        )
    return form


def _from_json(request: Request, settings: Settings, photo_store: Callable[[], ObjectStore]) -> Form:
    """Read ``{"image": ...}`` or ``{"object": ...}``, with the options beside it."""
    content = read_body(request, body_limit(settings))
    if not content:
        raise _no_photo()
    with ONE_TEXT_AT_A_TIME:
        body = parse_json(content)
        del content
        if not isinstance(body, dict):
            raise InvalidRequest('Expected a JSON object such as {"image": "<base64>"}.')
        for name in body:
            if name not in (FIELD, OBJECT, *PARAMETERS):
                known = ", ".join((FIELD, OBJECT, *PARAMETERS))
                raise InvalidRequest(f"Expected the members {known}; received {name!r}.")
        if FIELD in body and OBJECT in body:
            raise InvalidRequest(
                "Expected one photo in JSON, received 2. Several can be sent as multipart/form-data. "
                f"{EXAMPLE} -F image=@other.jpg"
            )
        options = options_in(body)
        if FIELD in body:
            return Form([decode_base64(_string(body, FIELD))], options)
    if OBJECT not in body:
        raise _no_photo()
    return Form([_from_store(_string(body, OBJECT), settings, photo_store)], options)


def _string(body: dict[str, Any], name: str) -> str:
    value = body.pop(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"Expected {name!r} to be a string; received another type.")
    return value


def _untyped(request: Request, settings: Settings) -> bytes:
    """Return a body that does not say what it is, where it begins as a photo does."""
    from classifier.photo.signature import begins_like_photo

    content = read_body(request, settings.max_image_bytes)
    if not content:
        raise _no_photo()
    if not begins_like_photo(content):
        raise _unsupported(request.mimetype, content)
    return content


def _unsupported(mimetype: str, content: bytes = b"") -> UnsupportedMedia:
    remedy = EXAMPLE
    if content.lstrip()[:1] == b"{":
        remedy = "A body in JSON needs -H 'Content-Type: application/json'."
    return UnsupportedMedia(
        f"Expected multipart/form-data, image/*, application/octet-stream or application/json; received "
        f"{mimetype or 'no Content-Type'}{', and no photo in it' if mimetype in SAYS_NOTHING else ''}. {remedy}"
    )


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
        f"Expected a form of at most {body_limit(settings):,} bytes, with {each}, and at most "
        f"{form_parts_limit(settings)} fields; received more. {EXAMPLE}"
    )
