"""Keeps statistics few: folds spans into hours and hours into days, and packs what is not folded yet or long ago."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from classifier.errors import Conflict, NotFound, PreconditionFailed
from classifier.storage.protocol import MUST_NOT_EXIST, ObjectStore
from classifier.traffic.reading import PARALLEL, Pack, Place, contents, folder_of, listed, packed
from classifier.traffic.spans import Span, fold

HOUR_IS_OVER_AFTER = timedelta(minutes=15)
"""An instance that counts has written by then, unless it was stopped."""
DAY_IS_OVER_AFTER = timedelta(hours=48)
"""Until then its hours can be told apart."""
MONTH_IS_OVER_AFTER = timedelta(days=31)
FEWEST_PACKED, MOST_PACKED = 8, 500
"""Objects that a pack holds."""
ATTEMPTS = 8
EVER = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Compacted:
    """What a compaction did."""

    spans: int
    """That are in an hour now."""
    hours: int
    """That are in a day now."""
    packed: int = 0
    """Objects that are in a pack now."""


def compact(store: ObjectStore, model: str, at: datetime) -> Compacted:
    """Fold the spans of hours that are over, and the hours of days that are, and delete what was folded.

    What is many all the same is packed, which loses nothing: the spans of hours that are not over, and the days of
    months that are long over.

    Killed at any moment it leaves counts that read as before: a fold names its parts, a pack holds them, and a part
    that is still there is not counted twice. Whoever may create, replace and delete under ``stats/`` may run it,
    several at once too.

    Raises:
        Conflict: others folded the same faster, again and again.
    """
    return _Compaction(store, model, at).run()


class _Compaction:
    def __init__(self, store: ObjectStore, model: str, at: datetime) -> None:
        self._store, self._model, self._at = store, model, at
        self._prefix = folder_of(model)

    def run(self) -> Compacted:
        found = list(listed(self._store, self._model, EVER, self._at))
        packs = [each for each in found if isinstance(each, Pack)]
        places = self._without_leftovers([each for each in found if isinstance(each, Place)], packs)
        over: dict[tuple[str, str], list[Place | Pack]] = {}
        running: dict[tuple[str, str], list[Place]] = {}
        for place in places:
            if place.raw and self._is_over(place):
                over.setdefault((place.date, str(place.hour)), []).append(place)
            elif place.raw:
                running.setdefault((place.date, str(place.hour)), []).append(place)
        for pack in packs:
            if pack.day is not None and self._is_over(pack.place):
                over.setdefault((pack.place.date, str(pack.hour)), []).append(pack)
        spans = sum(self._fold(f"{date}/{hour}", f"{date}T{hour}", parts) for (date, hour), parts in over.items())
        hours = sum(self._fold_day(date) for date in sorted({each.date for each in places if each.hour}))
        count = sum(self._pack(f"{date}/{hour}", parts) for (date, hour), parts in running.items())
        months: dict[str, list[Place]] = {}
        for place in places:
            if place.hour is None and place.date[:7] < f"{self._at - MONTH_IS_OVER_AFTER:%Y-%m}":
                months.setdefault(place.date[:7], []).append(place)
        count += sum(self._pack(month, days) for month, days in months.items())
        return Compacted(spans, hours, count)

    def _is_over(self, place: Place) -> bool:
        return place.end + HOUR_IS_OVER_AFTER <= self._at

    def _without_leftovers(self, places: list[Place], packs: list[Pack]) -> list[Place]:
        """Delete what is in its day or its pack already: whoever put it there was killed. Return the other places."""
        days = {place.date: place for place in places if place.hour is None}
        hours = [place for place in places if place.hour is not None and not place.raw and place.date in days]
        months = {date[:7] for date in days}
        held = {
            (place, span.id)
            for place, span in self._read([each for each in packs if each.day is None and each.month in months])
        }
        doubtful = {*hours, *(days[place.date] for place in hours), *(place for place, _ in held)} & set(places)
        spans = dict(self._read(doubtful))
        gone = {place for place, span in spans.items() if (place, span.id) in held}
        gone |= {
            each
            for each in hours
            if each in spans and (day := spans.get(days[each.date])) and spans[each].id in day.folded
        }
        self._delete(gone)
        return [each for each in places if each not in gone]

    def _fold_day(self, date: str) -> int:
        """Fold a day's hours if it is over; return how many."""
        start = datetime.fromisoformat(date).replace(tzinfo=UTC)
        if start + timedelta(days=1) + DAY_IS_OVER_AFTER > self._at:
            return 0
        left = [each for each in listed(self._store, self._model, start, start) if each.hour is not None]
        hours = [each for each in left if isinstance(each, Place) and not each.raw]
        if len(hours) < len(left):
            return 0  # one came late: its hour first
        return self._fold(date, date, hours)

    def _fold(self, name: str, identity: str, places: Sequence[Place | Pack]) -> int:
        """Add objects to a fold by compare-and-swap, then delete them; return how many counts there were."""
        path = f"{self._prefix}{name}.json"
        parts = [span for _, span in self._read(places)]
        for number in range(ATTEMPTS):
            try:
                content = self._store.read(path)
                former, generation = Span.from_json(content.data, path), content.generation
            except NotFound:
                former, generation = None, MUST_NOT_EXIST
            known = former.folded if former else ()
            if all(part.id in known for part in parts):
                break
            # A day is to know this hour's fold from the one that a late span makes of it.
            folded = fold(f"{identity}-{uuid.uuid4().hex[:8]}", former, parts)
            try:
                self._store.write(path, folded.to_json(), if_generation=generation, content_type="application/json")
                break
            except PreconditionFailed:
                if number == ATTEMPTS - 1:
                    raise Conflict(f"Others folded {path} first, {ATTEMPTS} times. Try again.") from None
        self._delete(places)
        return len({part.id for part in parts})

    def _pack(self, folder: str, places: Sequence[Place]) -> int:
        """Put objects into packs, then delete them; return how many. Few stay as they are."""
        count = 0
        for first in range(0, len(places), MOST_PACKED):
            some = places[first : first + MOST_PACKED]
            if len(some) < FEWEST_PACKED:
                continue
            parts = {place.name: span for place, span in self._read(some)}
            if parts:  # another has not packed them meanwhile
                path = f"{self._prefix}{folder}/{uuid.uuid4().hex}.pack"
                self._store.write(path, packed(parts), if_generation=MUST_NOT_EXIST, content_type="application/json")
                self._delete(some)
            count += len(parts)
        return count

    def _read(self, objects: Iterable[Place | Pack]) -> list[tuple[Place, Span]]:
        return [each for parts in contents(self._store, self._model, objects) for each in parts]

    def _delete(self, objects: Iterable[Place | Pack]) -> None:
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(lambda each: self._store.delete(self._prefix + each.name), objects))
