"""The pointer: what each channel serves now, and the whole history of how it came so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from classifier.errors import InvalidManifest
from classifier.registry import fields
from classifier.registry.catalogue import VERSION

CHANNELS_FILE = "channels.json"
SCHEMA_VERSION = 1
PRODUCTION = "production"
PROMOTE = "promote"
ROLLBACK = "rollback"


@dataclass(frozen=True)
class Pointer:
    """What a channel serves."""

    version: str
    manifest_sha256: str
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True)
class HistoryEntry:
    """One change of a channel."""

    id: str
    """Unique, so that whoever wrote it recognises it."""
    time: str
    """RFC 3339, UTC."""
    who: str
    action: str
    """ "promote" or "rollback"."""
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
    canary: Pointer | None = None
    shadow: Pointer | None = None
    history: tuple[HistoryEntry, ...] = ()
    """Oldest first."""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    older: int = 0
    """Entries before those of `history` that were not looked at; with any, it cannot be written."""

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
        older = 0 if newest is None else max(0, top.count("history") - newest)
        return cls(
            generation,
            _pointer(top.object_or_none("production")),
            _pointer(top.object_or_none("canary")),
            _pointer(top.object_or_none("shadow")),
            tuple(_entry(entry) for entry in top.objects("history", start=older)),
            top.rest(),
            older,
        )

    def to_json(self) -> bytes:
        """Write a ``channels.json``; the generation is the store's and is not in it."""
        if self.older:
            raise ValueError(f"{self.older} entries of the history were not read and would be lost")
        return fields.write_json(
            {
                "schema_version": SCHEMA_VERSION,
                "production": _pointer_dict(self.production),
                "canary": _pointer_dict(self.canary),
                "shadow": _pointer_dict(self.shadow),
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

    def earlier(self) -> list[Pointer]:
        """Return what production served before, as a rollback would go through it: the latest first, each once.

        A version is immutable: whichever change of a channel recorded its manifest's SHA-256, the newest counts. It is
        "" where none did, because an older release wrote them all.
        """
        recorded = {entry.to_version: entry.manifest_sha256 for entry in self.history if entry.manifest_sha256}
        versions = dict.fromkeys(reversed(self.served()))
        if self.production:
            versions.pop(self.production.version, None)
        return [Pointer(version, recorded.get(version, "")) for version in versions]


def _pointer(entry: fields.Object | None) -> Pointer | None:
    if entry is None:
        return None
    version = entry.text("version")
    if not VERSION.fullmatch(version):  # replies have it in a header, also where there is no such version
        raise entry.wrong("version", "a version such as v7", version)
    return Pointer(version, entry.sha256("manifest_sha256"), entry.rest())


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
