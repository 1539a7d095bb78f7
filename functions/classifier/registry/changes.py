"""Changing ``channels.json``: every change is one compare-and-swap, which appends its line to the history as well."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from classifier.errors import Conflict, InvalidRequest, NotFound, PreconditionFailed, Unavailable
from classifier.registry.channels import CHANNELS_FILE, PRODUCTION, Channels, HistoryEntry, Pointer
from classifier.registry.fields import now
from classifier.registry.versions import ATTEMPTS
from classifier.storage.protocol import MUST_NOT_EXIST, ObjectStore


@dataclass(frozen=True)
class Change:
    """What is to become of a state of the channels, and what the history will say of it."""

    channels: Channels
    """With everything changed but the history."""
    action: str
    channel: str
    from_version: str | None
    to_version: str
    manifest_sha256: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def pointing(
        cls,
        channels: Channels,
        action: str,
        channel: str,
        before: str | None,
        pointer: Pointer,
        extra: Mapping[str, Any],
    ) -> Change:
        """Make one that lets a channel point at a version."""
        return cls(channels, action, channel, before, pointer.version, pointer.manifest_sha256, extra)

    @classmethod
    def ending(cls, channels: Channels, action: str, channel: str, ended: Pointer, extra: Mapping[str, Any]) -> Change:
        """Make one that ends what runs beside production, which answers alone then."""
        serving = channels.production or ended
        return cls(channels, action, channel, ended.version, serving.version, None, extra)


class ChannelsFile:
    """The ``channels.json`` of one model in one store."""

    def __init__(self, store: ObjectStore, model: str) -> None:
        self._store = store
        self._model = model
        self._path = f"{model}/{CHANNELS_FILE}"

    def read(self, *, newest: int | None = None) -> Channels:
        """Return the channels; empty ones when nothing was ever promoted.

        Args:
            newest: how many entries of the history to look at; None for all.

        Raises:
            InvalidManifest: they cannot be used.
        """
        try:
            content = self._store.read(self._path)
        except NotFound:
            return Channels()
        return Channels.from_json(content.data, content.generation, newest=newest)

    def read_if_changed(self, generation: int) -> Channels | None:
        """Return the channels, or None while they still have this generation, which is cheaper to ask.

        Raises:
            InvalidManifest: they cannot be used.
        """
        try:
            content = self._store.read_if_changed(self._path, generation)
        except NotFound:
            return None if generation == MUST_NOT_EXIST else Channels()
        return None if content is None else Channels.from_json(content.data, content.generation)

    def change(self, decide: Callable[[Channels], Change | None], *, who: str, reason: str) -> HistoryEntry | None:
        """Change the channels by compare-and-swap, deciding anew on fresh ones after each lost race.

        Args:
            decide: what becomes of a state, None for nothing; it raises where that state forbids the change.
            who: for the history.
            reason: for the history.

        Returns:
            The new line of the history, or None where nothing was to be changed.

        Raises:
            InvalidRequest: nobody is named.
            Conflict: too many others were faster.
            Unavailable: the store cannot be reached; where the change may have been made, that is said.
        """
        if not who:
            raise InvalidRequest("Expected the name of who makes the change; received nothing.")
        identity = uuid.uuid4().hex
        for _ in range(ATTEMPTS):
            channels = self.read()
            # A swap whose answer got lost comes back as a failed one: it is done, not to be repeated.
            if done := _entry(channels, identity):
                return done
            change = decide(channels)
            if change is None:
                return None
            entry = HistoryEntry(
                identity,
                now("milliseconds"),
                who,
                change.action,
                change.channel,
                change.from_version,
                change.to_version,
                reason,
                change.manifest_sha256,
                change.extra,
            )
            changed = replace(change.channels, history=(*channels.history, entry))
            try:
                self._store.write(
                    self._path, changed.to_json(), if_generation=channels.generation, content_type="application/json"
                )
            except PreconditionFailed:
                continue
            except Unavailable as error:
                if done := self._swapped(identity):
                    return done
                effect = f"{change.to_version} serves now" if change.channel == PRODUCTION else "that took effect"
                raise Unavailable(
                    f"{error} It is not certain whether {effect}: look with `admin_cli list` before you try again."
                ) from error
            return entry
        raise Conflict(f"{ATTEMPTS} others changed what {self._model} serves first. Try again.")

    def _swapped(self, identity: str) -> HistoryEntry | None:
        try:
            return _entry(self.read(), identity)
        except Unavailable:
            return None


def _entry(channels: Channels, identity: str) -> HistoryEntry | None:
    return next((entry for entry in channels.history if entry.id == identity), None)
