"""Where corrections are kept: stored once, found, decided about and forgotten.

<model>/feedback/<date>/<id>.json        the correction, create-only; written last
<model>/feedback/<date>/<id>.photo       its photo, only where the user agreed
<model>/feedback/<date>/<id>.shadow      in place of a correction: production and the shadow disagree about a photo
<model>/feedback/<date>/<id>.decision    what an operator decided, by compare-and-swap
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from classifier.errors import Conflict, InvalidManifest, NotFound, PreconditionFailed
from classifier.storage.protocol import MUST_NOT_EXIST, ObjectStore
from classifier.traffic.corrections import Case, Correction, Damaged, Decision, Found

FEEDBACK_FOLDER = "feedback"
PARALLEL = 64
SHORTEST_ID = 4
SAID = ("json", "shadow")
"""The objects that tell of a photo."""
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})/([0-9a-f]{32})\.(json|photo|decision|shadow)")


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
        """Return all corrections, oldest first; see `found`.

        Raises:
            InvalidManifest: one cannot be read; says which.
        """
        found = self.found()
        if found.damaged:
            raise found.damaged[0].error
        return found.cases

    def found(self) -> Found:
        """Return all corrections and which of them cannot be read; each once, as it was said on the first day.

        A decision that cannot be read counts as none; `Case.damage` says why.
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
            every = list(read)
        cases = [each for each in every if isinstance(each, Case)]
        damaged = [each for each in every if isinstance(each, Damaged)]
        cases.sort(key=lambda case: (case.correction.time, case.correction.id))
        return Found(cases, sorted(damaged, key=lambda each: each.id))

    def find(self, text: str) -> Case:
        """Return the correction whose id begins so.

        Raises:
            NotFound: none does, or several do.
            InvalidManifest: it cannot be read; says what deletes it.
        """
        date, identity, kind = self._named(text)
        case = self._case(date, identity, kind, decided=True)
        if case is None:
            raise NotFound(f"The correction {identity} was deleted meanwhile.")
        if isinstance(case, Damaged):
            remedy = f"`admin_cli feedback forget {identity}` deletes it."
            raise InvalidManifest(f"{case.error} {remedy}", field=case.error.field)
        return case

    def _named(self, text: str) -> tuple[str, str, str]:
        """Return date, id and kind of the correction whose id begins so; see `find`."""
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
        return date, identity, kind

    def photo(self, case: Case) -> bytes | None:
        """Return its photo; None where the user did not give it, or it was deleted."""
        if not case.correction.photo_bytes:
            return None
        try:
            return self._store.read(self._path(case.date, case.correction.id, "photo")).data
        except NotFound:
            return None

    def decide(self, case: Case, decision: Decision) -> Case:
        """Record what was decided, in place of what was before, also of what cannot be read.

        Raises:
            Conflict: somebody else decided since the case was read.
        """
        path = self._path(case.date, case.correction.id, "decision")
        try:
            content = self._store.read(path)
            current, generation = _read_decision(content.data, path)[0], content.generation
        except NotFound:
            current, generation = None, MUST_NOT_EXIST
        if current != case.decision:
            told = f"{current.who} {current.verdict} it" if current else "its decision was deleted"
            raise Conflict(f"Somebody else decided about {case.correction.id} meanwhile: {told}. Look again.")
        try:
            self._store.write(path, decision.to_json(), if_generation=generation, content_type="application/json")
        except PreconditionFailed as error:
            raise Conflict(f"Somebody else decided about {case.correction.id} meanwhile. Look again.") from error
        return replace(case, decision=decision, damage="")

    def forget(self, text: str) -> list[str]:
        """Delete whatever is kept of a correction, or of all corrections of a photo; return their ids.

        Args:
            text: an id or how it alone begins, or a photo's SHA-256.

        Raises:
            NotFound: there is none.
        """
        self._forget_leftovers()
        if re.fullmatch(r"[0-9a-f]{64}", text):
            cases, damaged = self.found()
            ids = {each.correction.id for each in cases if each.correction.photo_sha256 == text}
            ids |= self._with_photo({each.id for each in damaged}, text)
            if not ids:
                raise NotFound(f"Expected the SHA-256 of a photo with corrections; received {text}.")
        else:
            ids = {self._named(text)[1]}
        # Killed at any moment, a correction is there as before or is not. The photo goes first, so that it is never
        # left alone; what was decided goes last, so that an accepted correction does not turn into a pending one; and
        # of what was said on two days the second, for which nobody looks.
        for kind in ("photo", *SAID, "decision"):
            for date, identity, found in sorted(self._names(), reverse=True):
                if identity in ids and found == kind:
                    self._store.delete(self._path(date, identity, kind))
        return sorted(ids)

    def _with_photo(self, ids: set[str], sha256: str) -> set[str]:
        """Return those of the corrections beside which this photo lies; of those that cannot be read, only it tells."""
        found = set()
        for date, identity, kind in self._names():
            if identity in ids and kind == "photo":
                with suppress(NotFound):  # deleted meanwhile
                    photo = self._store.read(self._path(date, identity, kind)).data
                    if hashlib.sha256(photo).hexdigest() == sha256:
                        found.add(identity)
        return found

    def _forget_leftovers(self) -> None:
        """Delete decisions about nothing: whoever forgot their corrections was killed before."""
        names = list(self._names())
        said = {(date, identity) for date, identity, kind in names if kind in SAID}
        for date, identity, kind in names:
            if kind == "decision" and (date, identity) not in said:
                self._store.delete(self._path(date, identity, kind))

    def _case(self, date: str, identity: str, kind: str, *, decided: bool) -> Case | Damaged | None:
        path = self._path(date, identity, kind)
        try:
            correction = Correction.from_json(self._store.read(path).data, path)
        except NotFound:
            return None
        except InvalidManifest as error:
            return Damaged(identity, error)
        if correction.id != identity:
            told = f"Expected {path} to be the correction {identity}; it is {correction.id}."
            return Damaged(identity, InvalidManifest(told, field="id"))
        decision, damage = None, ""
        if decided:
            try:
                path = self._path(date, identity, "decision")
                decision, damage = _read_decision(self._store.read(path).data, path)
            except NotFound:
                pass
        return Case(date, correction, decision, damage)

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


def _read_decision(data: bytes, path: str) -> tuple[Decision | None, str]:
    """Return a decision and ""; or None and why it cannot be read."""
    try:
        return Decision.from_json(data, path), ""
    except InvalidManifest as error:
        return None, str(error)
