"""Every rule of versions: claim a number, publish, list, verify; and what is served of them, by `Rollouts`.

<model>/channels.json               the pointer and its history; each change is one compare-and-swap
<model>/versions/v7/claim.json      who took the number; create-only
<model>/versions/v7/manifest.json   written last, create-only: a version exists when its manifest does
<model>/versions/v7/...             the files that the manifest lists
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from classifier.errors import Corrupt, NotFound
from classifier.registry.bundle import entry_of, read_bundle, read_bundle_file
from classifier.registry.channels import Channels, Pointer
from classifier.registry.manifest import MANIFEST_FILE, Manifest
from classifier.registry.rollouts import Rollouts, expect_somebody
from classifier.registry.versions import (
    CheckedFile,
    Listing,
    Replay,
    VersionSummary,
    half_deleted,
)


class Registry(Rollouts):
    """The versions and channels of one model in one store.

    Every method raises `Unavailable` when the store cannot be reached.
    """

    def publish(self, bundle: Path, *, who: str, replay: Replay, public: tuple[str, ...] = ()) -> Manifest:
        """Check a bundle, replay its golden cases and store it as the next version; return its manifest.

        A version becomes visible with its last write. One that is interrupted before leaves a claimed number.

        Args:
            bundle: its folder.
            who: publishes it.
            replay: see `Replay`.
            public: see `Manifest.public`; what the bundle itself says of it does not count.

        Raises:
            NotFound, InvalidManifest, Corrupt, Refused: the bundle cannot be published, or was changed meanwhile;
                no version became visible.
        """
        expect_somebody(who)
        checked = read_bundle(bundle)
        replay(checked, lambda name: read_bundle_file(bundle, name))
        version = self._versions.claim(who)
        manifest = replace(checked, model=self.model, version=version, created_by=who, public=public)
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
