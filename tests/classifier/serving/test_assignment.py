"""Who gets the canary, over ten thousand simulated callers."""

from __future__ import annotations

import math

import pytest

from classifier.registry.channels import Canary
from classifier.serving.assignment import gets_canary

CALLERS = [f"user/{number}" for number in range(5000)] + [f"address/10.0.{n // 256}.{n % 256}" for n in range(5000)]


def canary(percent: float, salt: str = "5a17") -> Canary:
    return Canary("v8", "0" * 64, {}, percent, salt)


@pytest.mark.parametrize("percent", [0.5, 1, 10, 25, 50, 90])
@pytest.mark.parametrize("salt", ["5a17", "0", "another"])
def test_the_share_is_the_percentage_within_statistical_error(percent, salt):
    found = sum(gets_canary(canary(percent, salt), caller) for caller in CALLERS) / len(CALLERS)
    error = math.sqrt(percent / 100 * (1 - percent / 100) / len(CALLERS))
    assert abs(found - percent / 100) < 4 * error


def test_nobody_moves_back_when_the_percentage_rises():
    before: set[str] = set()
    for percent in (1, 5, 10, 25, 50, 75, 100):
        having = {caller for caller in CALLERS if gets_canary(canary(percent), caller)}
        assert before <= having
        before = having
    assert len(before) == len(CALLERS)


def test_another_canary_draws_others():
    one, other = (
        {caller for caller in CALLERS if gets_canary(canary(10, salt), caller)} for salt in ("5a17", "another")
    )
    assert len(one & other) / len(one) < 0.2


def test_whom_nobody_knows_gets_production():
    assert not gets_canary(canary(100), None)
    assert not gets_canary(None, "user/1")
    assert not gets_canary(canary(0), "user/1")
