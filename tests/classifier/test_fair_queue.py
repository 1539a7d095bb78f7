"""`classifier.fair_queue`: in order, never for nothing, and what those who are turned away are told is true."""

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest

from classifier import fair_queue
from classifier.errors import Overloaded
from classifier.fair_queue import FairQueue
from classifier.photo.memory import Memory

LONG = 30.0
"""Seconds; a test that has to wait for so long fails."""


def line(total=1, wait=LONG, max_waiting=16):
    return FairQueue(total, wait=wait, max_waiting=max_waiting, busy="All are busy")


def until(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(fair_queue.time, "monotonic", lambda: self.now)

    def use(self, seconds, of):
        with of.lend():
            self.now += seconds


@pytest.fixture
def in_line():
    """Starts threads that ask for units and keep them until they are told; gives what came of each."""
    threads, results, let_go = [], deque(), threading.Event()

    def ask(of, name, units=1):
        def run():
            try:
                with of.lend(units):
                    results.append(name)
                    let_go.wait(LONG)
            except Overloaded as error:
                results.append(error)

        before = of.waiting
        thread = threading.Thread(target=run)
        thread.start()
        threads.append(thread)
        until(lambda: of.waiting > before or not thread.is_alive() or name in results)

    ask.results, ask.let_go = results, let_go.set
    yield ask
    let_go.set()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


def test_first_come_first_served(in_line):
    queue = line()
    with queue.lend():
        for number in range(5):
            in_line(queue, number)
        assert queue.waiting == 5
        in_line.let_go()
    until(lambda: queue.lent == 0 and queue.waiting == 0)
    assert list(in_line.results) == [0, 1, 2, 3, 4]


def test_a_large_request_is_not_overtaken_for_ever(in_line):
    queue = line(total=10)
    with queue.lend(4):
        in_line(queue, "large", 8)
        in_line(queue, "small", 3)
        assert queue.waiting == 2
        in_line.let_go()
    until(lambda: queue.lent == 0 and queue.waiting == 0)
    assert list(in_line.results) == ["large", "small"]


def test_no_more_is_lent_than_there_is():
    queue, held, most, lock = line(total=7), 0, 0, threading.Lock()

    def use(number):
        nonlocal held, most
        units = number % 3 + 1
        with queue.lend(units):
            with lock:
                held += units
                most = max(most, held)
            time.sleep(0.001)
            with lock:
                held -= units

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(200)))
    assert 1 < most <= 7
    assert (queue.lent, queue.waiting) == (0, 0)


def test_one_too_many_is_turned_away_at_once(in_line):
    queue = line(max_waiting=2)
    with queue.lend():
        in_line(queue, 1)
        in_line(queue, 2)
        with (
            pytest.raises(Overloaded, match=r"All are busy, and too many wait already\. Try again in 1 s\."),
            queue.lend(),
        ):
            pytest.fail("three wait")
        assert queue.waiting == 2
        in_line.let_go()


def test_nobody_waits_where_none_may():
    queue = line(max_waiting=0)
    with queue.lend(), pytest.raises(Overloaded), queue.lend():
        pytest.fail("it waited")
    with queue.lend():
        assert queue.lent == 1


def test_a_hopeless_wait_is_refused_with_the_seconds_that_it_would_take(in_line, monkeypatch):
    clock = Clock(monkeypatch)
    queue = line(wait=10.0)
    clock.use(4.0, queue)
    with queue.lend():
        in_line(queue, "in 4 s")
        in_line(queue, "in 8 s")
        with pytest.raises(Overloaded) as caught, queue.lend():
            pytest.fail("12 s are more than 10")
        assert caught.value.retry_after == 12
        in_line.let_go()


def test_several_are_served_at_the_same_time(in_line, monkeypatch):
    clock = Clock(monkeypatch)
    queue = line(total=4, wait=2.9)
    clock.use(4.0, queue)
    with queue.lend(), queue.lend(), queue.lend(), queue.lend():
        in_line(queue, "in 1 s")
        in_line(queue, "in 2 s")
        with pytest.raises(Overloaded) as caught, queue.lend():
            pytest.fail("3 s are more than 2.9")
        assert caught.value.retry_after == 3
        in_line.let_go()


def test_a_use_that_does_not_end_counts_before_it_has_ended(monkeypatch):
    clock = Clock(monkeypatch)
    queue = line(wait=10.0)
    clock.use(0.01, queue)
    with queue.lend():
        clock.now += 500
        with pytest.raises(Overloaded) as caught, queue.lend():
            pytest.fail("it waited for what is stuck")
    assert caught.value.retry_after == 60


def test_it_recovers_after_slow_uses(monkeypatch):
    clock = Clock(monkeypatch)
    queue = line(wait=10.0)
    clock.use(100.0, queue)
    for _ in range(20):
        clock.use(0.1, queue)
    assert queue._one_use() < 2


def test_a_wait_ends_and_leaves_the_line(in_line):
    queue = line(total=10, wait=1.5)
    with queue.lend(5):
        in_line(queue, "large", 9)
        time.sleep(0.7)  # so that its wait ends well before the other's
        in_line(queue, "small", 5)  # fits, and waits for its turn behind the large one
        until(lambda: len(in_line.results) == 2)
        kinds = {type(result) for result in in_line.results}
        assert kinds == {Overloaded, str}
        assert "small" in in_line.results
        in_line.let_go()
    until(lambda: queue.lent == 0 and queue.waiting == 0)


def test_an_error_gives_back_what_was_lent():
    queue = line()
    with pytest.raises(ZeroDivisionError), queue.lend():
        raise ZeroDivisionError
    with queue.lend():
        assert queue.lent == 1


def test_memory_turns_away_as_interpreters_do():
    memory = Memory(1000, wait=LONG, max_waiting=0)
    with memory.lend(900):
        with memory.lend(31):  # a small photo never waits
            pass
        with pytest.raises(Overloaded, match="Other large photos are being decoded"), memory.lend(200):
            pytest.fail("1,100 of 1,000 bytes")
