"""The rules of a shadow: one version at a time, which classifies a sample of the photos too and answers nobody."""

from __future__ import annotations

from dataclasses import replace

from classifier.errors import Conflict, InvalidRequest, NotFound, Refused
from classifier.registry.changes import Change
from classifier.registry.channels import (
    SHADOW,
    SHADOW_CHANGE,
    SHADOW_START,
    SHADOW_STOP,
    Channels,
    Pointer,
    Shadow,
)
from classifier.registry.fields import now


def check_sample(sample: float) -> None:
    """Refuse a share that is none.

    Raises:
        InvalidRequest: with what it may be.
    """
    if not 0 < sample <= 1:
        raise InvalidRequest(f"Expected a share of the photos above 0 and up to 1, such as 0.1; received {sample:g}.")


def started(channels: Channels, pointer: Pointer, sample: float, *, keep_photos: bool) -> Change | None:
    """Let a version classify a sample of production's photos; None where it does that already.

    Raises:
        Refused: nothing serves that it could be compared with, or it serves everybody already.
        Conflict: another version is the shadow, or one is the canary.
    """
    if channels.production is None:
        raise Refused("Expected a version in production beside a shadow; there is none. Promote the first one.")
    channels.expect_kept(pointer.version)
    if channels.production.version == pointer.version:
        raise Refused(f"{pointer.version} serves everybody already; a shadow is another version.")
    if channels.canary is not None:
        raise Conflict(
            f"{channels.canary.version} is the canary, and an instance holds two models at most. "
            "End it first with `admin_cli canary abort` or `admin_cli canary promote`."
        )
    current = channels.shadow
    extra = {"sample": sample, "keep_photos": keep_photos}
    if current is None:
        shadow = Shadow(pointer.version, pointer.manifest_sha256, {}, sample, keep_photos, now())
        return Change.pointing(replace(channels, shadow=shadow), SHADOW_START, SHADOW, None, shadow, extra)
    if current.version != pointer.version:
        raise Conflict(f"{current.version} is the shadow. End it first with `admin_cli shadow stop`.")
    if (current.sample, current.keep_photos) == (sample, keep_photos):
        return None
    shadow = replace(current, sample=sample, keep_photos=keep_photos)
    extra |= {"from_sample": current.sample}
    return Change.pointing(replace(channels, shadow=shadow), SHADOW_CHANGE, SHADOW, current.version, shadow, extra)


def stopped(channels: Channels) -> Change:
    """End the shadow.

    Raises:
        NotFound: there is none.
    """
    current = expect(channels)
    extra = {"sample": current.sample}
    return Change.ending(replace(channels, shadow=None), SHADOW_STOP, SHADOW, current, extra)


def expect(channels: Channels) -> Shadow:
    """Return the shadow.

    Raises:
        NotFound: there is none.
    """
    if channels.shadow is None:
        raise NotFound("There is no shadow. `admin_cli shadow start VERSION --sample 0.1` starts one.")
    return channels.shadow
