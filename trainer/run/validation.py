"""Reads options from plain JSON values, and says which one is not what its declaration asks for."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import MISSING
from typing import Any, Literal

from classifier.errors import InvalidSetting
from classifier.wording import did_you_mean
from trainer.run.declarations import Option, declared


def read_sections(plain: Any, kinds: Mapping[str, type[Any]], *, may_lack: Collection[str] = ()) -> dict[str, Any]:
    """Return the sections of a configuration, each an object of options, from plain JSON values.

    Args:
        plain: what a file holds.
        kinds: the sections' dataclasses, by name; see `trainer.run.declarations`.
        may_lack: sections that may be left out: all of their options are then as declared.

    Raises:
        InvalidSetting: a section or option is missing, unknown or not what it has to be; the message names it.
    """
    if not isinstance(plain, dict):
        raise InvalidSetting(f"Expected an object with {', '.join(kinds)}; received {_shown(plain)}.")
    _require_known("a section", plain, kinds)
    missing = [name for name in kinds if name not in plain and name not in may_lack]
    if missing:
        raise InvalidSetting(f"Expected the sections {', '.join(missing)}; they are missing.")
    return {name: _read_section(name, kind, plain.get(name, {})) for name, kind in kinds.items()}


def _read_section(section: str, kind: type[Any], plain: Any) -> Any:
    if not isinstance(plain, Mapping):
        raise InvalidSetting(f"Expected {section} to be an object; received {_shown(plain)}.")
    known = {each.name: each for each in declared(kind)}
    _require_known(f"an option of {section}", plain, known)
    missing = [each.name for each in known.values() if each.default is MISSING and each.name not in plain]
    if missing:
        raise InvalidSetting(f"Expected {section}.{missing[0]}; it is missing.")
    values = {}
    for name, value in plain.items():
        if not _fits(value, known[name].hint, known[name].option):
            expected = _expected(known[name].hint, known[name].option)
            raise InvalidSetting(f"Expected {section}.{name} to be {expected}; received {_shown(value)}.")
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _fits(value: Any, hint: Any, option: Option) -> bool:
    """Return whether a JSON value is of a type, and its numbers within the option's limits."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return any(_fits(value, each, option) for each in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        few = isinstance(value, list | tuple) and (option.most is None or len(value) <= option.most)
        return few and all(_fits(each, inner[0], option) for each in value)
    if hint in (int, float):
        kinds = (int, float) if hint is float else (int,)
        number = isinstance(value, kinds) and not isinstance(value, bool)
        return number and math.isfinite(value) and option.low <= value <= option.high
    return isinstance(value, hint)


def _expected(hint: Any, option: Option) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return " or ".join(_expected(each, option) for each in inner)
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if origin is tuple:
        return "a list of labels" if inner[0] is str else f"a list of up to {option.most} widths"
    if hint in (int, float):
        what = "a whole number" if hint is int else "a number"
        if math.isfinite(option.high):
            return f"{what} from {option.low:g} to {option.high:.10g}"
        return f"{what} of at least {option.low:g}" if math.isfinite(option.low) else what
    return {str: "a text", bool: "true or false"}.get(hint, "null")


def _require_known(what: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given:
        if name not in known:
            meant = did_you_mean(str(name), known) or f" Expected one of {', '.join(known)}."
            raise InvalidSetting(f"{name!r} is not {what}.{meant}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
