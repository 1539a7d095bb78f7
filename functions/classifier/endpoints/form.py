"""Reads forms: each part is a photo, or an option beside the photos. What may be either is refused."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from flask import Request
from werkzeug.datastructures import Headers
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from classifier.endpoints.query_string import PARAMETERS
from classifier.endpoints.text_photos import photo_in_text
from classifier.errors import InvalidRequest

EXAMPLE = "With curl: -F image=@photo.jpg"
_NUMBERED = re.compile(r"[\s\d\[\](){}._-]+$")
"""What tells fields of one kind apart: photo1 and photo2, image[] and image[0]."""


class Form(NamedTuple):
    """What a form holds."""

    photos: list[bytes]
    """In the form's order."""
    options: dict[str, str]


class _Part(NamedTuple):
    name: str
    filename: str | None
    content: io.BytesIO


class _Decoder(MultipartDecoder):
    """Reads headers in any encoding: file names come in Latin-1 or Shift-JIS too, and are not used."""

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        return super()._parse_headers(data.decode(errors="replace").encode())


def read_form(request: Request, blocks: Iterable[bytes], *, max_parts: int) -> Form:
    """Read a form's photos and options.

    A part is a photo where it has a file name, whatever its field is called, or where it begins as a photo does, also
    in base64 or as a data URL. All photos have to be in fields of one name.

    Raises:
        InvalidRequest: a broken body, or a part that is neither a photo nor an option, or both.
        RequestEntityTooLarge: more parts than ``max_parts``, or a part's header that has no end.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if not boundary:
        raise InvalidRequest(
            "Expected multipart/form-data with its boundary; received none. Let the client set Content-Type by itself, "
            f"as curl and FormData do. {EXAMPLE}"
        )
    photos: list[tuple[str, bytes]] = []
    options: dict[str, str] = {}
    try:
        decoder = _Decoder(boundary.encode("ascii"), request.max_form_memory_size, max_parts=max_parts)
        parts = list(_parts(decoder, blocks))
    except ValueError as error:
        raise InvalidRequest(
            f"Expected a whole multipart/form-data body; received one that is broken. {EXAMPLE}"
        ) from error
    while parts:
        name, filename, file = parts.pop(0)
        content = file.getvalue()  # which, unlike read, makes no copy
        if name in PARAMETERS:
            options[name] = _option(name, filename, content, known=name in options)
        elif filename or (filename is not None and content):
            photos.append((name, content))
        elif filename is None:
            photos.append((name, _text_photo(name, content)))
        # Else it is what a page's form sends where no file was chosen.
    _require_one_field([name for name, _ in photos])
    return Form([content for _, content in photos], options)


def _parts(decoder: _Decoder, blocks: Iterable[bytes]) -> Iterator[_Part]:
    """Read all parts, in memory: the body is bounded, and a function's /tmp is memory too."""
    part: _Part | None = None
    for block in chain(blocks, [None]):
        decoder.receive_data(block)
        while not isinstance(event := decoder.next_event(), (NeedData, Epilogue)):
            if isinstance(event, (Field, File)):
                part = _Part(event.name or "", event.filename if isinstance(event, File) else None, io.BytesIO())
            elif isinstance(event, Data) and part is not None:
                part.content.write(event.data)
                if not event.more_data:
                    yield part


def _option(name: str, filename: str | None, content: bytes, *, known: bool) -> str:
    if filename is not None:
        raise InvalidRequest(
            f"Expected the option {name} as text; received a file. A photo belongs into the field 'image'. {EXAMPLE}"
        )
    if known:
        raise InvalidRequest(f"Expected {name} once; the form has it several times.")
    try:
        return content.decode().strip()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"Expected {name} as text in UTF-8; received other bytes.") from error


def _text_photo(name: str, content: bytes) -> bytes:
    photo = photo_in_text(content)
    if photo is None:
        raise InvalidRequest(
            f"Expected each photo as a file, and beside it only {', '.join(PARAMETERS)} as text; received other text "
            f"in the field {name!r}. {EXAMPLE} -F top_k=3"
        )
    return photo


def _require_one_field(names: list[str]) -> None:
    kinds = [_NUMBERED.sub("", name) for name in names]
    other = next((name for name, kind in zip(names, kinds, strict=True) if kind != kinds[0]), None)
    if other is not None:
        raise InvalidRequest(
            f"Expected all photos in fields of one name; received files in {names[0]!r} and in {other!r}, and which of "
            f"them to classify is not clear. {EXAMPLE} -F image=@other.jpg"
        )
