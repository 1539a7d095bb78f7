"""The rules of what production serves: promotions, rollbacks, and the gate between versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from classifier.errors import Conflict, Refused
from classifier.registry.changes import Change
from classifier.registry.channels import GATE, PRODUCTION, PROMOTE, Channels, Pointer
from classifier.registry.gate import Gate


class JudgedOther(Exception):
    """Production or the gate has changed since a version was compared with it."""


def same(one: Pointer | None, other: Pointer | None) -> bool:
    """Say whether two channels serve the same bytes."""
    return (one and (one.version, one.manifest_sha256)) == (other and (other.version, other.manifest_sha256))


def expect_serving(channels: Channels, expect: str | None) -> None:
    """Do nothing where production serves a version, or none is expected. Raises `Conflict`."""
    serving = channels.production.version if channels.production else None
    if expect is not None and serving != expect:
        raise Conflict(
            f"Expected production to serve {expect}; it serves {serving or 'nothing'}. "
            "`admin_cli history` shows who changed it."
        )


def promoted(
    channels: Channels, target: Pointer, expect: str | None, judged: Channels | None, reasons: list[str]
) -> Change | None:
    """Make a version serve; None where it does already.

    Args:
        channels: as they are.
        target: the version.
        expect: see `Registry.promote`.
        judged: the state in which it was judged; None where it was not.
        reasons: what is passed over by force.

    Raises:
        Conflict: production serves another version than `expect`.
        JudgedOther: it has to be judged again.
    """
    expect_serving(channels, expect)
    if same(channels.production, target):
        return None
    if judged and not (same(channels.production, judged.production) and channels.gate == judged.gate):
        raise JudgedOther
    return pointed(channels, target, PROMOTE, {"forced": reasons} if reasons else {})


def pointed(channels: Channels, pointer: Pointer, action: str, extra: Mapping[str, Any] | None = None) -> Change:
    """Return the change that makes a version serve, by a promotion or a rollback. Raises `NotFound`: it was pruned."""
    channels.expect_kept(pointer.version)
    # A canary or a shadow of the same version ends: it is in production now.
    return Change(
        replace(
            channels,
            production=pointer,
            canary=None if same(channels.canary, pointer) else channels.canary,
            shadow=None if same(channels.shadow, pointer) else channels.shadow,
        ),
        action,
        PRODUCTION,
        channels.production.version if channels.production else None,
        pointer.version,
        pointer.manifest_sha256,
        extra or {},
    )


def gated(channels: Channels, gate: Gate) -> Change | None:
    """Return the change to other thresholds; None where they are these."""
    changes = channels.gate.differences(gate)
    if not changes:
        return None
    before, after = (", ".join(f"{each[0]}={each[side]}" for each in changes) for side in (1, 2))
    return Change(replace(channels, gate=gate), GATE, GATE, before, after)


def rollback_target(channels: Channels, to: str | None) -> str:
    """Return the version to go back to: one that production served and that was not rolled back since.

    Raises:
        Refused: there is none, or `to` is not one.
    """
    pruned = channels.pruned()
    *earlier, _ = [version for version in channels.served() if version not in pruned] or [""]
    if not earlier:
        raise Refused(
            "Expected an earlier version in production to roll back to; there is none. "
            "`admin_cli promote` makes any published version serve."
        )
    if to is None:
        return earlier[-1]
    serving = channels.production.version if channels.production else None
    if to not in earlier or to == serving:
        choices = list(dict.fromkeys(version for version in earlier if version != serving))
        raise Refused(
            f"Expected one of {', '.join(choices)} to roll back to, which served before; received {to!r}. "
            "`admin_cli promote` makes any published version serve."
        )
    return to
