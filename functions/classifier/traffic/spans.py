"""Spans of time and their counts, as they are stored, and folds of them, in which each counts once.

<model>/stats/<date>/<hour>/<time>-<id>.json    one instance's span of time, create-only
<model>/stats/<date>/<hour>.json                the hour's spans, folded
<model>/stats/<date>.json                       the day's hours, folded
<model>/stats/<date>/<hour>/<id>.pack           spans of an hour that is not over, as they are, in one object
<model>/stats/<month>/<id>.pack                 days of a month that is long over, likewise
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from classifier.registry import fields
from classifier.traffic.counts import Counts

SCHEMA_VERSION = 1


@dataclass
class Span:
    """Counts of a span of time, with what they are made of."""

    id: str
    began: str
    """RFC 3339, UTC."""
    ended: str
    counts: Counts
    folded: tuple[str, ...] = ()
    """The ids of the spans that were added up; none in what an instance wrote itself."""

    def to_json(self) -> bytes:
        """Write it as an object of the store."""
        return fields.write_json(self.to_dict(), "statistics")

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return {
            "schema_version": SCHEMA_VERSION,
            "id": self.id,
            "began": self.began,
            "ended": self.ended,
            **({"folded": list(self.folded)} if self.folded else {}),
            **self.counts.to_dict(),
        }

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Span:
        """Read one. Raises `InvalidManifest`, with the object's name."""
        return cls.read(fields.read_object(data, name))

    @classmethod
    def read(cls, top: fields.Object) -> Span:
        """Read what `to_dict` wrote. Raises `InvalidManifest`."""
        version = top.integer("schema_version", low=1, high=1 << 31)
        if version > SCHEMA_VERSION:
            raise top.wrong("schema_version", f"{SCHEMA_VERSION} or less (a newer release wrote it)", version)
        folded = tuple(top.texts("folded")) if "folded" in top.names() else ()
        return cls(top.text("id"), top.time("began"), top.time("ended"), Counts.read(top), folded)


def total(spans: Iterable[Span]) -> Counts:
    """Add spans up, each once: not again where it is inside a fold that is there too, in whatever order they come."""
    seen = {span.id: span for span in spans}
    inside = {part for span in seen.values() for part in span.folded}
    counts = Counts()
    for span in seen.values():
        if span.id not in inside:
            counts.add(span.counts)
    return counts


def fold(identity: str, former: Span | None, parts: Sequence[Span]) -> Span:
    """Add parts to a fold, or begin one. What it has already is not added again.

    Args:
        identity: the new fold's id.
        former: the fold so far.
        parts: at least one.
    """
    counts, known = Counts(), former.folded if former else ()
    fresh = [part for part in {part.id: part for part in parts}.values() if part.id not in known]
    spans = [*([former] if former else []), *fresh]
    for span in spans:
        counts.add(span.counts)
    ids = (*known, *sorted(part.id for part in fresh))
    return Span(identity, min(each.began for each in spans), max(each.ended for each in spans), counts, ids)
