"""Decodes photos that come as text: base64 as programs write it, and the data URLs of browsers."""

from __future__ import annotations

import base64
import binascii
import re
import threading

from classifier.errors import InvalidRequest

ONE_TEXT_AT_A_TIME = threading.Lock()
"""Held while a photo is decoded from text: for a moment it is in memory several times over."""
EXPECTED = 'Expected a photo in base64 such as "/9j/4AAQ…", or a data URL such as "data:image/jpeg;base64,/9j/4AAQ…"'
LONGEST_HEADER = 500
"""Bytes before a data URL's comma."""
_LINE_BREAKS = b"\t\n\v\f\r"
_STANDARD, _URL_SAFE = b"+/", b"-_"


def decode_base64(text: str) -> bytes:
    """Decode a photo: base64 of either alphabet, with or without padding and line breaks, alone or in a data URL.

    A blank inside stays refused: it stands where a form has lost a "+", and nobody knows which of them did.

    Raises:
        InvalidRequest: it is something else.
    """
    try:
        data = text.encode("ascii").strip()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{EXPECTED}; received characters that base64 does not have.") from error
    del text  # which may have as many megabytes as the photo
    if data[:5].lower() == b"data:":
        data = _behind_comma(data)
    if _has_any(data, _LINE_BREAKS + _URL_SAFE):
        mixed = _has_any(data, _STANDARD)  # both alphabets at once, which is refused
        data = data.translate(None if mixed else bytes.maketrans(_URL_SAFE, _STANDARD), _LINE_BREAKS)
    padding = -len(data) % 4
    try:
        return base64.b64decode(data + b"=" * padding if padding else data, validate=True)
    except binascii.Error as error:
        raise InvalidRequest(f"{EXPECTED}; received something else{_hint(data)}.") from error


def photo_in_text(content: bytes) -> bytes | None:
    """Return the photo that a text part of a form is, as it is or in base64; None where it is none."""
    from classifier.photo.signature import begins_like_photo

    if begins_like_photo(content):
        return content
    try:
        with ONE_TEXT_AT_A_TIME:
            photo = decode_base64(content.decode("ascii"))
    except (InvalidRequest, UnicodeDecodeError):
        return None
    return photo if begins_like_photo(photo) else None


def _behind_comma(data: bytes) -> bytes:
    header, comma, rest = data[:LONGEST_HEADER].partition(b",")
    if not comma or not re.search(rb";\s*base64\s*$", header, re.IGNORECASE):
        raise InvalidRequest(f"{EXPECTED}; received a data URL without base64.")
    del rest
    return data[len(header) + 1 :].strip()


def _has_any(data: bytes, characters: bytes) -> bool:
    return any(character in data for character in characters)  # a tenth of the time that a regular expression takes


def _hint(data: bytes) -> str:
    if b" " in data:
        return ' with blanks in it. In a form a "+" is sent as "%2B"'
    return " that is cut short" if len(data.rstrip(b"=")) % 4 == 1 else ""
