"""What a model's channels serve: promote, roll back, canary, shadow and the gate, each change one compare-and-swap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from classifier.errors import Conflict, InvalidRequest, Refused
from classifier.registry import canary, production, shadow
from classifier.registry.catalogue import expect_model
from classifier.registry.changes import Change, ChannelsFile
from classifier.registry.channels import ROLLBACK, Canary, Channels, HistoryEntry, Pointer
from classifier.registry.gate import Gate
from classifier.registry.versions import ATTEMPTS, Replay, Versions
from classifier.storage.names import check_model_name
from classifier.storage.protocol import ObjectStore

Judge = Callable[[Pointer, Gate], Sequence[str]]
"""Says why a version must not take the place of what serves, by the gate's thresholds."""


class Rollouts:
    """The channels of one model in one store; what they serve is verified before.

    Every method raises `Unavailable` when the store cannot be reached.
    """

    def __init__(self, store: ObjectStore, model: str) -> None:
        check_model_name(model)
        self.store = store
        self.model = model
        self._versions = Versions(store, model)
        self._channels = ChannelsFile(store, model)

    def expect_model(self) -> None:
        """Do nothing where the store holds anything of this model.

        Raises:
            NotFound: it does not; says which models it holds.
        """
        expect_model(self.store, self.model)

    def channels(self, *, newest: int | None = None) -> Channels:
        """Return what is served now and the history; see `ChannelsFile.read`."""
        return self._channels.read(newest=newest)

    def known_channels(self, *, newest: int | None = None) -> Channels:
        """Return the channels of a model that has any version; see `channels`.

        Raises:
            NotFound: the store holds nothing of this model; says which models it holds.
        """
        return self._known(self.channels(newest=newest))

    def _known(self, channels: Channels) -> Channels:
        if not channels.generation:
            self.expect_model()
        return channels

    def canary(self) -> Canary:
        """Return the version that a share of the callers gets.

        Raises:
            NotFound: there is none, or no such model.
        """
        return canary.expect(self.known_channels(newest=0))

    def channels_if_changed(self, generation: int) -> Channels | None:
        """Return the channels unless they have this generation; see `ChannelsFile.read_if_changed`."""
        return self._channels.read_if_changed(generation)

    def promote(
        self,
        version: str,
        *,
        who: str,
        reason: str,
        replay: Replay,
        expect: str | None = None,
        judge: Judge | None = None,
        force: bool = False,
    ) -> HistoryEntry | None:
        """Verify a version, replay its golden cases and make it what production serves.

        Args:
            version: such as "v7".
            who: for the history.
            reason: for the history.
            replay: replays the golden cases.
            expect: the version that production has to serve at that moment; None for any or none.
            judge: says why this version must not take the place of the one that serves at that moment; a first
                promotion is not held up.
            force: promote it whatever `judge` says, which the history records.

        Returns:
            The new entry of the history; None where production serves this version already: nothing was written.

        Raises:
            NotFound: not a published version.
            Corrupt, Refused: it does not verify, or `judge` has a reason; nothing was changed.
            Conflict: production serves another version than `expect`.
        """
        expect_somebody(who)
        channels = self._expecting(expect)
        if channels.production and channels.production.version == version:
            target = Pointer(version, self._versions.manifest(version)[1])
            if production.same(channels.production, target):
                return None
        target = Pointer(version, self._versions.verified(version, replay).manifest_sha256)
        for _ in range(ATTEMPTS):
            judged = channels
            reasons = list(judge(judged.production, judged.gate)) if judge and judged.production else []
            if reasons and not force:
                raise Refused(
                    f"{version} is not promoted: {'; '.join(reasons)}. "
                    "Mend it, change the gate, or promote it all the same with --force --reason TEXT."
                )
            try:
                return self._channels.change(
                    lambda now: production.promoted(now, target, expect, judged if judge else None, reasons),  # noqa: B023
                    who=who,
                    reason=reason,
                )
            except production.JudgedOther:
                channels = self._expecting(expect)
        raise Conflict(f"{ATTEMPTS} others changed what {self.model} serves first. Try again.")

    def _expecting(self, expect: str | None) -> Channels:
        channels = self.channels()
        production.expect_serving(channels, expect)
        return channels

    def rollback(self, *, who: str, reason: str, replay: Replay, to: str | None = None) -> HistoryEntry:
        """Make production serve what it served before the last promotion, or an earlier version `to`.

        Raises:
            Refused: there is nothing to go back to, or `to` is not something to go back to, or it does not
                repeat its golden cases; nothing was changed.
            Corrupt: the target does not verify; nothing was changed.
            Conflict: production was changed meanwhile; what to go back to has to be decided anew.
        """
        expect_somebody(who)
        before = self.known_channels()
        target = production.rollback_target(before, to)
        verified = self._versions.verified(target, replay)

        pointer = Pointer(target, verified.manifest_sha256)

        def decide(channels: Channels) -> Change:
            if channels.production != before.production or channels.served() != before.served():
                serving = channels.production.version if channels.production else "nothing"
                raise Conflict(
                    f"Production was changed during the rollback to {target} and serves {serving} now. "
                    "`admin_cli history` shows who changed it; decide anew."
                )
            return production.pointed(channels, pointer, ROLLBACK)

        entry = self._channels.change(decide, who=who, reason=reason)
        assert entry is not None  # noqa: S101 - `decide` always changes something
        return entry

    def start_canary(
        self, version: str, percent: float, *, who: str, reason: str, replay: Replay
    ) -> HistoryEntry | None:
        """Verify a version and give it to a share of the callers, or change the share of the canary that runs.

        Args:
            version: such as "v8".
            percent: of the callers, more than 0 and at most 100.
            who: for the history.
            reason: for the history.
            replay: replays the golden cases.

        Returns:
            The new entry of the history, or None where it has this share already.

        Raises:
            InvalidRequest: no such share.
            NotFound: not a published version.
            Corrupt, Refused: it does not verify, nothing is in production, or it serves there already.
            Conflict: another version is the canary, or the shadow.
        """
        canary.check_percent(percent)
        expect_somebody(who)
        # What cannot be is told before all is read.
        canary.started(self.known_channels(), Pointer(version, ""), percent)
        pointer = Pointer(version, self._versions.verified(version, replay).manifest_sha256)
        return self._channels.change(lambda state: canary.started(state, pointer, percent), who=who, reason=reason)

    def abort_canary(
        self, *, who: str, reason: str, version: str | None = None, figures: Mapping[str, Any] | None = None
    ) -> HistoryEntry:
        """End the canary: its callers get production again.

        Args:
            who: for the history.
            reason: for the history.
            version: only if this one is the canary.
            figures: what was seen, for the history.

        Raises:
            NotFound: there is no canary, or no such model.
            Conflict: another version is.
        """
        entry = self._channels.change(
            lambda state: canary.aborted(self._known(state), version, figures or {}), who=who, reason=reason
        )
        assert entry is not None  # noqa: S101 - an abort always changes something
        return entry

    def start_shadow(
        self, version: str, sample: float, *, who: str, reason: str, replay: Replay, keep_photos: bool = False
    ) -> HistoryEntry | None:
        """Verify a version and let it classify a sample of the photos too, or change the sample.

        Args:
            version: such as "v8".
            sample: of the photos that production answers, more than 0 and at most 1.
            who: for the history.
            reason: for the history.
            replay: replays the golden cases.
            keep_photos: keep those about which it disagrees with production, where their callers consent.

        Returns:
            The new entry of the history, or None where it does that already.

        Raises:
            InvalidRequest: no such share.
            NotFound: not a published version.
            Corrupt, Refused: it does not verify, nothing is in production, or it serves there already.
            Conflict: another version is the shadow, or one is the canary.
        """
        shadow.check_sample(sample)
        expect_somebody(who)
        shadow.started(self.known_channels(), Pointer(version, ""), sample, keep_photos=keep_photos)
        pointer = Pointer(version, self._versions.verified(version, replay).manifest_sha256)
        return self._channels.change(
            lambda state: shadow.started(state, pointer, sample, keep_photos=keep_photos), who=who, reason=reason
        )

    def stop_shadow(self, *, who: str, reason: str) -> HistoryEntry:
        """End the shadow. Raises `NotFound` where there is none, or no such model."""
        entry = self._channels.change(lambda state: shadow.stopped(self._known(state)), who=who, reason=reason)
        assert entry is not None  # noqa: S101 - it always changes something
        return entry

    def change(self, decide: Callable[[Channels], Change | None], *, who: str, reason: str) -> HistoryEntry | None:
        """Change the channels; see `ChannelsFile.change`."""
        return self._channels.change(decide, who=who, reason=reason)

    def set_gate(self, change: Callable[[Gate], Gate], *, who: str, reason: str) -> HistoryEntry | None:
        """Change the gate's thresholds; return the history's new entry, or None where they are that already."""
        return self._channels.change(
            lambda channels: production.gated(channels, change(channels.gate)), who=who, reason=reason
        )


def expect_somebody(who: str) -> None:
    """Refuse a change of nobody. Raises `InvalidRequest`."""
    if not who:
        raise InvalidRequest("Expected the name of who makes the change; received nothing.")
