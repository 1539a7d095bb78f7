"""Corrections: what a user says that a photo shows, and what operators decided about it.

<model>/feedback/<date>/<id>.json        the correction, create-only; written last
<model>/feedback/<date>/<id>.photo       its photo, only where the user agreed
<model>/feedback/<date>/<id>.shadow      in place of a correction: production and the shadow disagree about a photo
<model>/feedback/<date>/<id>.decision    what an operator decided, by compare-and-swap
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from classifier.errors import Conflict, InvalidManifest, NotFound, PreconditionFailed
from classifier.registry import fields
from classifier.storage.protocol import MUST_NOT_EXIST, ObjectStore

FEEDBACK_FOLDER = "feedback"
SCHEMA_VERSION = 1
PARALLEL = 64
SHORTEST_ID = 4
SAID = ("json", "shadow")
"""The objects that tell of a photo."""
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})/([0-9a-f]{32})\.(json|photo|decision|shadow)")

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
        """Write it as an object of the store."""
        return fields.write_json({"schema_version": SCHEMA_VERSION, **vars(self)}, "a decision")

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


class Feedback:
    """The corrections of one model in one store. Every method raises `Unavailable` where it cannot be reached."""

    def __init__(self, store: ObjectStore, model: str) -> None:
        self._store = store
        self._prefix = f"{model}/{FEEDBACK_FOLDER}/"

    def add(self, correction: Correction, photo: bytes = b"") -> bool:
        """Store a correction; return False where it was there already.

        The photo is written first: one whose correction is missing, because the writer was killed, is of nobody.
        """
        date = f"{datetime.now(UTC):%Y-%m-%d}"
        if photo:
            self._create(date, correction.id, "photo", photo, "application/octet-stream")
        kind = "shadow" if correction.shadow else "json"
        return self._create(date, correction.id, kind, correction.to_json(), "application/json")

    def cases(self) -> list[Case]:
        """Return all corrections, oldest first; what was said on two days counts once, as it was said first.

        Raises:
            InvalidManifest: one cannot be used; says which.
        """
        first: dict[str, tuple[str, str]] = {}
        decided: set[tuple[str, str]] = set()
        for date, identity, kind in self._names():
            if kind in SAID:
                first.setdefault(identity, (date, kind))
            elif kind == "decision":
                decided.add((date, identity))
        with ThreadPoolExecutor(PARALLEL) as pool:
            read = pool.map(
                lambda item: self._case(item[1][0], item[0], item[1][1], decided=(item[1][0], item[0]) in decided),
                first.items(),
            )
            return sorted((case for case in read if case), key=lambda case: (case.correction.time, case.correction.id))

    def find(self, text: str) -> Case:
        """Return the correction whose id begins so.

        Raises:
            NotFound: none does, or several do.
        """
        found = sorted(
            {
                (identity, date, kind)
                for date, identity, kind in self._names()
                if kind in SAID and identity.startswith(text)
            }
        )
        if len(text) < SHORTEST_ID or len({identity for identity, *_ in found}) != 1:
            several = f"; {len(found)} begin so" if len(text) >= SHORTEST_ID and found else ""
            raise NotFound(
                f"Expected the id of a correction, or how it alone begins ({SHORTEST_ID} characters or more); "
                f"received {text!r}{several}. `admin_cli feedback list` shows them."
            )
        identity, date, kind = found[0]
        case = self._case(date, identity, kind, decided=True)
        if case is None:
            raise NotFound(f"The correction {identity} was deleted meanwhile.")
        return case

    def photo(self, case: Case) -> bytes | None:
        """Return its photo; None where the user did not give it, or it was deleted."""
        if not case.correction.photo_bytes:
            return None
        try:
            return self._store.read(self._path(case.date, case.correction.id, "photo")).data
        except NotFound:
            return None

    def decide(self, case: Case, decision: Decision) -> Case:
        """Record what was decided, in place of what was before.

        Raises:
            Conflict: somebody else decided since the case was read.
        """
        path = self._path(case.date, case.correction.id, "decision")
        try:
            content = self._store.read(path)
            current, generation = Decision.from_json(content.data, path), content.generation
        except NotFound:
            current, generation = None, MUST_NOT_EXIST
        if current != case.decision:
            told = f"{current.who} {current.verdict} it" if current else "its decision was deleted"
            raise Conflict(f"Somebody else decided about {case.correction.id} meanwhile: {told}. Look again.")
        try:
            self._store.write(path, decision.to_json(), if_generation=generation, content_type="application/json")
        except PreconditionFailed as error:
            raise Conflict(f"Somebody else decided about {case.correction.id} meanwhile. Look again.") from error
        return replace(case, decision=decision)

    def forget(self, text: str) -> int:
        """Delete whatever is kept of a correction, or of all corrections of a photo; return how many there were.

        Args:
            text: an id or how it alone begins, or a photo's SHA-256.

        Raises:
            NotFound: there is none.
        """
        self._forget_leftovers()
        if re.fullmatch(r"[0-9a-f]{64}", text):
            ids = {each.correction.id for each in self.cases() if each.correction.photo_sha256 == text}
            if not ids:
                raise NotFound(f"Expected the SHA-256 of a photo with corrections; received {text}.")
        else:
            ids = {self.find(text).correction.id}
        # Killed at any moment, a correction is there as before or is not. The photo goes first, so that it is never
        # left alone; what was decided goes last, so that an accepted correction does not turn into a pending one; and
        # of what was said on two days the second, for which nobody looks.
        for kind in ("photo", *SAID, "decision"):
            for date, identity, found in sorted(self._names(), reverse=True):
                if identity in ids and found == kind:
                    self._store.delete(self._path(date, identity, kind))
        return len(ids)

    def _forget_leftovers(self) -> None:
        """Delete decisions about nothing: whoever forgot their corrections was killed before."""
        names = list(self._names())
        said = {(date, identity) for date, identity, kind in names if kind in SAID}
        for date, identity, kind in names:
            if kind == "decision" and (date, identity) not in said:
                self._store.delete(self._path(date, identity, kind))

    def _case(self, date: str, identity: str, kind: str, *, decided: bool) -> Case | None:
        path = self._path(date, identity, kind)
        try:
            correction = Correction.from_json(self._store.read(path).data, path)
        except NotFound:
            return None
        if correction.id != identity:
            raise InvalidManifest(
                f"Expected {path} to be the correction {identity}; it is {correction.id}.", field="id"
            )
        decision = None
        if decided:
            try:
                path = self._path(date, identity, "decision")
                decision = Decision.from_json(self._store.read(path).data, path)
            except NotFound:
                pass
        return Case(date, correction, decision)

    def _create(self, date: str, identity: str, kind: str, data: bytes, media_type: str) -> bool:
        try:
            self._store.write(
                self._path(date, identity, kind), data, if_generation=MUST_NOT_EXIST, content_type=media_type
            )
        except PreconditionFailed:
            return False
        return True

    def _names(self) -> Iterator[tuple[str, str, str]]:
        for item in self._store.list(self._prefix):
            if found := _NAME.fullmatch(item.name.removeprefix(self._prefix)):
                yield found[1], found[2], found[3]

    def _path(self, date: str, identity: str, kind: str) -> str:
        return f"{self._prefix}{date}/{identity}.{kind}"


def _seen(entry: fields.Object) -> Seen:
    confidence = entry.number("confidence", low=0, high=1) if "confidence" in entry.names() else None
    return Seen(
        **{each: entry.text_or_none(each) for each in ("version", "channel", "label", "status")}, confidence=confidence
    )
