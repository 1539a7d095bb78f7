"""Words of messages that several programs need: numbers with their nouns, what came, and what was probably meant."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

MOST = 3
"""Names that a suggestion has."""


def plural(count: int, noun: str, nouns: str = "") -> str:
    """Return a number with its noun: "1 photo", "2,000 photos", "1 class".

    Args:
        count: how many.
        noun: of one.
        nouns: of several, where that is not the noun with an s, or with es behind s, x and sh.
    """
    ending = "es" if noun.endswith(("s", "x", "sh")) else "s"
    return f"{count:,} {noun if count == 1 else nouns or noun + ending}"


def meant(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that somebody probably meant, at most `MOST`; none where none is near.

    Case, `-` and `_` do not matter. Those that have the name as a word go first, as "head_epochs" has "epochs"; else it
    is the one that is spelt nearly so.
    """
    plain = {_plain(each): each for each in known}
    asked = _plain(name)
    words = [each for each in plain if asked and f"_{asked}_" in f"_{each}_"]
    return [plain[each] for each in words[:MOST] or difflib.get_close_matches(asked, plain, n=1)]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the one known name that somebody probably meant; None where none is near."""
    return next(iter(meant(name, known)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean X?" to put behind a message; "" where no known name is near."""
    *others, last = meant(name, known) or [""]
    first = ", ".join(others)
    return f" Did you mean {f'{first} or ' if first else ''}{last}?" if last else ""


def shown(value: Any) -> str:
    """Return a value as JSON, cut short: what was received."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").strip("_")
