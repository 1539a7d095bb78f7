"""Patterns of names: ``**`` for any folders, ``*`` and ``?`` within one, ``[abc]``, ``{jpg,png}``.

They are those of `gcloud storage` (https://cloud.google.com/storage/docs/wildcards). Names are compared in Unicode's
composed form: a pattern finds café however its é was written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from classifier.errors import InvalidRequest

SPECIAL = "*?[{"
_PARTS = re.compile(
    r"\*\*/|\*\*|\*|\?|\[(?P<not>[!^]?)(?P<set>\][^\]]*|[^\]]+)\]|\{(?P<any>[^{}]*)\}|(?P<one>.)", re.DOTALL
)


def is_pattern(text: str) -> bool:
    """Say whether a text has a character that stands for others."""
    return any(character in text for character in SPECIAL)


def literal_prefix(pattern: str) -> str:
    """Return how every name that matches begins, in whichever form of Unicode it is written."""
    found = re.match(r"[^*?\[{\x80-\U0010ffff]*", unicodedata.normalize("NFC", pattern))
    return found[0] if found else ""


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return what says whether a name matches.

    Raises:
        InvalidRequest: a bracket or brace is not closed, or a range ends before it begins.
    """
    try:
        expression = re.compile(_expression(unicodedata.normalize("NFC", pattern)), re.DOTALL)
    except re.error as error:
        raise InvalidRequest(f"Expected a pattern such as **/*.jpg; received {pattern!r}: {error.msg}.") from error
    return lambda name: expression.fullmatch(unicodedata.normalize("NFC", name)) is not None


def _expression(pattern: str) -> str:
    return "".join(_part(found, pattern) for found in _PARTS.finditer(pattern))


def _part(found: re.Match[str], pattern: str) -> str:
    text = found[0]
    fixed = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(text)
    if fixed is not None:
        return fixed
    if found["set"] is not None:
        members = re.sub(r"([\\\[\]^&~|])", r"\\\1", found["set"])
        return f"(?!/)[{'^' if found['not'] else ''}{members}]"
    if found["any"] is not None:
        return f"(?:{'|'.join(_expression(each) for each in found['any'].split(','))})"
    if text in "[{":
        raise InvalidRequest(
            f"Expected a pattern whose brackets and braces are closed; received {pattern!r}. A name that has {text} "
            "itself is matched by ?."
        )
    return re.escape(text)
