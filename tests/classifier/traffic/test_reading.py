"""Counts over every store: written by instances, read by the hour, folded into hours and days, killed half way."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta

from classifier.errors import Unavailable
from classifier.storage.local import LocalStore
from classifier.traffic import reading
from classifier.traffic.counts import Counts, Span
from classifier.traffic.reading import compact, read
from classifier.traffic.writer import MOST_WAITING, Writer

START = datetime(2026, 3, 1, tzinfo=UTC)
AT = START + timedelta(days=5)


def put(store, when: datetime, requests: int = 1, version: str = "v1") -> None:
    counts = Counts()
    for _ in range(requests):
        counts.row(version, "production").add_request(200, 12.0)
    text = when.isoformat().replace("+00:00", "Z")
    identity = f"{random.getrandbits(64):016x}"
    span = Span(identity, text, text, counts)
    store.write(f"food/stats/{when:%Y-%m-%d}/{when:%H}/{when:%H%M%S}-{identity}.json", span.to_json(), if_generation=0)


def requests_of(counts: Counts) -> int:
    return sum(row.requests for row in counts.rows.values())


def seen(store, since: datetime = START, until: datetime = AT) -> int:
    return requests_of(read(store, "food", since, until).total)


def names(store) -> list[str]:
    return [item.name.removeprefix("food/stats/") for item in store.list()]


def test_what_instances_wrote_is_read_by_the_hour(store):
    put(store, START + timedelta(hours=1, minutes=5), 3)
    put(store, START + timedelta(hours=1, minutes=50), 2)
    put(store, START + timedelta(hours=4), 10)
    put(store, START + timedelta(days=1, hours=2), 7, "v2")
    store.write("food/stats/notes.txt", b"not ours")
    found = read(store, "food", START, AT)
    assert requests_of(found.total) == 22
    assert [(each.hour, requests_of(counts)) for each, counts in found.hours] == [(1, 5), (4, 10), (2, 7)]
    assert seen(store, START + timedelta(hours=3)) == 17
    assert seen(store, START, START + timedelta(hours=2)) == 5
    assert seen(store, START + timedelta(days=3)) == 0


def test_folding_changes_no_figure_and_leaves_one_object_a_day(store):
    for hour in (1, 5, 9):
        for minute in (3, 4, 5):
            put(store, START + timedelta(hours=hour, minutes=minute), minute)
    put(store, AT - timedelta(minutes=5), 100)
    before = read(store, "food", START, AT)
    done = compact(store, "food", START + timedelta(hours=12))
    assert (done.spans, done.hours) == (9, 0)
    assert names(store)[:3] == ["2026-03-01/01.json", "2026-03-01/05.json", "2026-03-01/09.json"]
    assert read(store, "food", START, AT).total == before.total
    assert read(store, "food", START, AT).hours == before.hours
    assert compact(store, "food", AT).hours == 3
    assert [name for name in names(store) if name.startswith("2026-03-01")] == ["2026-03-01.json"]
    assert read(store, "food", START, AT).total == before.total
    assert compact(store, "food", AT) == reading.Compacted(0, 0)
    # One that comes late: its hour and its day take it in.
    put(store, START + timedelta(hours=5, minutes=59), 1000)
    assert seen(store) == requests_of(before.total) + 1000
    compact(store, "food", AT)
    assert [name for name in names(store) if name.startswith("2026-03-01")] == ["2026-03-01.json"]
    assert seen(store) == requests_of(before.total) + 1000


def test_a_compaction_that_is_killed_at_any_write_reads_as_before(local_store, monkeypatch):
    for hour in (1, 2):
        for minute in (3, 4):
            put(local_store, START + timedelta(hours=hour, minutes=minute), 10 * hour + minute)
    expected = seen(local_store)
    steps = 0

    class Killed(Exception):
        pass

    for method in ("write", "delete"):
        original = getattr(LocalStore, method)

        def step(self, *arguments, original=original, **options):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return original(self, *arguments, **options)

        monkeypatch.setattr(LocalStore, method, step)
    while True:
        left = steps
        steps = min(steps + 1, 3)  # one more write or delete each time, then three at a time to the end
        try:
            compact(local_store, "food", AT)
        except Killed:
            left = 10**6
            assert seen(local_store) == expected
            continue
        break
    left = 10**6
    assert seen(local_store) == expected
    assert names(local_store) == ["2026-03-01.json"]


def test_an_hour_that_its_day_has_already_is_not_folded_once_more(local_store):
    put(local_store, START + timedelta(hours=1), 5)
    compact(local_store, "food", START + timedelta(hours=3))
    hour = local_store.read("food/stats/2026-03-01/01.json").data
    compact(local_store, "food", AT)
    local_store.write("food/stats/2026-03-01/01.json", hour)  # as if the deletion had not happened
    put(local_store, START + timedelta(hours=1, minutes=1), 7)
    assert seen(local_store) == 12
    compact(local_store, "food", AT)
    assert seen(local_store) == 12
    assert names(local_store) == ["2026-03-01.json"]


def test_an_instance_writes_at_most_once_in_its_time_and_loses_nothing(store):
    writer = Writer(lambda: store, "food", every=0.3)
    began = time.monotonic()
    written = 0
    while time.monotonic() - began < 1.2:
        with writer.counting() as counts:
            counts.row("v1", "production").add_request(200, 5.0)
            written += 1
        writer.write_when_due()
        time.sleep(0.01)
    writer.close()
    objects = [name for name in names(store) if name.count("/") == 2]
    assert 2 <= len(objects) <= 5
    now = datetime.now(UTC)
    assert seen(store, now - timedelta(hours=1), now + timedelta(hours=1)) == written


def test_a_store_that_fails_or_hangs_costs_a_request_only_a_moment(local_store, monkeypatch):
    failing = True
    original = LocalStore.write

    def write(self, *arguments, **options):
        if failing:
            time.sleep(1.0)
            raise Unavailable("gone")
        return original(self, *arguments, **options)

    monkeypatch.setattr(LocalStore, "write", write)
    writer = Writer(lambda: local_store, "food", every=0.01)
    longest = 0.0
    for _ in range(20):
        with writer.counting() as counts:
            counts.row("v1", "production").add_request(200, 5.0)
        began = time.monotonic()
        writer.write_when_due()
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.02)
    assert longest < 0.6
    failing = False
    time.sleep(1.1)
    writer.close()
    now = datetime.now(UTC)
    assert seen(local_store, now - timedelta(hours=1), now + timedelta(hours=1)) == 20


def test_a_write_whose_answer_was_lost_counts_once(local_store, monkeypatch):
    original = LocalStore.write
    lost = [True]

    def write(self, *arguments, **options):
        done = original(self, *arguments, **options)
        if lost.pop() if lost else False:
            raise Unavailable("the answer was lost")
        return done

    monkeypatch.setattr(LocalStore, "write", write)
    writer = Writer(lambda: local_store, "food", every=100)
    with writer.counting() as counts:
        counts.row("v1", "production").add_request(200, 5.0)
    writer.close()
    writer.close()
    now = datetime.now(UTC)
    assert seen(local_store, now - timedelta(hours=1), now + timedelta(hours=1)) == 1


def test_what_a_store_never_takes_is_given_up_in_the_end_and_that_is_logged(monkeypatch, capsys):
    def gone():
        raise Unavailable("gone")

    writer = Writer(gone, "food", every=100)
    for _ in range(MOST_WAITING + 2):
        with writer.counting() as counts:
            counts.row("v1", "production").add_request(200, 5.0)
        writer.close()
    assert len(writer._waiting) == MOST_WAITING
    assert "Statistics were lost" in capsys.readouterr().out


def test_nothing_is_written_where_nothing_was_counted(store):
    writer = Writer(lambda: store, "food", every=100)
    writer.write_when_due()
    writer.close()
    assert names(store) == []
