"""Those who change what serves at the same moment, and what the history says that came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from classifier.errors import Conflict, NotFound, Refused
from classifier.registry.channels import Channels, HistoryEntry
from classifier.registry.gate import Gate
from classifier.registry.manifest import MODEL_FILE, Manifest
from classifier.registry.rules import Registry


def replay(manifest: Manifest, read_file: Callable[[str], bytes]) -> None:
    """Read what serves; `bundles.replay_bytes` imports what eight processes would wait for."""
    read_file(MODEL_FILE)


def wish(registry: Registry, text: str, *, who: str) -> HistoryEntry | None:
    """Do what a text says, such as "canary v2 10"; None where it did not take effect, for a reason that rivals give."""
    what, *rest = text.split()
    options: dict[str, Any] = {"who": who, "reason": text}
    try:
        if what == "promote":
            return promote_as_judged(registry, rest[0], **options)
        if what == "rollback":
            return registry.rollback(replay=replay, **options)
        if what == "canary":
            return registry.start_canary(rest[0], float(rest[1]), replay=replay, **options)
        if what == "shadow":
            return registry.start_shadow(rest[0], float(rest[1]), replay=replay, **options)
        if what == "gate":
            return registry.set_gate(lambda gate: gate.changed("class_drop", rest[0]), **options)
        return {"abort": registry.abort_canary, "stop": registry.stop_shadow}[what](**options)
    except (Conflict, NotFound, Refused):
        return None


def promote_as_judged(registry: Registry, version: str, **options: Any) -> HistoryEntry | None:
    """Promote through a gate that lets everything pass: over nothing but what it was compared with last."""
    judged = []
    entry = registry.promote(
        version, replay=replay, judge=lambda serving, gate: judged.append(serving.version) or (), **options
    )
    assert entry is None or judged[-1] == entry.from_version, (judged, entry)
    return entry


class Told:
    """What the history tells that the channels are: every entry starts from what the one before left."""

    def __init__(self) -> None:
        self.production: str | None = None
        self.served: list[str] = []
        self.canary: tuple[str, float] | None = None
        self.shadow: tuple[str, float] | None = None
        self.gate = Gate()

    def take(self, entry: HistoryEntry) -> None:
        steps: dict[str, Callable[[HistoryEntry], None]] = {
            "promote": self._promoted,
            "rollback": self._rolled_back,
            "canary start": self._canary_started,
            "canary percent": self._canary_raised,
            "canary abort": self._canary_aborted,
            "shadow start": self._shadow_started,
            "shadow change": self._shadow_changed,
            "shadow stop": self._shadow_stopped,
            "gate": self._gate_set,
        }
        steps[entry.action](entry)

    def expect(self, channels: Channels, manifests: Callable[[str], str]) -> None:
        """Expect the channels to be so, each with its version's manifest."""
        assert channels.production is not None
        assert (channels.production.version, channels.gate, channels.served()) == (
            self.production, self.gate, self.served,
        )  # fmt: skip
        assert (channels.canary and (channels.canary.version, channels.canary.percent)) == self.canary
        assert (channels.shadow and (channels.shadow.version, channels.shadow.sample)) == self.shadow
        for pointer in (channels.production, channels.canary, channels.shadow):
            assert pointer is None or pointer.manifest_sha256 == manifests(pointer.version)

    def _serve(self, entry: HistoryEntry) -> None:
        assert entry.from_version == self.production != entry.to_version
        self.production = entry.to_version
        self.canary = None if self.canary and self.canary[0] == self.production else self.canary
        self.shadow = None if self.shadow and self.shadow[0] == self.production else self.shadow

    def _promoted(self, entry: HistoryEntry) -> None:
        self._serve(entry)
        self.served.append(entry.to_version)

    def _rolled_back(self, entry: HistoryEntry) -> None:
        self._serve(entry)
        self.served.pop()
        assert self.served[-1] == entry.to_version

    def _canary_started(self, entry: HistoryEntry) -> None:
        assert entry.from_version is self.canary is None
        assert self.shadow is None or self.shadow[0] == entry.to_version
        assert entry.to_version != self.production
        self.canary, self.shadow = (entry.to_version, entry.extra["percent"]), None

    def _canary_raised(self, entry: HistoryEntry) -> None:
        assert self.canary == (entry.from_version, entry.extra["from_percent"])
        assert entry.from_version == entry.to_version
        self.canary = entry.to_version, entry.extra["percent"]

    def _canary_aborted(self, entry: HistoryEntry) -> None:
        assert self.canary == (entry.from_version, entry.extra["percent"])
        assert entry.to_version == self.production
        self.canary = None

    def _shadow_started(self, entry: HistoryEntry) -> None:
        assert entry.from_version is self.shadow is self.canary is None
        assert entry.to_version != self.production
        self.shadow = entry.to_version, entry.extra["sample"]

    def _shadow_changed(self, entry: HistoryEntry) -> None:
        assert self.shadow == (entry.from_version, entry.extra["from_sample"])
        self.shadow = entry.to_version, entry.extra["sample"]

    def _shadow_stopped(self, entry: HistoryEntry) -> None:
        assert self.shadow == (entry.from_version, entry.extra["sample"])
        assert entry.to_version == self.production
        self.shadow = None

    def _gate_set(self, entry: HistoryEntry) -> None:
        name, _, value = entry.to_version.partition("=")
        assert entry.from_version == f"{name}={self.gate.class_drop:g}"
        self.gate = self.gate.changed(name, value)
