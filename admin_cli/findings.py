"""What doctor finds: a line each."""

from __future__ import annotations

from typing import Literal, NamedTuple

Verdict = Literal["ok", "look", "wrong"]


class Finding(NamedTuple):
    """What was looked at, and what to do."""

    what: str
    verdict: Verdict
    found: str
    remedy: str = ""
