"""How often a caller may ask: counters in this instance's memory or in Redis, and what callers are told of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from classifier.logs import log

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import RateLimiter

STORE_TIMEOUT = 1.0
"""Seconds that a request waits for Redis to accept a connection, and to answer."""
STORE_REST = 30.0
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
    """Whole seconds until more than ``remaining`` are allowed."""
    allowed: bool


class RateLimits:
    """Counts requests, by a sliding window: the last window's count fades out while the present one's grows.

    Two numbers for each caller and limit are kept, however many requests a limit allows. Where the shared store
    cannot be reached, the instance goes on counting alone: a limit that is too generous for a while is better than
    a service that is down, or one without any limit.
    """

    def __init__(self, store: str = "memory://", *, rest: float = STORE_REST) -> None:
        """Connects to nothing yet.

        Args:
            store: ``memory://`` or ``redis://host:port/database``.
            rest: seconds that an unreachable store is left alone.
        """
        self._store = store
        self._rest = rest
        self._shared_again = 0.0 if store != "memory://" else math.inf

    def hit(self, policy: str, caller: str, *, name: str = "") -> tuple[Quota, ...]:
        """Count one request; it is allowed if each quota says so, and counted only by those that do.

        Args:
            policy: one or more limits, such as ``5/second,1000/day``.
            caller: whose requests are counted together.
            name: of a policy of one limit.
        """
        from limits.errors import StorageError

        if time.monotonic() >= self._shared_again:
            try:
                return _hit(self._shared, policy, caller, name)
            except StorageError as error:
                self._shared_again = time.monotonic() + self._rest
                log(
                    "ERROR",
                    f"RATE_LIMIT_STORE cannot be used: this instance counts alone for {self._rest:g} s.",
                    reason=f"{type(error.storage_error).__name__}: {error.storage_error}",
                )
        return _hit(self._own, policy, caller, name)

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


def _hit(limiter: RateLimiter, policy: str, caller: str, name: str) -> tuple[Quota, ...]:
    quotas = []
    for part, item in _items(policy):
        allowed = limiter.hit(item, caller)
        stats = limiter.get_window_stats(item, caller)
        quotas.append(
            Quota(
                policy=name or part,
                limit=item.amount,
                window=item.get_expiry(),
                remaining=stats.remaining if allowed else 0,
                reset=max(1, math.ceil(stats.reset_time - time.time())),
                allowed=allowed,
            )
        )
        if not allowed:
            break
    return tuple(quotas)
