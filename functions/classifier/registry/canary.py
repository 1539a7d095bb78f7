"""The rules of a canary: one version at a time, for a share of the callers, beside what production serves."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from classifier.errors import Conflict, InvalidRequest, NotFound, Refused
from classifier.registry.changes import Change
from classifier.registry.channels import (
    CANARY,
    CANARY_ABORT,
    CANARY_PERCENT,
    CANARY_START,
    Canary,
    Channels,
    Pointer,
)
from classifier.registry.fields import now


def check_percent(percent: float) -> None:
    """Refuse a share that is none.

    Raises:
        InvalidRequest: with what it may be.
    """
    if not 0 < percent <= 100:
        raise InvalidRequest(f"Expected a percentage above 0 and up to 100; received {percent:g}.")


def started(channels: Channels, pointer: Pointer, percent: float) -> Change | None:
    """Give a version to a share of the callers; None where it has that already.

    Raises:
        Refused: nothing serves that it could be compared with, or it serves everybody already.
        Conflict: another version is the canary, or the shadow.
    """
    if channels.production is None:
        raise Refused("Expected a version in production beside a canary; there is none. Promote the first one.")
    channels.expect_kept(pointer.version)
    if channels.production.version == pointer.version:
        raise Refused(f"{pointer.version} serves everybody already; a canary is another version.")
    if channels.shadow is not None and channels.shadow.version != pointer.version:
        raise Conflict(
            f"{channels.shadow.version} is the shadow, and an instance holds two models at most. "
            "End it first with `admin_cli shadow stop`."
        )
    current, time = channels.canary, now()
    extra = {"percent": percent}
    if current is None:
        canary = Canary(
            pointer.version, pointer.manifest_sha256, {}, percent, secrets.token_hex(8), since=time, step_since=time
        )
        return Change.pointing(_with(channels, canary), CANARY_START, CANARY, None, canary, extra)
    if current.version != pointer.version:
        raise Conflict(
            f"{current.version} is the canary, at {current.percent:g} %. "
            "End it first with `admin_cli canary abort` or `admin_cli canary promote`."
        )
    if current.percent == percent:
        return None
    # The salt stays: whoever has it keeps it when the share rises.
    canary = replace(current, percent=percent, step_since=time)
    extra |= {"from_percent": current.percent}
    return Change.pointing(_with(channels, canary), CANARY_PERCENT, CANARY, current.version, canary, extra)


def aborted(channels: Channels, version: str | None, figures: Mapping[str, Any]) -> Change:
    """End the canary.

    Raises:
        NotFound: there is none.
        Conflict: it is another version than this one.
    """
    current = expect(channels)
    if version is not None and current.version != version:
        raise Conflict(f"Expected {version} to be the canary; {current.version} is. `admin_cli history` shows who.")
    extra = {"percent": current.percent, **({"figures": dict(figures)} if figures else {})}
    return Change.ending(replace(channels, canary=None), CANARY_ABORT, CANARY, current, extra)


def expect(channels: Channels) -> Canary:
    """Return the canary.

    Raises:
        NotFound: there is none.
    """
    if channels.canary is None:
        raise NotFound("There is no canary. `admin_cli canary start VERSION --percent 10` starts one.")
    return channels.canary


def _with(channels: Channels, canary: Canary) -> Channels:
    # A shadow of the same version ends: it is the canary now.
    return replace(channels, canary=canary, shadow=None)
