"""Counts over every store: written by instances, read by the hour, folded into hours and days, killed half way."""

from __future__ import annotations

import json
import random
import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from classifier.errors import InvalidManifest, Unavailable
from classifier.storage.local import LocalStore
from classifier.traffic.compaction import Compacted, compact
from classifier.traffic.counts import Counts
from classifier.traffic.reading import read, read_since
from classifier.traffic.spans import Span
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
    assert compact(store, "food", AT) == Compacted(0, 0)
    # One that comes late: its hour and its day take it in.
    put(store, START + timedelta(hours=5, minutes=59), 1000)
    assert seen(store) == requests_of(before.total) + 1000
    compact(store, "food", AT)
    assert [name for name in names(store) if name.startswith("2026-03-01")] == ["2026-03-01.json"]
    assert seen(store) == requests_of(before.total) + 1000


@pytest.mark.parametrize("days", [1, 10])
def test_a_compaction_that_is_killed_at_any_write_reads_as_before(local_store, monkeypatch, days):
    at = AT if days == 1 else START + timedelta(days=100)
    for hour in (1, 2):
        for minute in (3, 4):
            put(local_store, START + timedelta(hours=hour, minutes=minute), 10 * hour + minute)
    for day in range(1, days):
        put(local_store, START + timedelta(days=day), 100 * day)
    if days > 1:
        for minute in range(10):
            put(local_store, at - timedelta(minutes=minute + 1), minute + 1)
    expected = seen(local_store, until=at)
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
            compact(local_store, "food", at)
        except Killed:
            left = 10**6
            assert seen(local_store, until=at) == expected
            continue
        break
    left = 10**6
    assert seen(local_store, until=at) == expected
    if days == 1:
        assert names(local_store) == ["2026-03-01.json"]
    else:
        compact(local_store, "food", at)  # packs the days that the last one folded
        assert seen(local_store, until=at) == expected
        # Of a pack whose maker was killed some spans may be left beside it, until their hour is folded.
        assert {re.sub(r"[-/].*", "", name[5:]) for name in names(local_store)} == {"03", "06"}
        assert sum(name.startswith("2026-03") for name in names(local_store)) == 1


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


def test_an_hour_that_is_not_over_is_packed_and_each_span_still_told_apart(store):
    at = START + timedelta(hours=6, minutes=10)
    for minute in range(30):
        put(store, START + timedelta(hours=5, minutes=30 + minute), 1)
    for minute in range(10):
        put(store, START + timedelta(hours=6, minutes=minute), 2)
    before = read(store, "food", START, at)
    assert compact(store, "food", at) == Compacted(spans=0, hours=0, packed=40)
    packs = [name for name in names(store) if name.endswith(".pack")]
    assert names(store) == packs
    assert [name[:14] for name in packs] == ["2026-03-01/05/", "2026-03-01/06/"]
    after = read(store, "food", START, at)
    assert (after.total, after.hours, after.objects) == (before.total, before.hours, 2)
    since = START + timedelta(hours=5, minutes=50)
    assert requests_of(read_since(store, "food", since, at)) == 10 + 20
    # When they are over they become hours, with what came after the packs.
    put(store, START + timedelta(hours=6, minutes=30), 100)
    assert compact(store, "food", START + timedelta(hours=8)).spans == 41
    assert names(store) == ["2026-03-01/05.json", "2026-03-01/06.json"]
    assert seen(store) == 30 + 20 + 100


def test_days_long_ago_are_packed_as_they_are(local_store):
    for day in range(50):
        put(local_store, START + timedelta(days=day, hours=3), day + 1)
    at = START + timedelta(days=73)  # the 13th of May: days of April may still be looked at one by one
    compact(local_store, "food", at)
    before = read(local_store, "food", START, at)
    assert compact(local_store, "food", at).packed == 31
    assert sorted({name[:8] for name in names(local_store)}) == ["2026-03/", "2026-04-"]
    after = read(local_store, "food", START, at)
    assert after.total == before.total
    assert (before.objects, after.objects) == (50, 20)
    assert seen(local_store, START + timedelta(days=10), START + timedelta(days=11, hours=-1)) == 11
    # One whose deletion did not happen counts once, and is deleted; one that comes late is counted.
    (pack,) = [name for name in names(local_store) if name.endswith(".pack")]
    held = json.loads(local_store.read(f"food/stats/{pack}").data)["objects"]["2026-03-05.json"]
    local_store.write("food/stats/2026-03-05.json", json.dumps(held).encode())
    put(local_store, START + timedelta(days=6, hours=1), 1000)
    assert seen(local_store, until=at) == requests_of(before.total) + 1000
    compact(local_store, "food", at)
    assert seen(local_store, until=at) == requests_of(before.total) + 1000
    assert [name for name in names(local_store) if name.startswith("2026-03")] == ["2026-03-07.json", pack]


def test_a_pack_that_cannot_be_used_is_told(local_store):
    local_store.write("food/stats/2026-03-01/05/0a.pack", b'{"schema_version": 1, "objects": {"notes.txt": {}}}')
    with pytest.raises(InvalidManifest, match=r"notes\.txt in food/stats/2026-03-01/05/0a\.pack"):
        seen(local_store)
    local_store.write("food/stats/2026-03-01/05/0a.pack", b'{"schema_version": 2}')
    with pytest.raises(InvalidManifest, match="a newer release"):
        seen(local_store)


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
