"""Every rule of versions: claim a number, publish, list, promote, roll back, verify.

<model>/channels.json               the pointer and its history; each change is one compare-and-swap
<model>/versions/v7/claim.json      who took the number; create-only
<model>/versions/v7/manifest.json   written last, create-only: a version exists when its manifest does
<model>/versions/v7/...             the files that the manifest lists
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from classifier.errors import Conflict, Corrupt, InvalidRequest, NotFound, Refused
from classifier.registry import canary, production, shadow
from classifier.registry.bundle import entry_of, read_bundle, read_bundle_file
from classifier.registry.catalogue import expect_model
from classifier.registry.changes import Change, ChannelsFile
from classifier.registry.channels import ROLLBACK, Channels, HistoryEntry, Pointer
from classifier.registry.gate import Gate
from classifier.registry.manifest import MANIFEST_FILE, Manifest
from classifier.registry.versions import (
    ATTEMPTS,
    CheckedFile,
    Listing,
    Replay,
    Versions,
    VersionSummary,
    half_deleted,
)
from classifier.storage.names import check_model_name
from classifier.storage.protocol import ObjectStore

__all__ = ["CheckedFile", "Judge", "Listing", "Registry", "Replay", "VersionSummary"]


Judge = Callable[[Pointer, Gate], Sequence[str]]
"""Says why a version must not take the place of what serves, by the gate's thresholds."""


class Registry:
    """The versions and channels of one model in one store.

    Every method raises `Unavailable` when the store cannot be reached.
    """

    def __init__(self, store: ObjectStore, model: str) -> None:
        check_model_name(model)
        self.store = store
        self.model = model
        self._versions = Versions(store, model)
        self._channels = ChannelsFile(store, model)

    def publish(self, bundle: Path, *, who: str, replay: Replay) -> Manifest:
        """Check a bundle, replay its golden cases and store it as the next version; return its manifest.

        A version becomes visible with its last write. One that is interrupted before leaves a claimed number.

        Raises:
            NotFound, InvalidManifest, Corrupt, Refused: the bundle cannot be published, or was changed meanwhile;
                no version became visible.
        """
        _expect_somebody(who)
        checked = read_bundle(bundle)
        replay(checked, lambda name: read_bundle_file(bundle, name))
        version = self._versions.claim(who)
        manifest = replace(checked, model=self.model, version=version, created_by=who)
        for name in sorted(manifest.files):
            self._versions.create(version, name, bundle / name, manifest.files[name])
        # The files were hashed, then read again to be sent: a manifest of other bytes could never be verified.
        if read_bundle(bundle) != checked:
            raise Corrupt(f"The bundle {bundle} was changed while it was published. Publish it again.")
        data = manifest.to_json()
        self._versions.create(version, MANIFEST_FILE, data, entry_of(data))
        return manifest

    def versions(self, *, include_incomplete: bool = False) -> list[VersionSummary]:
        """Return all versions, sorted by number. One that cannot be used says so in `problem`."""
        return self._versions.summaries(include_incomplete=include_incomplete)

    def newest_versions(self, limit: int | None, *, include_incomplete: bool = False) -> tuple[Listing, Channels]:
        """Return the newest versions (all for None) and what serves, in few round trips; see `versions`.

        The channels have no history. A version whose deletion has begun is none any more; what is left of it counts as
        incomplete.

        Raises:
            NotFound: the store holds nothing of this model; says which models it holds.
        """
        with ThreadPoolExecutor(1) as pool:
            channels = pool.submit(self.channels, newest=0)
            listing = self._versions.newest(limit, include_incomplete=include_incomplete)
        if not listing.claimed and not channels.result().generation:
            self.expect_model()
        pruned = channels.result().pruned()
        kept = [each for each in listing.versions if each.version not in pruned]
        left = [half_deleted(each) for each in listing.versions if each.version in pruned and include_incomplete]
        shown = sorted([*kept, *left], key=lambda each: int(each.version[1:]))
        return replace(listing, versions=shown), channels.result()

    def expect_model(self) -> None:
        """Do nothing where the store holds anything of this model.

        Raises:
            NotFound: it does not; says which models it holds.
        """
        expect_model(self.store, self.model)

    def manifest(self, version: str) -> tuple[Manifest, str]:
        """Return a version's manifest and the SHA-256 of its bytes.

        Raises:
            NotFound: not a published version; says which there are.
            InvalidManifest: it cannot be used.
        """
        return self._versions.manifest(version)

    def manifest_at(self, pointer: Pointer) -> Manifest:
        """Return the manifest of the version that a channel serves, compared with what was promoted.

        Raises:
            Corrupt: it is missing, cannot be used, or is not the one that was promoted.
        """
        try:
            manifest, sha256 = self._versions.manifest(pointer.version)
        except NotFound as error:
            raise Corrupt(
                f"The pointer names {pointer.version} of {self.model}, which the store does not hold. "
                "Promote another version.",
                store=self.store.url,
            ) from error
        if sha256 != pointer.manifest_sha256:
            raise Corrupt(
                f"Expected the file {MANIFEST_FILE} of {pointer.version} to have the SHA-256 "
                f"{pointer.manifest_sha256}, which the pointer records; found {sha256}.",
                store=self.store.url,
            )
        return manifest

    def read_file(self, manifest: Manifest, name: str) -> bytes:
        """Return the bytes of one of a published version's files, compared with the manifest.

        Raises:
            NotFound: the manifest lists no such file.
            Corrupt: missing, or other bytes than the manifest promises.
        """
        return self._versions.read_file(manifest, name)

    def channels(self, *, newest: int | None = None) -> Channels:
        """Return what is served now and the history; see `ChannelsFile.read`."""
        return self._channels.read(newest=newest)

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
        _expect_somebody(who)
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
        _expect_somebody(who)
        before = self.channels()
        if not before.generation:
            self.expect_model()
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
        _expect_somebody(who)
        canary.started(self.channels(), Pointer(version, ""), percent)  # what cannot be is told before all is read
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
            NotFound: there is no canary.
            Conflict: another version is.
        """
        entry = self._channels.change(
            lambda state: canary.aborted(state, version, figures or {}), who=who, reason=reason
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
        _expect_somebody(who)
        shadow.started(self.channels(), Pointer(version, ""), sample, keep_photos=keep_photos)
        pointer = Pointer(version, self._versions.verified(version, replay).manifest_sha256)
        return self._channels.change(
            lambda state: shadow.started(state, pointer, sample, keep_photos=keep_photos), who=who, reason=reason
        )

    def stop_shadow(self, *, who: str, reason: str) -> HistoryEntry:
        """End the shadow. Raises `NotFound` where there is none."""
        entry = self._channels.change(shadow.stopped, who=who, reason=reason)
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

    def verify(self, version: str, *, replay: Replay) -> list[CheckedFile]:
        """Compare all that is stored of a version with its manifest and the pointer, and replay its cases.

        Raises:
            NotFound: not a published version.
            Corrupt: names each file at fault, with what was expected and found.
            Refused: a golden case does not repeat.
        """
        verified = self._versions.verified(version, replay)
        found = verified.manifest_sha256
        channels = self.channels()
        for pointer in (channels.production, channels.canary, channels.shadow):
            if pointer and pointer.version == version and pointer.manifest_sha256 != found:
                problem = f"{MANIFEST_FILE} was promoted with the SHA-256 {pointer.manifest_sha256}; found {found}"
                raise self._versions.damaged(verified.manifest, [problem])
        return verified.files


def _expect_somebody(who: str) -> None:
    if not who:
        raise InvalidRequest("Expected the name of who makes the change; received nothing.")
