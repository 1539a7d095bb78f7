"""Reads bodies in JSON: one large value, the photo, and options, each as the query of `predict` would have it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from classifier.endpoints.query_string import PARAMETERS
from classifier.errors import InvalidRequest
from classifier.serving.query import VIEWS

MAX_JSON_PARTS = 1000
"""How many values JSON may hold, about: millions of small ones take thirty times the memory of their text."""
LONGEST_SHOWN = 80
_INT64 = ("type.googleapis.com/google.protobuf.Int64Value", "type.googleapis.com/google.protobuf.UInt64Value")
_EXPECTED = {
    "gradcam": "true, false or a label",
    "gradcam_format": "a string",
    "gradcam_size": "a whole number",
    "top_k": "a whole number",
    "tta": "true, false, mirror, crops or all",
    "consent": "true or false",
    "model": "a string",
}


def parse_json(content: bytes) -> Any:
    """Parse a body whose one large value is a photo.

    Raises:
        InvalidRequest: it is not JSON, has a member twice, or has too many values.
    """
    if sum(map(content.count, (b"[", b"{", b","))) > MAX_JSON_PARTS:
        raise InvalidRequest(f"Expected JSON with a photo in base64; received more than {MAX_JSON_PARTS:,} values.")
    try:
        return json.loads(content, object_pairs_hook=_members)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be decoded"
        raise InvalidRequest(f"Expected a body that is JSON; {reason}.") from error


def options_in(members: Mapping[str, Any]) -> dict[str, str]:
    """Return the options among a JSON object's members, as text; one that is null has its default.

    Raises:
        InvalidRequest: a value of another type.
    """
    given = {name: members[name] for name in PARAMETERS if members.get(name) is not None}
    return {name: _text(name, _unwrapped(value)) for name, value in given.items()}


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(
            f"Expected each member of JSON once; received {twice!r} {names.count(twice)} times. Several photos can be "
            "sent as multipart/form-data."
        )
    return members


def _text(name: str, value: object) -> str:
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if name in ("top_k", "gradcam_size"):
        if number is not None and number % 1 == 0:  # also 3.0: there are languages that know no other numbers
            return str(int(number))
    elif isinstance(value, str) and (name not in ("tta", "consent") or (name == "tta" and value in VIEWS)):
        return value
    elif name not in ("gradcam_format", "model") and value in (False, True):  # 0 and 1 too
        return "1" if value else "0"
    shown = json.dumps(value)
    shown = shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}…"
    raise InvalidRequest(f"Expected {name} to be {_EXPECTED[name]}; received {shown}.")


def _unwrapped(value: object) -> object:
    """Undo what the SDKs of phones make of a 64-bit number, because JavaScript has none."""
    if isinstance(value, Mapping) and value.get("@type") in _INT64:
        number = value.get("value")
        if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) <= 20:
            return int(number)
    return value
