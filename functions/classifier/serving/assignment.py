"""Who gets the canary: a salted hash of the caller decides, the same on every instance and at every request."""

from __future__ import annotations

import hashlib

from classifier.registry.channels import Canary

SPAN = 2.0**64


def gets_canary(canary: Canary | None, caller: str | None) -> bool:
    """Say whether a caller is among the canary's.

    The hash is a number that each caller keeps as long as the salt stays: whoever is below a percentage is below every
    higher one too.

    Args:
        canary: what runs; None for none.
        caller: see `access.caller.Caller.key`; None for one that nobody knows, who gets production.
    """
    if canary is None or caller is None:
        return False
    digest = hashlib.blake2b(f"{canary.salt}/{caller}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / SPAN * 100 < canary.percent
