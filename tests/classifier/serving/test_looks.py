"""Who waits for a look at the pointer: nobody while the instance is busy, the first requests after a quiet time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from classifier.serving import looks
from classifier.serving.looks import Looks

TTL = 1.0
NIGHT = 8 * 3600.0


class Clock:
    """A clock that runs, and can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(looks, "now", clock)
    return clock


class Pointer:
    """What a look looks at, and how long it takes for it."""

    def __init__(self) -> None:
        self.version = self.seen = 1
        self.looks = 0
        self.goes_on = threading.Event()
        self.goes_on.set()

    def look(self) -> None:
        read = self.version
        self.looks += 1
        self.goes_on.wait(20)
        self.seen = read


def seconds_of(looks_of: Looks) -> float:
    began = time.monotonic()
    looks_of.look_when_due()
    return time.monotonic() - began


def test_nobody_looks_before_it_is_time(clock: Clock) -> None:
    pointer = Pointer()
    made = Looks(pointer.look, TTL)
    made.have_looked()
    made.look_when_due()
    clock.ahead = TTL / 2
    made.look_when_due()
    assert pointer.looks == 0 and not made.is_due()


def test_a_busy_instance_waits_for_no_look(clock: Clock) -> None:
    pointer = Pointer()
    pointer.goes_on.clear()
    made = Looks(pointer.look, TTL)
    made.have_looked()
    clock.ahead = looks.QUIET_AT_LEAST - TTL
    assert max(seconds_of(made) for _ in range(5)) < looks.LOOK_WITHIN / 2
    pointer.goes_on.set()
    assert pointer.looks == 1


@pytest.mark.parametrize(("ttl", "quiet"), [(TTL, looks.QUIET_AT_LEAST), (60.0, 600.0)])
def test_after_a_quiet_time_all_wait_for_one_look(clock: Clock, ttl: float, quiet: float) -> None:
    pointer = Pointer()
    made = Looks(pointer.look, ttl)
    made.have_looked()
    pointer.version = 2
    clock.ahead = quiet

    def seen() -> int:
        made.look_when_due()
        return pointer.seen

    with ThreadPoolExecutor(8) as requests:
        assert set(requests.map(lambda _: seen(), range(8))) == {2}
    assert pointer.looks == 1


def test_a_look_that_was_stopped_in_the_middle_is_not_believed(clock: Clock) -> None:
    pointer = Pointer()
    made = Looks(pointer.look, TTL)
    made.have_looked()
    pointer.goes_on.clear()
    clock.ahead = 2 * TTL
    made.look_when_due()
    while not pointer.looks:  # it has read the pointer, and then the CPU is taken away
        time.sleep(0.001)
    pointer.version = 2
    clock.ahead += NIGHT
    threading.Timer(0.05, pointer.goes_on.set).start()
    made.look_when_due()
    assert (pointer.seen, pointer.looks) == (2, 2)


def test_a_look_that_does_not_end_is_waited_for_once(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "LOOK_WITHIN", 0.2)
    pointer = Pointer()
    pointer.goes_on.clear()
    made = Looks(pointer.look, TTL)
    made.have_looked()
    clock.ahead = NIGHT
    assert 0.2 <= seconds_of(made) < 1.0
    assert max(seconds_of(made) for _ in range(5)) < 0.1
    assert (pointer.seen, pointer.looks) == (1, 1)
    pointer.goes_on.set()
