"""Every rule of versions: claim a number, publish, list, promote, roll back, verify.

<model>/channels.json               the pointer and its history; each change is one compare-and-swap
<model>/versions/v7/claim.json      who took the number; create-only
<model>/versions/v7/manifest.json   written last, create-only: a version exists when its manifest does
<model>/versions/v7/...             the files that the manifest lists
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from classifier.errors import Conflict, Corrupt, InvalidRequest, NotFound, PreconditionFailed, Refused, Unavailable
from classifier.registry.bundle import entry_of, read_bundle, read_bundle_file
from classifier.registry.catalogue import expect_model
from classifier.registry.channels import CHANNELS_FILE, PRODUCTION, PROMOTE, ROLLBACK, Channels, HistoryEntry, Pointer
from classifier.registry.fields import now
from classifier.registry.manifest import MANIFEST_FILE, Manifest
from classifier.registry.versions import ATTEMPTS, CheckedFile, Listing, Replay, Versions, VersionSummary
from classifier.storage.names import check_model_name
from classifier.storage.protocol import MUST_NOT_EXIST, ObjectStore

__all__ = ["CheckedFile", "Listing", "Registry", "Replay", "VersionSummary"]


class _ServesAlready(Exception):
    """Production serves what was to be promoted."""


class Registry:
    """The versions and channels of one model in one store.

    Every method raises `Unavailable` when the store cannot be reached.
    """

    def __init__(self, store: ObjectStore, model: str) -> None:
        check_model_name(model)
        self.store = store
        self.model = model
        self._versions = Versions(store, model)
        self._channels_path = f"{model}/{CHANNELS_FILE}"

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

        The channels have no history.

        Raises:
            NotFound: the store holds nothing of this model; says which models it holds.
        """
        with ThreadPoolExecutor(1) as pool:
            channels = pool.submit(self.channels, newest=0)
            listing = self._versions.newest(limit, include_incomplete=include_incomplete)
        if not listing.claimed and not channels.result().generation:
            self.expect_model()
        return listing, channels.result()

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
        """Return what is served now and the history; empty when nothing was ever promoted.

        Args:
            newest: how many entries of the history to look at; None for all.

        Raises:
            InvalidManifest: it cannot be used.
        """
        try:
            content = self.store.read(self._channels_path)
        except NotFound:
            return Channels()
        return Channels.from_json(content.data, content.generation, newest=newest)

    def channels_if_changed(self, generation: int) -> Channels | None:
        """Return the channels, or None while they still have this generation, which is cheaper to ask.

        Raises:
            InvalidManifest: they cannot be used.
        """
        try:
            content = self.store.read_if_changed(self._channels_path, generation)
        except NotFound:
            return None if generation == MUST_NOT_EXIST else Channels()
        return None if content is None else Channels.from_json(content.data, content.generation)

    def promote(
        self, version: str, *, who: str, reason: str, replay: Replay, expect: str | None = None
    ) -> HistoryEntry | None:
        """Verify a version, replay its golden cases and make it what production serves.

        Args:
            version: such as "v7".
            who: for the history.
            reason: for the history.
            replay: replays the golden cases.
            expect: the version that production has to serve at that moment; None for any or none.

        Returns:
            The new entry of the history; None where production serves this version already: nothing was written.

        Raises:
            NotFound: not a published version.
            Corrupt, Refused: it does not verify; nothing was changed.
            Conflict: production serves another version than `expect`.
        """
        _expect_somebody(who)

        def check(channels: Channels) -> None:
            serving = channels.production.version if channels.production else None
            if expect is not None and serving != expect:
                raise Conflict(
                    f"Expected production to serve {expect}; it serves {serving or 'nothing'}. "
                    "`admin_cli history` shows who changed it."
                )

        def check_again(channels: Channels) -> None:
            check(channels)
            if _same(channels.production, target):
                raise _ServesAlready

        channels = self.channels()
        check(channels)
        if channels.production and channels.production.version == version:
            target = Pointer(version, self._versions.manifest(version)[1])
            if _same(channels.production, target):
                return None
        target = Pointer(version, self._versions.verified(version, replay).manifest_sha256)
        try:
            return self._point(target, PROMOTE, who, reason, check_again)
        except _ServesAlready:
            return None

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
        target = _rollback_target(before, to)
        verified = self._versions.verified(target, replay)

        def check(channels: Channels) -> None:
            if channels.production != before.production or channels.served() != before.served():
                serving = channels.production.version if channels.production else "nothing"
                raise Conflict(
                    f"Production was changed during the rollback to {target} and serves {serving} now. "
                    "`admin_cli history` shows who changed it; decide anew."
                )

        return self._point(Pointer(target, verified.manifest_sha256), ROLLBACK, who, reason, check)

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

    def _point(
        self, pointer: Pointer, action: str, who: str, reason: str, check: Callable[[Channels], None]
    ) -> HistoryEntry:
        """Point production at a version by compare-and-swap; `check` refuses a state that forbids it."""
        identity = uuid.uuid4().hex
        for _ in range(ATTEMPTS):
            channels = self.channels()
            # A swap whose answer got lost comes back as a failed one: it is done, not to be repeated.
            if done := _entry(channels, identity):
                return done
            check(channels)
            serving = channels.production.version if channels.production else None
            entry = HistoryEntry(
                identity,
                now("milliseconds"),
                who,
                action,
                PRODUCTION,
                serving,
                pointer.version,
                reason,
                pointer.manifest_sha256,
            )
            changed = replace(channels, production=pointer, history=(*channels.history, entry))
            try:
                self.store.write(
                    self._channels_path,
                    changed.to_json(),
                    if_generation=channels.generation,
                    content_type="application/json",
                )
            except PreconditionFailed:
                continue
            except Unavailable as error:
                if done := self._swapped(identity):
                    return done
                raise Unavailable(
                    f"{error} It is not certain whether {pointer.version} serves now: "
                    "look with `admin_cli list` before you try again."
                ) from error
            return entry
        raise Conflict(f"{ATTEMPTS} others changed what {self.model} serves first. Try again.")

    def _swapped(self, identity: str) -> HistoryEntry | None:
        try:
            return _entry(self.channels(), identity)
        except Unavailable:
            return None


def _same(one: Pointer | None, other: Pointer) -> bool:
    return one is not None and (one.version, one.manifest_sha256) == (other.version, other.manifest_sha256)


def _entry(channels: Channels, identity: str) -> HistoryEntry | None:
    return next((entry for entry in channels.history if entry.id == identity), None)


def _expect_somebody(who: str) -> None:
    if not who:
        raise InvalidRequest("Expected the name of who makes the change; received nothing.")


def _rollback_target(channels: Channels, to: str | None) -> str:
    """Return the version to go back to: one that production served and that was not rolled back since."""
    *earlier, _ = channels.served() or [""]
    if not earlier:
        raise Refused(
            "Expected an earlier version in production to roll back to; there is none. "
            "`admin_cli promote` makes any published version serve."
        )
    if to is None:
        return earlier[-1]
    serving = channels.production.version if channels.production else None
    if to not in earlier or to == serving:
        choices = list(dict.fromkeys(version for version in earlier if version != serving))
        raise Refused(
            f"Expected one of {', '.join(choices)} to roll back to, which served before; received {to!r}. "
            "`admin_cli promote` makes any published version serve."
        )
    return to
