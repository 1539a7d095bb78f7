"""How often a caller may ask: counters in this instance's memory or in Redis, and what callers are told of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, cast

from classifier.logs import log

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.storage.base import SlidingWindowCounterSupport
    from limits.strategies import RateLimiter

STORE_TIMEOUT = 1.0
"""Seconds that a request waits for Redis to accept a connection, and to answer."""
STORE_BACKOFF = 30.0
"""Seconds that an unreachable Redis is left alone, so that not every request waits for it."""


@dataclass(frozen=True)
class Quota:
    """What one limit leaves to one caller."""

    policy: str
    """The limit's name: as it is set, such as ``60/minute``, unless it was given another."""
    limit: int
    window: int
    """Seconds."""
    remaining: int
    reset: int
    """Whole seconds until more than ``remaining`` are allowed, or as many as were asked for."""
    allowed: bool


class RateLimits:
    """Counts requests, by a sliding window: the last window's count fades out while the present one's grows.

    Two numbers for each caller and limit are kept, however many requests a limit allows. Where the shared store
    cannot be reached, the instance goes on counting alone: a limit that is too generous for a while is better than
    a service that is down, or one without any limit.
    """

    def __init__(self, store: str = "memory://", *, backoff: float = STORE_BACKOFF) -> None:
        """Connects to nothing yet.

        Args:
            store: ``memory://`` or ``redis://host:port/database``.
            backoff: seconds that an unreachable store is left alone.
        """
        self._store = store
        self._backoff = backoff
        self._shared_again = 0.0 if store != "memory://" else math.inf

    def hit(self, policy: str, caller: str, *, name: str = "", cost: int = 1, again: int = 0) -> tuple[Quota, ...]:
        """Count a request; it is allowed if each quota says so, and counted only by those that do.

        Args:
            policy: one or more limits, such as ``5/second,1000/day``.
            caller: whose requests are counted together.
            name: of a policy of one limit.
            cost: as how many requests it counts: all of them, or none where that would be too many.
            again: as how many it would count if it were sent again, which is what a refusal's ``reset`` is about.
        """
        from limits.errors import StorageError

        if time.monotonic() >= self._shared_again:
            try:
                return _hit(self._shared, policy, caller, name, cost, again or cost)
            except StorageError as error:
                self._shared_again = time.monotonic() + self._backoff
                log(
                    "ERROR",
                    f"RATE_LIMIT_STORE cannot be used: this instance counts alone for {self._backoff:g} s.",
                    reason=f"{type(error.storage_error).__name__}: {error.storage_error}",
                )
        return _hit(self._own, policy, caller, name, cost, again or cost)

    @cached_property
    def _own(self) -> RateLimiter:
        return _limiter("memory://")

    @cached_property
    def _shared(self) -> RateLimiter:
        return _limiter(self._store)


def headers(quotas: Iterable[Quota]) -> dict[str, str]:
    """Shape quotas as the fields of draft-ietf-httpapi-ratelimit-headers (from -08 on: RFC 9651 lists)."""
    quotas = tuple(quotas)
    if not quotas:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{quota.policy}";q={quota.limit};w={quota.window}' for quota in quotas),
        "RateLimit": ", ".join(f'"{quota.policy}";r={quota.remaining};t={quota.reset}' for quota in quotas),
    }


def _limiter(store: str) -> RateLimiter:
    from limits.storage import storage_from_string
    from limits.strategies import SlidingWindowCounterRateLimiter

    options: dict[str, Any] = {}
    if store != "memory://":
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        options = {
            "socket_connect_timeout": STORE_TIMEOUT,
            "socket_timeout": STORE_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
        }
    return SlidingWindowCounterRateLimiter(storage_from_string(store, wrap_exceptions=True, **options))


@lru_cache
def _items(policy: str) -> tuple[tuple[str, RateLimitItem], ...]:
    from limits import parse

    return tuple((part, parse(part)) for part in policy.split(","))


def _hit(limiter: RateLimiter, policy: str, caller: str, name: str, cost: int, again: int) -> tuple[Quota, ...]:
    quotas = []
    for part, item in _items(policy):
        allowed = limiter.hit(item, caller, cost=cost)
        stats = limiter.get_window_stats(item, caller)
        quotas.append(
            Quota(
                policy=name or part,
                limit=item.amount,
                window=item.get_expiry(),
                # Never as many as were refused, whatever has faded meanwhile.
                remaining=stats.remaining if allowed else min(stats.remaining, cost - 1),
                reset=max(1, math.ceil(_seconds_until(limiter, item, caller, 1 if allowed else again))),
                allowed=allowed,
            )
        )
        if not allowed:
            break
    return tuple(quotas)


def _seconds_until(limiter: RateLimiter, item: RateLimitItem, caller: str, cost: int) -> float:
    """Return when so many are allowed, which takes longer than for one more; see `RateLimits` on what counts."""
    if cost == 1:
        return limiter.get_window_stats(item, caller).reset_time - time.time()
    window, left = item.get_expiry(), item.amount - cost + 1  # the last window counts in whole requests, rounded down
    storage = cast("SlidingWindowCounterSupport", limiter.storage)
    before, fades_in, now, ends_in = storage.get_sliding_window(item.key_for(caller), window)
    if now < left:
        return fades_in - (left - now) * window / before if before else 0.0
    # The present window has to end first, a window's length before it is forgotten, and to fade in its turn.
    return ends_in - left * window / now
