"""Reads the counts of a stretch of time from the store: spans, hours and days, each alone or in a pack."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from classifier.errors import NotFound
from classifier.registry import fields
from classifier.storage.protocol import ObjectStore
from classifier.traffic.counts import Counts
from classifier.traffic.spans import SCHEMA_VERSION, Span, total
from classifier.traffic.writer import STATS_FOLDER

PARALLEL = 64
FEW_DAYS = 40
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})(?:/(\d{2})(?:/([^/]+))?)?\.json")
_PACK = re.compile(r"(\d{4}-\d{2})(?:-(\d{2})/(\d{2}))?/[^/]+\.pack")


class Place(NamedTuple):
    """Where counts stand in time."""

    name: str
    """Under the folder of statistics."""
    date: str
    hour: str | None
    """None for a whole day."""
    raw: bool
    """Whether an instance wrote it."""

    @property
    def start(self) -> datetime:
        """When its hour or day begins."""
        return datetime.fromisoformat(self.date).replace(tzinfo=UTC) + timedelta(hours=int(self.hour or 0))

    @property
    def end(self) -> datetime:
        """When its hour or day is over."""
        return self.start + (timedelta(days=1) if self.hour is None else timedelta(hours=1))

    def within(self, since: datetime, until: datetime) -> bool:
        """Say whether it has anything of a stretch of time."""
        return self.end > since and self.start <= until


class Pack(NamedTuple):
    """An object that holds several, so that they are read at once. It never changes: it is made, and deleted."""

    name: str
    month: str
    day: str | None
    """None for a pack of days."""
    hour: str | None

    def within(self, since: datetime, until: datetime) -> bool:
        """Say whether it may have anything of a stretch of time."""
        if self.day is None:
            return f"{since:%Y-%m}" <= self.month <= f"{until:%Y-%m}"
        return self.place.within(since, until)

    @property
    def place(self) -> Place:
        """Where a pack of spans stands in time."""
        return Place(self.name, f"{self.month}-{self.day}", self.hour, raw=True)


@dataclass(frozen=True)
class Statistics:
    """What was counted in a stretch of time."""

    total: Counts
    hours: list[tuple[datetime, Counts]]
    """Each hour's, oldest first, without those in which nothing was counted and those of folded days."""
    objects: int
    """How many were read."""


def read(store: ObjectStore, model: str, since: datetime, until: datetime) -> Statistics:
    """Read what was counted between two times, to the hour (to the day where days were folded).

    Raises:
        InvalidManifest: an object cannot be used; says which.
        Unavailable: the store cannot be reached.
    """
    found = [each for each in listed(store, model, since, until) if each.within(since, until)]
    read = contents(store, model, found)
    spans = [(place, span) for parts in read for place, span in parts if place.within(since, until)]
    hours: dict[datetime, list[Span]] = {}
    for place, span in spans:
        if place.hour is not None:
            hours.setdefault(place.start, []).append(span)
    inside = {part for _, span in spans for part in span.folded}
    counted = [(start, total([span for span in hours[start] if span.id not in inside])) for start in sorted(hours)]
    return Statistics(total(span for _, span in spans), counted, sum(1 for parts in read if parts))


def read_since(store: ObjectStore, model: str, since: datetime, until: datetime) -> Counts:
    """Read what began after a moment, to the span of one instance.

    What was folded counts where all of it began after that moment. Raises as `read` does.
    """
    found = [each for each in listed(store, model, since, until) if each.within(since, until)]
    spans = [span for parts in contents(store, model, found) for place, span in parts if place.end > since]
    return total(span for span in spans if datetime.fromisoformat(span.began) >= since)


def listed(store: ObjectStore, model: str, since: datetime, until: datetime) -> Iterator[Place | Pack]:
    """Yield what there is of a stretch of time, and more."""
    prefix = folder_of(model)
    days = (until.date() - since.date()).days + 1
    if days <= FEW_DAYS:
        dates = [since.date() + timedelta(days=number) for number in range(days)]
        wanted: Iterable[str] = [*map(date.isoformat, dates), *sorted({f"{each:%Y-%m}/" for each in dates})]
    else:
        wanted = [""]
    with ThreadPoolExecutor(PARALLEL) as pool:
        listings = list(pool.map(lambda each: list(store.list(prefix + each)), wanted))
    for stored in (item for items in listings for item in items):
        name = stored.name.removeprefix(prefix)
        if place := place_of(name):
            yield place
        elif found := _PACK.fullmatch(name):
            yield Pack(name, found[1], found[2], found[3])


def contents(store: ObjectStore, model: str, objects: Iterable[Place | Pack]) -> list[list[tuple[Place, Span]]]:
    """Read objects, many at once; one that was folded or packed and deleted since it was listed holds nothing."""
    prefix = folder_of(model)

    def content(each: Place | Pack) -> list[tuple[Place, Span]]:
        try:
            data = store.read(prefix + each.name).data
        except NotFound:
            return []
        if isinstance(each, Place):
            return [(each, Span.from_json(data, prefix + each.name))]
        return list(_unpacked(data, prefix + each.name))

    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(content, objects))


def packed(parts: Mapping[str, Span]) -> bytes:
    """Write objects, by their names under the folder of statistics, as one."""
    held = {name: span.to_dict() for name, span in parts.items()}
    return fields.write_json({"schema_version": SCHEMA_VERSION, "objects": held}, "statistics")


def _unpacked(data: bytes, name: str) -> Iterator[tuple[Place, Span]]:
    """Yield what `packed` wrote. Raises `InvalidManifest`, with the object's name."""
    top = fields.read_object(data, name)
    version = top.integer("schema_version", low=1, high=1 << 31)
    if version > SCHEMA_VERSION:
        raise top.wrong("schema_version", f"{SCHEMA_VERSION} or less (a newer release wrote it)", version)
    held = top.object("objects")
    for each in held.names():
        place = place_of(each)
        if place is None:
            raise held.wrong(each, "under the name of an object of counts", each)
        yield place, Span.read(held.object(each))


def place_of(name: str) -> Place | None:
    """Return where counts stand in time by their name; None for what are none."""
    found = _NAME.fullmatch(name)
    return Place(name, found[1], found[2], found[3] is not None) if found else None


def folder_of(model: str) -> str:
    """Return what the names of a model's statistics begin with."""
    return f"{model}/{STATS_FOLDER}/"
