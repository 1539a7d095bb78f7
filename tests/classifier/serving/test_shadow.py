"""The shadow of an instance: what it counts and keeps, that no request waits for it, and when it is given up."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from classifier.registry.rules import Registry
from classifier.serving import golden, shadow
from classifier.serving.instance import Instance
from classifier.storage.local import LocalStore
from classifier.traffic.feedback import Feedback
from tests.support.app_client import client_for, settings_for
from tests.support.bundles import colour_photo
from tests.support.serving import MODEL, damage, publish

GREEN, RED = colour_photo("green"), colour_photo("red")
ROOM = 1 << 20
"""MiB: the process of these tests has other things in its memory."""
LATE = 30.0
"""Seconds after which something does not come any more, also on a machine that has much else to do."""


@pytest.fixture(name="store")
def store_fixture(tmp_path: Path, tiny_bundle: Path, confused_bundle: Path) -> Path:
    """v1 serves and is right; v2, the shadow of every photo, takes green for blue."""
    store = tmp_path / "store"
    publish(store, tiny_bundle)
    publish(store, confused_bundle, promote=False)
    start(store, sample=1)
    return store


def registry(store: Path) -> Registry:
    return Registry(LocalStore(store), MODEL)


def start(store: Path, **options) -> None:
    registry(store).start_shadow("v2", who="tester", reason="", replay=golden.replay, **options)


class Running:
    """An app over an instance that has its shadow loaded."""

    def __init__(self, store: Path, *, loaded: bool = True, **changes) -> None:
        self.instance = Instance(settings_for(store, pointer_ttl=0.0, function_memory=ROOM, **changes))
        self.client = client_for(store, self.instance, **changes)
        end = time.monotonic() + LATE
        while time.monotonic() < end:
            self.client.get("/model")
            self.instance.current()
            if not loaded or self.instance.shadow.loaded or self.instance.shadow.problem:
                return
            time.sleep(0.02)

    def ask(self, content: bytes = GREEN, query: str = "", **options):
        reply = self.client.post(f"/{query}", data=content, content_type="image/png", **options)
        assert reply.status_code == 200, reply.text
        return reply.get_json()

    def settle(self) -> None:
        """Wait until the shadow has done with its photos: it counts one before it keeps it."""
        lane, end = self.instance.shadow, time.monotonic() + LATE
        while lane._photos or lane._at_hand is not None:
            assert time.monotonic() < end, "the shadow does not come to an end"
            time.sleep(0.005)

    def counted(self, photos: int) -> shadow.Row:
        """Return what the shadow has counted once it is so many photos, or it is late."""
        row = shadow.Row()
        end = time.monotonic() + LATE
        while time.monotonic() < end:
            for each in self.instance.shadow.take().values():
                row.add(each)
            if sum(row.shadow[name] for name in ("agreed", "disagreed", "failed", "dropped")) >= photos:
                break
            time.sleep(0.01)
        return row


def test_it_answers_nobody_and_counts_agreement_pairs_and_its_time(store: Path) -> None:
    running = Running(store, stats_every=0.0)
    for content, label in ((GREEN, "green"), (RED, "red"), (GREEN, "green")):
        body = running.ask(content)
        assert (body["label"], body["model"]["version"], body["model"]["channel"]) == (label, "v1", "production")
        running_row = running.counted(1)
        assert running_row.photos == 1
        assert running_row.shadow["agreed"] == (label == "red")
        assert running_row.disagreements() == ([] if label == "red" else [("green", "blue", 1)])
        assert running_row.shadow["shadow"] > 0
        assert running_row.shadow["production"] > 0
        assert sum(running_row.latency) == 1
        assert running_row.requests == 0
    assert running.instance.loads == 2


def test_only_a_sample_is_taken_and_nothing_of_the_cache(store: Path) -> None:
    start(store, sample=0.25)
    running = Running(store, stats_every=0.0, result_cache_bytes=0)
    for _ in range(80):
        running.ask()
        time.sleep(2 * shadow.QUIET)
    row = running.counted(1)
    assert 5 <= row.photos + row.shadow["dropped"] <= 40  # of 80 at a quarter: beyond these once in a million
    start(store, sample=1)
    cached = Running(store, stats_every=0.0, result_cache_bytes=1 << 20)
    for _ in range(5):
        cached.ask()
        time.sleep(2 * shadow.QUIET)
    assert cached.counted(1).photos == 1


def test_photos_that_come_too_fast_are_dropped_and_none_of_them_waits(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on, end = threading.Event(), threading.Event()

    def stuck(*_):
        going_on.set()
        end.wait(20)
        raise ValueError("stuck")

    running = Running(store, stats_every=0.0)
    monkeypatch.setattr(shadow, "predict", stuck)
    running.ask()
    assert going_on.wait(5)
    began = time.monotonic()
    for _ in range(20):
        assert running.ask()["label"] == "green"
    assert time.monotonic() - began < 5
    assert running.counted(16).shadow == {"dropped": 20 - shadow.MOST_WAITING}
    end.set()


def test_it_waits_while_photos_are_classified_but_not_for_ever(store: Path) -> None:
    running = Running(store, stats_every=0.0)
    lane = running.instance.shadow
    with lane.answering():
        running.ask()
        began = time.monotonic()
        assert running.counted(1).photos == 1
        assert time.monotonic() - began >= shadow.PATIENCE / 2
    many = [lane.answering() for _ in range(shadow.available_cpus() + 1)]
    for each in many:
        each.__enter__()
    running.ask()
    time.sleep(2 * shadow.PATIENCE)
    assert lane.take() == {}
    for each in many:
        each.__exit__(None, None, None)
    assert running.counted(1).photos == 1


@pytest.mark.parametrize("fault", ["failing", "slow"])
def test_one_that_fails_or_is_slow_is_given_up_and_reported(
    store: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    running = Running(store, stats_every=3600.0)

    def broken(*_):
        raise ValueError("broken")

    if fault == "failing":
        monkeypatch.setattr(shadow, "predict", broken)
    else:
        monkeypatch.setattr(shadow, "SLOWEST_MS", 0.0)
    for _ in range(shadow.FAULTS):
        assert running.instance.shadow.loaded is not None
        running.ask()
        assert running.counted(1).shadow["failed"] == (fault == "failing")
    for _ in range(3):
        assert running.ask()["label"] == "green"
        running.instance.current()
        time.sleep(0.05)
    assert running.instance.shadow.loaded is None
    assert running.instance.shadow.problem == ("v2", fault)
    assert running.instance.loads == 2  # it is not tried again until the channel has another version
    registry(store).stop_shadow(who="tester", reason="")
    for _ in range(5):
        running.ask()
        time.sleep(0.05)
    assert running.instance.shadow.problem is None


def test_one_that_cannot_be_loaded_or_has_no_room_is_reported(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classifier.serving.beside.memory_needed", lambda *_: 1 << 50)
    running = Running(store)
    assert running.instance.shadow.problem == ("v2", "memory")
    monkeypatch.undo()
    damage(store, "v2")
    running = Running(store)
    assert running.instance.shadow.problem == ("v2", "corrupt")
    assert running.ask()["label"] == "green"


def test_photos_are_kept_only_where_they_disagree_with_consent_and_as_asked(store: Path) -> None:
    running = Running(store, stats_every=0.0)
    desk = Feedback(LocalStore(store), MODEL)

    def kept(content: bytes, query: str) -> int:
        running.ask(content, query)
        assert running.counted(1).photos == 1
        running.settle()
        return len(desk.cases())

    assert kept(GREEN, "?consent=1") == 0
    start(store, sample=1, keep_photos=True)
    Running.__init__(running, store, stats_every=0.0)
    assert kept(GREEN, "") == 0
    assert kept(GREEN, "?consent=0") == 0
    assert kept(RED, "?consent=1") == 0
    assert kept(GREEN, "?consent=1") == 1
    assert kept(GREEN, "?consent=true") == 1
    (case,) = desk.cases()
    assert desk.photo(case) == GREEN
    assert case.is_open
    assert (case.correction.seen.label, case.correction.shadow.label) == ("green", "blue")
    assert (case.correction.seen.version, case.correction.shadow.version) == ("v1", "v2")
    Running.__init__(running, store, stats_every=0.0, feedback_limit="")
    assert desk.forget(case.correction.id) == [case.correction.id]
    assert kept(GREEN, "?consent=1") == 0


def test_a_shadow_that_is_promoted_serves_without_being_loaded_again(store: Path) -> None:
    running = Running(store)
    registry(store).promote("v2", who="tester", reason="", replay=golden.replay)
    end = time.monotonic() + 10
    while running.ask()["model"]["version"] != "v2" and time.monotonic() < end:
        time.sleep(0.02)
    body = running.ask()
    assert (body["model"]["version"], body["model"]["channel"], body["label"]) == ("v2", "production", "blue")
    assert running.instance.loads == 2
    assert running.instance.shadow.loaded is None


def test_a_photo_that_takes_much_memory_to_decode_is_dropped(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "DECODE_BYTES", 10)
    running = Running(store, stats_every=0.0)
    running.ask()
    assert running.counted(1).shadow == {"dropped": 1}


def test_a_shadow_without_numbers_for_a_photo_has_failed_and_goes_on(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(store, stats_every=0.0)
    pool = running.instance.shadow.loaded.pool
    whole = type(pool._idle[0]).run

    def without_numbers(model, image):
        output = whole(model, image)
        return (
            output._replace(probabilities=output.probabilities * float("nan")) if model in pool._idle_once else output
        )

    pool._idle_once = list(pool._idle)
    monkeypatch.setattr(type(pool._idle[0]), "run", without_numbers)
    running.ask()
    assert running.counted(1).shadow == {"failed": 1}
    monkeypatch.undo()
    running.ask()
    assert running.counted(1).photos == 1


def test_one_that_never_returns_is_given_up_and_the_next_one_has_its_turn(
    store: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on, end = threading.Event(), threading.Event()
    whole = shadow.predict

    def stuck(loaded, *arguments):
        if loaded.pointer.version != "v2":
            return whole(loaded, *arguments)
        going_on.set()
        assert end.wait(60)
        return whole(loaded, *arguments)

    running = Running(store, stats_every=0.0)
    lane = running.instance.shadow
    monkeypatch.setattr(shadow, "predict", stuck)
    monkeypatch.setattr(shadow, "STUCK_REQUESTS", 3)
    running.ask()
    assert going_on.wait(LATE)
    thread = lane._thread
    for _ in range(4):
        running.ask()
    assert lane.loaded is not None, "many requests alone are no reason"
    monkeypatch.setattr(shadow, "STUCK_AFTER", 0.0)
    assert running.ask()["label"] == "green"
    assert (lane.loaded, lane.problem) == (None, ("v2", "stuck"))
    assert running.counted(5).shadow == {"failed": 1, "dropped": shadow.MOST_WAITING}

    monkeypatch.setattr(shadow, "STUCK_AFTER", 120.0)
    publish(store, tiny_bundle, promote=False)
    registry(store).stop_shadow(who="tester", reason="")
    registry(store).start_shadow("v3", who="tester", reason="", replay=golden.replay, sample=1)
    until = time.monotonic() + LATE
    while lane.loaded is None and time.monotonic() < until:
        running.instance.current()
        time.sleep(0.02)
    running.ask()
    assert running.counted(1).photos == 1
    end.set()  # the other comes back after all, and nobody waits for what it says
    thread.join(LATE)
    assert not thread.is_alive()
    assert lane.take() == {} and lane.loaded is not None
