"""Corrections as they are stored: what a user says that a photo shows, and what an operator decided about it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from classifier.errors import InvalidManifest, InvalidRequest
from classifier.labels import trimmed
from classifier.registry import fields
from classifier.wording import shown

SCHEMA_VERSION = 1
LONGEST_LABEL = 200
"""Characters of a label that a person gives."""

Verdict = Literal["accepted", "rejected"]


@dataclass(frozen=True)
class Seen:
    """What the model had said, as the caller tells it: nobody vouches for it."""

    version: str | None = None
    channel: str | None = None
    label: str | None = None
    confidence: float | None = None
    status: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what is known."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Correction:
    """What somebody said of a photo; or, with `shadow`, that nobody did and two versions disagree about it."""

    id: str
    time: str
    label: str | None
    """What it shows; None for none of the model's labels."""
    request_id: str | None = None
    photo_sha256: str | None = None
    photo_bytes: int = 0
    """Of the photo that is stored beside it; 0 for none."""
    seen: Seen = field(default_factory=Seen)
    shadow: Seen | None = None
    """What the shadow said, where it disagreed with production."""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @classmethod
    def of_disagreement(cls, photo: bytes, seen: Seen, shadow: Seen) -> Correction:
        """Make one of what production and the shadow said of a photo."""
        photo_sha256 = hashlib.sha256(photo).hexdigest()
        identity = hashlib.sha256(f"shadow/{shadow.version}/{photo_sha256}".encode()).hexdigest()[:32]
        return cls(identity, fields.now(), None, None, photo_sha256, len(photo), seen, shadow)

    @classmethod
    def make(
        cls,
        label: str | None,
        *,
        request_id: str | None = None,
        photo_sha256: str | None = None,
        photo: bytes = b"",
        seen: Seen | None = None,
    ) -> Correction:
        """Make one. The same thing said again of the same photo or request has the same id, whoever says it."""
        if photo:
            photo_sha256 = hashlib.sha256(photo).hexdigest()
        subject = f"photo/{photo_sha256}" if photo_sha256 else f"request/{request_id}"
        said = f"{subject}\0{'' if label is None else f'label/{label}'}"
        identity = hashlib.sha256(said.encode()).hexdigest()[:32]
        time = fields.now()
        return cls(identity, time, label, request_id, photo_sha256, len(photo), seen or Seen())

    def to_json(self) -> bytes:
        """Write it as an object of the store."""
        return fields.write_json(
            {
                "schema_version": SCHEMA_VERSION,
                "id": self.id,
                "time": self.time,
                "label": self.label,
                "request_id": self.request_id,
                "photo_sha256": self.photo_sha256,
                "photo_bytes": self.photo_bytes,
                "seen": self.seen.to_dict(),
                **({"shadow": self.shadow.to_dict()} if self.shadow else {}),
                **self.extra,
            },
            "a correction",
        )

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Correction:
        """Read one. Raises `InvalidManifest`, with the object's name."""
        top = fields.read_object(data, name)
        version = top.integer("schema_version", low=1, high=1 << 31)
        if version > SCHEMA_VERSION:
            raise top.wrong("schema_version", f"{SCHEMA_VERSION} or less (a newer release wrote it)", version)
        shadow = top.object_or_none("shadow") if "shadow" in top.names() else None
        return cls(
            top.text("id"),
            top.time("time"),
            top.text_or_none("label"),
            top.text_or_none("request_id"),
            top.text_or_none("photo_sha256"),
            top.integer("photo_bytes", low=0, high=1 << 40),
            _seen(top.object("seen", default={})),
            _seen(shadow) if shadow else None,
            top.rest(),
        )


@dataclass(frozen=True)
class Decision:
    """What an operator made of a correction."""

    verdict: Verdict
    who: str
    time: str
    label: str | None = None
    """The right label where it is another than the user's."""
    reason: str = ""

    def to_json(self) -> bytes:
        """Write it as an object of the store. Raises `InvalidManifest` for what could not be read again."""
        data = fields.write_json({"schema_version": SCHEMA_VERSION, **vars(self)}, "a decision")
        Decision.from_json(data, "a decision")
        return data

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Decision:
        """Read one. Raises `InvalidManifest`, with the object's name."""
        top = fields.read_object(data, name)
        verdict = top.text("verdict")
        for known in ("accepted", "rejected"):
            if verdict == known:
                return cls(
                    known,
                    top.text("who"),
                    top.time("time"),
                    top.text_or_none("label"),
                    top.text("reason", default="", empty=True),
                )
        raise top.wrong("verdict", "accepted or rejected", verdict)


@dataclass(frozen=True)
class Case:
    """A correction with where it is kept and what was decided."""

    date: str
    correction: Correction
    decision: Decision | None = None
    damage: str = ""
    """Why what was decided cannot be read, which counts as not decided; "" where it can, or nothing was."""

    @property
    def status(self) -> str:
        """What was decided: "pending", "accepted" or "rejected"."""
        return self.decision.verdict if self.decision else "pending"

    @property
    def label(self) -> str | None:
        """What the photo shows: the operator's label before the user's; None for none of the model's, see `is_open`."""
        return self.decision.label if self.decision and self.decision.label else self.correction.label

    @property
    def is_open(self) -> bool:
        """Say whether nobody said what it shows."""
        return self.correction.shadow is not None and self.label is None


class Damaged(NamedTuple):
    """A correction that cannot be read."""

    id: str
    error: InvalidManifest
    """Names the object, and says what is wrong with it."""


class Found(NamedTuple):
    """What the store holds of corrections."""

    cases: list[Case]
    """Oldest first."""
    damaged: list[Damaged]
    """Sorted by id."""


def given_label(value: object, name: str) -> str:
    """Return a label that a user or an operator gives, in Unicode's composed form without outer white space.

    Args:
        value: what came.
        name: what the message calls it.

    Raises:
        InvalidRequest: it is no string, blank, too long, or has a line's end or another character that is not printed.
    """
    label = trimmed(value) if isinstance(value, str) else ""
    if not label or len(label) > LONGEST_LABEL or not label.isprintable():
        raise InvalidRequest(
            f"Expected {name} to be 1 to {LONGEST_LABEL} characters that can be printed; received {shown(value)}."
        )
    return label


def _seen(entry: fields.Object) -> Seen:
    confidence = entry.number("confidence", low=0, high=1) if "confidence" in entry.names() else None
    return Seen(
        **{each: entry.text_or_none(each) for each in ("version", "channel", "label", "status")}, confidence=confidence
    )
