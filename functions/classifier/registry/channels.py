"""The pointer: what each channel serves now, and the whole history of how it came so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from classifier.errors import InvalidManifest, NotFound
from classifier.registry import fields
from classifier.registry.catalogue import VERSION
from classifier.registry.gate import Gate

CHANNELS_FILE = "channels.json"
SCHEMA_VERSION = 1
PRODUCTION = "production"
CANARY = "canary"
SHADOW = "shadow"
PROMOTE = "promote"
ROLLBACK = "rollback"
GATE = "gate"
"""Action and channel of a change of the thresholds; "from" and "to" are then these."""
PRUNE = "prune"
"""Action and channel of the deletion of a version."""
CANARY_START, CANARY_PERCENT, CANARY_ABORT = "canary start", "canary percent", "canary abort"
SHADOW_START, SHADOW_CHANGE, SHADOW_STOP = "shadow start", "shadow change", "shadow stop"


@dataclass(frozen=True)
class Pointer:
    """What a channel serves."""

    version: str
    manifest_sha256: str
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True)
class Canary(Pointer):
    """A version that a share of the callers gets."""

    percent: float = 0.0
    """Of the callers, 0..100."""
    salt: str = ""
    """With it callers are drawn: the same ones as long as it stays, others for the next canary."""
    since: str = ""
    """When it was started, RFC 3339."""
    step_since: str = ""
    """When `percent` was set."""

    @property
    def pointer(self) -> Pointer:
        """The version alone."""
        return Pointer(self.version, self.manifest_sha256)


@dataclass(frozen=True)
class Shadow(Pointer):
    """A version that classifies a sample of production's photos too, and answers nobody."""

    sample: float = 0.0
    """Of the photos, 0..1."""
    keep_photos: bool = False
    """Whether photos about which it disagrees with production are kept, where their callers consent."""
    since: str = ""
    """When it was started, RFC 3339."""

    @property
    def pointer(self) -> Pointer:
        """The version alone."""
        return Pointer(self.version, self.manifest_sha256)


@dataclass(frozen=True)
class HistoryEntry:
    """One change of a channel."""

    id: str
    """Unique, so that whoever wrote it recognises it."""
    time: str
    """RFC 3339, UTC."""
    who: str
    action: str
    """ "promote", "rollback", "gate", "prune", or one of the canary's or the shadow's."""
    channel: str
    from_version: str | None
    to_version: str
    reason: str
    manifest_sha256: str | None = None
    """Of the version that it went to; entries of older releases have none."""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is stored, and as a command prints it."""
        return {
            "id": self.id,
            "time": self.time,
            "who": self.who,
            "action": self.action,
            "channel": self.channel,
            "from": self.from_version,
            "to": self.to_version,
            "reason": self.reason,
            **({"manifest_sha256": self.manifest_sha256} if self.manifest_sha256 else {}),
            **self.extra,
        }


@dataclass(frozen=True)
class Channels:
    """One state of ``channels.json``; the empty one is what a model has that was never promoted."""

    generation: int = 0
    """Of the object that it was read from; 0: there is none."""
    production: Pointer | None = None
    canary: Canary | None = None
    shadow: Shadow | None = None
    gate: Gate = field(default_factory=Gate)
    """What a version may not be worse by to become production."""
    history: tuple[HistoryEntry, ...] = ()
    """Oldest first."""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    older: int = 0
    """Entries before those of `history` that were not looked at; with any, it cannot be written."""
    pruned_before: frozenset[str] = frozenset()
    """The versions of which those entries say that they were deleted."""

    @classmethod
    def from_json(cls, data: bytes, generation: int, *, newest: int | None = None) -> Channels:
        """Read a ``channels.json``.

        Args:
            data: its content.
            generation: see `Channels.generation`.
            newest: how many entries of the history to look at, which may have thousands; None for all.

        Raises:
            InvalidManifest: with the name of the field at fault, such as "production.version".
        """
        top = fields.read_object(data, CHANNELS_FILE)
        schema_version = top.integer("schema_version", low=1, high=1 << 31)
        if schema_version > SCHEMA_VERSION:
            raise InvalidManifest(
                f"Expected {CHANNELS_FILE} with schema_version {SCHEMA_VERSION}; received {schema_version}. "
                "A newer release wrote it: update this one.",
                field="schema_version",
            )
        entries = top.values("history")
        older = 0 if newest is None else max(0, len(entries) - newest)
        passed_over = (entry for entry in entries[:older] if isinstance(entry, Mapping))
        production = _pointer(top.object_or_none("production"))
        canary, shadow = _canary(top.object_or_none("canary")), _shadow(top.object_or_none("shadow"))
        return cls(
            generation,
            production,
            # A release that knows of neither promotes such a version and leaves it here.
            None if _is_of(canary, production) else canary,
            None if _is_of(shadow, production) else shadow,
            Gate.read(top.object_or_none("gate")),
            tuple(_entry(entry) for entry in top.objects("history", start=older)),
            top.rest(),
            older,
            frozenset(str(entry.get("to")) for entry in passed_over if entry.get("action") == PRUNE),
        )

    def to_json(self) -> bytes:
        """Write a ``channels.json``; the generation is the store's and is not in it."""
        if self.older:
            raise ValueError(f"{self.older} entries of the history were not read and would be lost")
        return fields.write_json(
            {
                "schema_version": SCHEMA_VERSION,
                "production": _pointer_dict(self.production),
                "canary": _canary_dict(self.canary),
                "shadow": _shadow_dict(self.shadow),
                **({"gate": self.gate.to_dict()} if self.gate != Gate() else {}),
                "history": [entry.to_dict() for entry in self.history],
                **self.extra,
            },
            CHANNELS_FILE,
        )

    def served(self) -> list[str]:
        """Return the stack of versions in production: the last serves, the ones before can be rolled back to.

        A promotion puts a version on it, a rollback takes from it: after v1, v2, v3 it goes to v2, and then to v1.
        """
        stack: list[str] = []
        for entry in self.history:
            if entry.channel != PRODUCTION or entry.action not in (PROMOTE, ROLLBACK):
                continue
            if entry.action == ROLLBACK and entry.to_version in stack[:-1]:
                stack.pop()
                while stack[-1] != entry.to_version:
                    stack.pop()
            elif stack[-1:] != [entry.to_version]:
                stack.append(entry.to_version)
        return stack

    def since(self, channel: str, version: str) -> str | None:
        """Return since when a channel serves a version, RFC 3339; None where it does not, or nothing tells."""
        if channel == CANARY:
            return (self.canary.since or None) if self.canary and self.canary.version == version else None
        for entry in reversed(self.history):
            if entry.channel == PRODUCTION and entry.action in (PROMOTE, ROLLBACK):
                return entry.time if entry.to_version == version else None
        return None

    def pruned(self) -> frozenset[str]:
        """Return the versions that were deleted, or are being deleted."""
        return self.pruned_before | {entry.to_version for entry in self.history if entry.action == PRUNE}

    def expect_kept(self, version: str) -> None:
        """Do nothing where a version was not deleted.

        Raises:
            NotFound: it was.
        """
        if version in self.pruned():
            raise NotFound(f"{version} was deleted by `admin_cli prune`; `admin_cli list` shows what there is.")

    def earlier(self) -> list[Pointer]:
        """Return what production served before, as a rollback would go through it: the latest first, each once.

        A version is immutable: whichever change of a channel recorded its manifest's SHA-256, the newest counts. It is
        "" where none did, because an older release wrote them all.
        """
        recorded = {entry.to_version: entry.manifest_sha256 for entry in self.history if entry.manifest_sha256}
        pruned = self.pruned()
        versions = dict.fromkeys(version for version in reversed(self.served()) if version not in pruned)
        if self.production:
            versions.pop(self.production.version, None)
        return [Pointer(version, recorded.get(version, "")) for version in versions]


def _is_of(other: Pointer | None, production: Pointer | None) -> bool:
    """Say whether another channel has what production serves."""
    return other is not None and production is not None and other.version == production.version


def _pointer(entry: fields.Object | None) -> Pointer | None:
    if entry is None:
        return None
    version = entry.text("version")
    if not VERSION.fullmatch(version):  # replies have it in a header, also where there is no such version
        raise entry.wrong("version", "a version such as v7", version)
    return Pointer(version, entry.sha256("manifest_sha256"), entry.rest())


def _canary(entry: fields.Object | None) -> Canary | None:
    if entry is None:
        return None
    percent = entry.number("percent", low=0, high=100, default=0.0)
    salt, *times = (entry.text(name, default="", empty=True) for name in ("salt", "since", "step_since"))
    times = [entry.time(name) if time else "" for name, time in zip(("since", "step_since"), times, strict=True)]
    pointer = _pointer(entry)
    assert pointer is not None  # noqa: S101 - there is an entry
    return Canary(pointer.version, pointer.manifest_sha256, entry.rest(), percent, salt, *times)


def _canary_dict(canary: Canary | None) -> dict[str, Any] | None:
    if canary is None:
        return None
    own = {name: getattr(canary, name) for name in ("percent", "salt", "since", "step_since")}
    return {**(_pointer_dict(canary) or {}), **{name: value for name, value in own.items() if value}}


def _shadow(entry: fields.Object | None) -> Shadow | None:
    if entry is None:
        return None
    sample = entry.number("sample", low=0, high=1, default=0.0)
    keep = entry.boolean("keep_photos") if "keep_photos" in entry.names() else False
    since = entry.text("since", default="", empty=True)
    pointer = _pointer(entry)
    assert pointer is not None  # noqa: S101 - there is an entry
    return Shadow(pointer.version, pointer.manifest_sha256, entry.rest(), sample, keep, since)


def _shadow_dict(shadow: Shadow | None) -> dict[str, Any] | None:
    if shadow is None:
        return None
    own = {name: getattr(shadow, name) for name in ("sample", "keep_photos", "since")}
    return {**(_pointer_dict(shadow) or {}), **{name: value for name, value in own.items() if value}}


def _pointer_dict(pointer: Pointer | None) -> dict[str, Any] | None:
    if pointer is None:
        return None
    return {"version": pointer.version, "manifest_sha256": pointer.manifest_sha256, **pointer.extra}


def _entry(entry: fields.Object) -> HistoryEntry:
    return HistoryEntry(
        entry.text("id"),
        entry.time("time"),
        entry.text("who"),
        entry.text("action"),
        entry.text("channel"),
        entry.text_or_none("from"),
        entry.text("to"),
        entry.text("reason", empty=True),
        entry.sha256("manifest_sha256") if "manifest_sha256" in entry.names() else None,
        entry.rest(),
    )
