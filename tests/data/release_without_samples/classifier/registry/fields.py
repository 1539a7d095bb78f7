"""Checked reading of JSON documents: each value by its field's name, each fault as `InvalidManifest` with that name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from classifier.errors import InvalidManifest

_REQUIRED: Any = object()


def now(timespec: str = "seconds") -> str:
    """Return the time as it is stored: RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def read_object(data: bytes, document: str) -> Object:
    """Parse a document whose top level is an object; `document` names it in messages.

    Raises:
        InvalidManifest: it is not that; `field` is the document's name.
    """
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_constant)
        # A lone surrogate and 1e999 can be read, but not written again.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidManifest(
            f"Expected {document} to be JSON; received {_shown(data)}: {error}.", field=document
        ) from error
    if not isinstance(value, dict):
        raise InvalidManifest(f"Expected {document} to be a JSON object; received {_shown(value)}.", field=document)
    return Object(document, "", value)


def write_json(value: Mapping[str, Any], document: str) -> bytes:
    """Write a document so that equal values give equal bytes and a person can read it.

    Raises:
        InvalidManifest: a value that JSON cannot hold; `field` is the document's name.
    """
    try:
        return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (ValueError, TypeError) as error:
        raise InvalidManifest(
            f"Expected {document} to hold text, finite numbers, lists and objects; {error}.", field=document
        ) from error


class Object:
    """One JSON object of a document. It remembers what was asked for, so that `rest` is what nobody knows."""

    def __init__(self, document: str, path: str, values: Mapping[str, Any]) -> None:
        self._document = document
        self._path = path
        self._values = values
        self._known: set[str] = set()

    def wrong(self, name: str, expected: str, received: object) -> InvalidManifest:
        """Return the error to raise for the field `name`."""
        path = f"{self._path}{name}"
        return InvalidManifest(
            f"Expected {path} in {self._document} to be {expected}; received {_shown(received)}.", field=path
        )

    def names(self) -> list[str]:
        """Return the names of all fields, in the document's order."""
        return list(self._values)

    def rest(self) -> dict[str, Any]:
        """Return the fields that were not asked for."""
        return {name: value for name, value in self._values.items() if name not in self._known}

    def text(self, name: str, *, default: str = _REQUIRED, empty: bool = False) -> str:
        """Return a string, which may be empty only where that is said."""
        value = self._get(name, default)
        if not isinstance(value, str) or not (value or empty):
            raise self.wrong(name, "a string" if empty else "a string that is not empty", value)
        return value

    def text_or_none(self, name: str) -> str | None:
        """Return a string, or None where it is null or missing."""
        return None if self._get(name, None) is None else self.text(name)

    def texts(self, name: str) -> list[str]:
        """Return a list of strings that are not empty."""
        values = self._list(name, _REQUIRED)
        for index, value in enumerate(values):
            if not isinstance(value, str) or not value:
                raise self.wrong(f"{name}.{index}", "a string that is not empty", value)
        return values

    def integer(self, name: str, *, low: int, high: int) -> int:
        """Return a whole number, both ends included."""
        value = self._get(name, _REQUIRED)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(name, f"a whole number from {low} to {high}", value)
        return value

    def boolean(self, name: str) -> bool:
        """Return true or false."""
        value = self._get(name, _REQUIRED)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false", value)
        return value

    def number(self, name: str, *, low: float, high: float, default: float = _REQUIRED) -> float:
        """Return a number, both ends included."""
        return self._number(name, self._get(name, default), low, high)

    def numbers(self, name: str, *, low: float, high: float) -> Iterator[float]:
        """Yield a list's numbers, both ends included."""
        for index, value in enumerate(self._list(name, _REQUIRED)):
            yield self._number(f"{name}.{index}", value, low, high)

    def sha256(self, name: str) -> str:
        """Return a SHA-256 in lowercase hexadecimal."""
        value = self._get(name, _REQUIRED)
        if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
            raise self.wrong(name, "64 lowercase hexadecimal digits", value)
        return value

    def time(self, name: str) -> str:
        """Return a time as it is written: RFC 3339, UTC."""
        value = self._get(name, _REQUIRED)
        try:
            offset = datetime.fromisoformat(value).utcoffset()
        except (ValueError, TypeError):
            offset = None
        if offset != timedelta(0):
            raise self.wrong(name, 'a time in UTC such as "2026-01-31T12:00:00Z"', value)
        return str(value)

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object of any content; empty where it is missing."""
        value = self._get(name, {})
        if not isinstance(value, dict):
            raise self.wrong(name, "an object", value)
        return value

    def object(self, name: str, *, default: Mapping[str, Any] = _REQUIRED) -> Object:
        """Return an object whose fields are to be read."""
        return self._object(name, self._get(name, default))

    def object_or_none(self, name: str) -> Object | None:
        """Return an object whose fields are to be read, or None where it is null or missing."""
        return None if self._get(name, None) is None else self.object(name)

    def objects(self, name: str, *, start: int = 0) -> Iterator[Object]:
        """Yield a list's objects from `start` on; none where it is missing."""
        for index, value in enumerate(self._list(name, [])[start:], start):
            yield self._object(f"{name}.{index}", value)

    def values(self, name: str) -> list[Any]:
        """Return a list of any content, which nobody has checked; empty where it is missing."""
        return self._list(name, [])

    def _get(self, name: str, default: Any) -> Any:
        self._known.add(name)
        value = self._values.get(name, default)
        if value is _REQUIRED:
            raise self.wrong(name, "there", _REQUIRED)
        return value

    def _list(self, name: str, default: Any) -> list[Any]:
        value = self._get(name, default)
        if not isinstance(value, list):
            raise self.wrong(name, "a list", value)
        return value

    def _object(self, name: str, value: Any) -> Object:
        if not isinstance(value, Mapping):
            raise self.wrong(name, "an object", value)
        return Object(self._document, f"{self._path}{name}.", value)

    def _number(self, name: str, value: Any, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise self.wrong(name, f"a number from {low} to {high}", value)
        return float(value)


def _shown(value: object) -> str:
    """Show a value in a message, at a length that a person reads."""
    if value is _REQUIRED:
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that is not finite"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
