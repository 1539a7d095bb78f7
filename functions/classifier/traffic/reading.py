"""Reads the counts of a stretch of time from the store, and folds spans into hours and hours into days."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from classifier.errors import Conflict, NotFound, PreconditionFailed
from classifier.storage.protocol import MUST_NOT_EXIST, ObjectStore, StoredObject
from classifier.traffic.counts import Counts, Span, fold, total
from classifier.traffic.writer import STATS_FOLDER

PARALLEL = 64
HOUR_IS_OVER_AFTER = timedelta(minutes=15)
"""An instance that counts has written by then, unless it was stopped."""
DAY_IS_OVER_AFTER = timedelta(hours=48)
"""Until then its hours can be told apart."""
FEW_DAYS = 40
ATTEMPTS = 8
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})(?:/(\d{2})(?:/([^/]+))?)?\.json")


class Place(NamedTuple):
    """Where an object of counts stands in time."""

    date: str
    hour: str | None
    """None for a whole day."""
    raw: bool
    """Whether an instance wrote it."""
    stored: StoredObject

    @property
    def start(self) -> datetime:
        """When its hour or day begins."""
        return datetime.fromisoformat(self.date).replace(tzinfo=UTC) + timedelta(hours=int(self.hour or 0))

    @property
    def end(self) -> datetime:
        """When its hour or day is over."""
        return self.start + (timedelta(days=1) if self.hour is None else timedelta(hours=1))


@dataclass(frozen=True)
class Statistics:
    """What was counted in a stretch of time."""

    total: Counts
    hours: list[tuple[datetime, Counts]]
    """Each hour's, oldest first, without those in which nothing was counted and those of folded days."""
    objects: int
    """How many were read."""


@dataclass(frozen=True)
class Compacted:
    """What a compaction did."""

    spans: int
    """That are in an hour now."""
    hours: int
    """That are in a day now."""


def read(store: ObjectStore, model: str, since: datetime, until: datetime) -> Statistics:
    """Read what was counted between two times, to the hour (to the day where days were folded).

    Raises:
        InvalidManifest: an object cannot be used; says which.
        Unavailable: the store cannot be reached.
    """
    places = [each for each in _places(store, model, since, until) if each.end > since and each.start <= until]
    with ThreadPoolExecutor(PARALLEL) as pool:
        spans = [span for span in pool.map(lambda place: _span(store, place), places) if span is not None]
    hours: dict[datetime, list[Span]] = {}
    for place, span in spans:
        if place.hour is not None:
            hours.setdefault(place.start, []).append(span)
    inside = {part for _, span in spans for part in span.folded}
    counted = [(start, total([span for span in hours[start] if span.id not in inside])) for start in sorted(hours)]
    return Statistics(total(span for _, span in spans), counted, len(spans))


def read_since(store: ObjectStore, model: str, since: datetime, until: datetime) -> Counts:
    """Read what began after a moment, to the span of one instance.

    What was folded counts where all of it began after that moment. Raises as `read` does.
    """
    places = [each for each in _places(store, model, since, until) if each.end > since]
    with ThreadPoolExecutor(PARALLEL) as pool:
        spans = [found[1] for found in pool.map(lambda place: _span(store, place), places) if found]
    return total(span for span in spans if datetime.fromisoformat(span.began) >= since)


def compact(store: ObjectStore, model: str, at: datetime) -> Compacted:
    """Fold the spans of hours that are over, and the hours of days that are, and delete what was folded.

    Killed at any moment it leaves counts that read as before: a fold names its parts, and a part that is still there
    is not counted twice. Whoever may create, replace and delete under ``stats/`` may run it, several at once too.

    Raises:
        Conflict: others folded the same faster, again and again.
    """
    prefix = f"{model}/{STATS_FOLDER}/"
    places = _without_leftovers(store, list(_places(store, model, datetime(1, 1, 1, tzinfo=UTC), at)))
    spans = hours = 0
    raw: dict[tuple[str, str], list[Place]] = {}
    for place in places:
        if place.raw and place.hour and place.end + HOUR_IS_OVER_AFTER <= at:
            raw.setdefault((place.date, place.hour), []).append(place)
    for (date, hour), parts in sorted(raw.items()):
        spans += _fold(store, f"{prefix}{date}/{hour}.json", f"{date}T{hour}", parts)
    waiting = {place.date for place in places if place.raw and place.end + HOUR_IS_OVER_AFTER > at}
    for date in sorted({place.date for place in places if place.hour} - waiting):
        if datetime.fromisoformat(date).replace(tzinfo=UTC) + timedelta(days=1) + DAY_IS_OVER_AFTER > at:
            continue
        left = [each for each in map(_place_in(prefix), store.list(f"{prefix}{date}/")) if each]
        if any(each.raw for each in left):
            continue  # one came late: its hour first
        hours += _fold(store, f"{prefix}{date}.json", date, left)
    return Compacted(spans, hours)


def _without_leftovers(store: ObjectStore, places: list[Place]) -> list[Place]:
    """Delete hours that are in their day already: whoever folded them was killed before. Return the other places."""
    days = {place.date: place for place in places if place.hour is None}
    left = []
    for place in places:
        if place.hour is not None and not place.raw and place.date in days:
            day, hour = _span(store, days[place.date]), _span(store, place)
            if day and hour and hour[1].id in day[1].folded:
                store.delete(place.stored.name)
                continue
        left.append(place)
    return left


def _fold(store: ObjectStore, name: str, identity: str, places: list[Place]) -> int:
    """Add objects to a fold by compare-and-swap, then delete them; return how many."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        parts = [found[1] for found in pool.map(lambda place: _span(store, place), places) if found]
        for number in range(ATTEMPTS):
            try:
                content = store.read(name)
                former, generation = Span.from_json(content.data, name), content.generation
            except NotFound:
                former, generation = None, MUST_NOT_EXIST
            known = former.folded if former else ()
            if all(part.id in known for part in parts):
                break
            # A day is to know this hour's fold from the one that a late span makes of it.
            folded = fold(f"{identity}-{uuid.uuid4().hex[:8]}", former, parts)
            try:
                store.write(name, folded.to_json(), if_generation=generation, content_type="application/json")
                break
            except PreconditionFailed:
                if number == ATTEMPTS - 1:
                    raise Conflict(f"Others folded {name} first, {ATTEMPTS} times. Try again.") from None
        list(pool.map(lambda place: store.delete(place.stored.name), places))
    return len(places)


def _places(store: ObjectStore, model: str, since: datetime, until: datetime) -> Iterator[Place]:
    prefix = f"{model}/{STATS_FOLDER}/"
    days = (until.date() - since.date()).days + 1
    if days <= FEW_DAYS:
        wanted: Iterable[str] = [f"{since.date() + timedelta(days=number):%Y-%m-%d}" for number in range(days)]
    else:
        wanted = [""]
    with ThreadPoolExecutor(PARALLEL) as pool:
        listed = list(pool.map(lambda each: list(store.list(prefix + each)), wanted))
    place = _place_in(prefix)
    for stored in (item for items in listed for item in items):
        if found := place(stored):
            yield found


def _place_in(prefix: str) -> Callable[[StoredObject], Place | None]:
    def place(stored: StoredObject) -> Place | None:
        found = _NAME.fullmatch(stored.name.removeprefix(prefix))
        return Place(found[1], found[2], found[3] is not None, stored) if found else None

    return place


def _span(store: ObjectStore, place: Place) -> tuple[Place, Span] | None:
    """Read an object; None where it was folded and deleted since it was listed."""
    try:
        return place, Span.from_json(store.read(place.stored.name).data, place.stored.name)
    except NotFound:
        return None
