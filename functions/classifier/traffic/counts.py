"""Counts of requests that can be added up in any order: sums, and histograms with fixed buckets. Nobody is in them."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from classifier.registry import fields

CONFIDENCE_BUCKETS = 20
"""Of equal width, from 0 to 1."""
LATENCY_EDGES = (
    5,
    10,
    15,
    20,
    30,
    40,
    50,
    75,
    100,
    150,
    200,
    300,
    400,
    500,
    750,
    1000,
    1500,
    2000,
    3000,
    5000,
    10000,
    30000,
)
"""Milliseconds; a bucket holds its upper edge, and one more holds what is longer."""
MOST_LABELS = 5000
MOST_PAIRS = 1000
SHADOW_COUNTS = ("agreed", "disagreed", "failed", "dropped", "production", "shadow")
OTHERS = ""
"""Under which labels count that are more than `MOST_LABELS`."""


class Kind(NamedTuple):
    """What requests are counted apart by."""

    version: str
    """"" where none answered."""
    channel: str
    """ "production", "canary" or "shadow"; "" where none answered."""


@dataclass
class Row:
    """The requests that one version answered in one channel."""

    requests: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    """By HTTP status."""
    photos: int = 0
    """That got a prediction."""
    labels: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    cache_hits: int = 0
    confidence: list[int] = field(default_factory=lambda: [0] * CONFIDENCE_BUCKETS)
    """Of the top label, by bucket."""
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_EDGES) + 1))
    """Of the requests, by bucket."""
    shadow: Counter[str] = field(default_factory=Counter)
    """Of a shadow, whose row has no requests: how often it "agreed" or "disagreed" with production, "failed", or was
    "dropped" because requests came first; the microseconds of "production" and of the "shadow" for the photos that both
    classified; and, as a JSON array of two labels, what production and it said where they disagreed."""

    @property
    def errors(self) -> int:
        """Requests that the service failed: 5xx."""
        return sum(count for status, count in self.statuses.items() if status.startswith("5"))

    @property
    def unknown_share(self) -> float:
        """Photos told as unknown, as a share."""
        return self.unknown / self.photos if self.photos else 0.0

    @property
    def mean_confidence(self) -> float:
        """Mean of the buckets' middles."""
        return sum(count * (number + 0.5) for number, count in enumerate(self.confidence)) / (
            CONFIDENCE_BUCKETS * max(1, sum(self.confidence))
        )

    def add_request(self, status: int, milliseconds: float) -> None:
        """Count a request and how long it took."""
        self.requests += 1
        self.statuses[str(status)] += 1
        self.latency[bisect_left(LATENCY_EDGES, milliseconds)] += 1

    def add_photo(self, label: str, confidence: float, *, unknown: bool, cached: bool) -> None:
        """Count a prediction."""
        self.photos += 1
        self.labels[label if label in self.labels or len(self.labels) < MOST_LABELS else OTHERS] += 1
        self.unknown += unknown
        self.cache_hits += cached
        self.confidence[min(CONFIDENCE_BUCKETS - 1, int(confidence * CONFIDENCE_BUCKETS))] += 1

    def add_shadow(self, said: str, label: str, milliseconds: float, production_milliseconds: float) -> None:
        """Count what a shadow made of a photo, besides `add_photo`.

        Args:
            said: production's label.
            label: the shadow's.
            milliseconds: of processor time that the shadow took to decode and classify it.
            production_milliseconds: that production took for the same.
        """
        self.latency[bisect_left(LATENCY_EDGES, milliseconds)] += 1
        self.shadow["agreed" if label == said else "disagreed"] += 1
        self.shadow["shadow"] += round(milliseconds * 1000)
        self.shadow["production"] += round(production_milliseconds * 1000)
        if label != said:
            pair = _pair(said, label)
            self.shadow[pair if pair in self.shadow or len(self.shadow) < MOST_PAIRS else _pair("", "")] += 1

    def disagreements(self) -> list[tuple[str, str, int]]:
        """Return production's label, the shadow's and how often, the most frequent first; ("", "", n) for the rest."""
        pairs = [(*_labels(name), count) for name, count in self.shadow.items() if name not in SHADOW_COUNTS]
        return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))

    def add(self, other: Row) -> None:
        """Add another row's counts."""
        self.requests += other.requests
        self.photos += other.photos
        self.unknown += other.unknown
        self.cache_hits += other.cache_hits
        self.statuses.update(other.statuses)
        self.labels.update(other.labels)
        self.shadow.update(other.shadow)
        self.confidence = [one + two for one, two in zip(self.confidence, other.confidence, strict=True)]
        self.latency = [one + two for one, two in zip(self.latency, other.latency, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is stored."""
        plain = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}
        return {name: value for name, value in plain.items() if name != "shadow" or value}

    @classmethod
    def read(cls, entry: fields.Object) -> Row:
        """Read what `to_dict` wrote. Raises `InvalidManifest`."""
        return cls(
            requests=_count(entry, "requests"),
            statuses=_counter(entry, "statuses"),
            photos=_count(entry, "photos"),
            labels=_counter(entry, "labels"),
            unknown=_count(entry, "unknown"),
            cache_hits=_count(entry, "cache_hits"),
            confidence=_histogram(entry, "confidence", CONFIDENCE_BUCKETS),
            latency=_histogram(entry, "latency", len(LATENCY_EDGES) + 1),
            shadow=_counter(entry, "shadow"),
        )


@dataclass
class Counts:
    """What was counted in a span of time, by version and channel."""

    rows: dict[Kind, Row] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)
    """ "VERSION REASON" of canaries and shadows that could not be loaded, each time this was seen."""

    def __bool__(self) -> bool:
        """Say whether anything was counted."""
        return bool(self.rows or self.problems)

    def row(self, version: str, channel: str) -> Row:
        """Return the row of a version in a channel."""
        return self.rows.setdefault(Kind(version, channel), Row())

    def add(self, other: Counts) -> None:
        """Add other counts."""
        for kind, row in other.rows.items():
            self.row(*kind).add(row)
        self.problems.update(other.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return them as they are stored."""
        return {
            "rows": [{**kind._asdict(), **row.to_dict()} for kind, row in sorted(self.rows.items())],
            "problems": dict(self.problems),
        }

    @classmethod
    def read(cls, top: fields.Object) -> Counts:
        """Read what `to_dict` wrote. Raises `InvalidManifest`."""
        counts = cls(problems=_counter(top, "problems"))
        for entry in top.objects("rows"):
            kind = Kind(entry.text("version", empty=True), entry.text("channel", empty=True))
            counts.row(*kind).add(Row.read(entry))
        return counts


def quantile(histogram: Sequence[int], share: float) -> float | None:
    """Return the milliseconds below which a share of the requests were, by straight lines inside the buckets.

    None where nothing was counted; the last edge where it is beyond.
    """
    total = sum(histogram)
    if not total:
        return None
    wanted, before = share * total, 0
    for number, count in enumerate(histogram):
        if before + count >= wanted and count:
            if number == len(LATENCY_EDGES):
                return float(LATENCY_EDGES[-1])
            low = LATENCY_EDGES[number - 1] if number else 0
            return low + (LATENCY_EDGES[number] - low) * (wanted - before) / count
        before += count
    return float(LATENCY_EDGES[-1])


def _pair(said: str, label: str) -> str:
    return json.dumps([said, label], ensure_ascii=False)


def _labels(pair: str) -> tuple[str, str]:
    try:
        said, label = json.loads(pair)
    except ValueError:  # as it was written at first
        said, _, label = pair.partition("\t")
    return str(said), str(label)


def _count(entry: fields.Object, name: str) -> int:
    return entry.integer(name, low=0, high=1 << 60)


def _counter(entry: fields.Object, name: str) -> Counter[str]:
    values: Mapping[str, Any] = entry.mapping(name)
    for key, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1 << 60:
            raise entry.wrong(f"{name}.{key}", "a count", value)
    return Counter(values)


def _histogram(entry: fields.Object, name: str, buckets: int) -> list[int]:
    values = [int(value) for value in entry.numbers(name, low=0, high=1 << 60)]
    if len(values) != buckets:
        raise entry.wrong(name, f"{buckets} counts", len(values))
    return values
