"""The stored versions of one model: reading and verifying them, and the create-only writes that make one."""

from __future__ import annotations

import mimetypes
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from classifier.errors import Conflict, Corrupt, InvalidManifest, NotFound, PreconditionFailed, Unavailable
from classifier.registry import fields
from classifier.registry.bundle import Hasher, difference, entry_of
from classifier.registry.catalogue import PARALLEL_LOOKS, VERSION, VERSIONS_FOLDER, claimed, expect_model
from classifier.registry.fields import now
from classifier.registry.manifest import CLAIM_FILE, MANIFEST_FILE, MODEL_FILE, FileEntry, Manifest
from classifier.storage.protocol import MUST_NOT_EXIST, ObjectStore

Replay = Callable[[Manifest, Callable[[str], bytes]], None]
"""Replays a version's golden cases; gets the manifest and a reader of its files, raises `Refused`."""

ATTEMPTS = 50
"""How many rivals may be faster before a change is given up."""
PARALLEL_READS = 8
NAMED_VERSIONS = 10


@dataclass(frozen=True)
class VersionSummary:
    """One line of a list of versions."""

    version: str
    complete: bool
    """False for a number that was claimed and has no manifest."""
    manifest: Manifest | None
    problem: str | None
    """What is wrong with it as far as a listing shows; contents are not compared."""


def half_deleted(summary: VersionSummary) -> VersionSummary:
    """Return the line of a version of which a deletion that did not end has left something."""
    return VersionSummary(summary.version, False, None, "deleted, but not all of it: `admin_cli prune` finishes that")


@dataclass(frozen=True)
class Listing:
    """The newest versions, sorted by number."""

    versions: list[VersionSummary]
    older: bool
    """Whether there are others."""
    claimed: int
    """How many numbers were taken, finished or not."""


@dataclass(frozen=True)
class CheckedFile:
    """A file whose stored bytes are what the manifest promises."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Verified:
    """A version whose every file was compared and whose golden cases repeated."""

    manifest: Manifest
    manifest_sha256: str
    files: list[CheckedFile]


class Versions:
    """The versions of one model in one store."""

    def __init__(self, store: ObjectStore, model: str) -> None:
        self._store = store
        self._model = model
        self._prefix = f"{model}/{VERSIONS_FOLDER}/"

    def summaries(self, *, include_incomplete: bool) -> list[VersionSummary]:
        """Return all versions, sorted by number. One that cannot be used says so in `problem`."""
        stored = self._stored()
        chosen = [each for each in stored if include_incomplete or MANIFEST_FILE in stored[each]]
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            return list(pool.map(lambda version: self._summary(version, stored[version]), chosen))

    def newest(self, limit: int | None, *, include_incomplete: bool) -> Listing:
        """Return the newest versions, reading nothing of the others; all for None."""
        if limit is None:
            summaries = self.summaries(include_incomplete=include_incomplete)
            return Listing(summaries, False, len(summaries))
        numbers = claimed(self._store, self._model)
        waiting = numbers[::-1]
        found: list[VersionSummary] = []
        with ThreadPoolExecutor(min(PARALLEL_LOOKS, 2 * limit)) as pool:
            while waiting and len(found) < limit:
                batch, waiting = waiting[: limit - len(found)], waiting[limit - len(found) :]
                sizes = [pool.submit(self._sizes, version) for version in batch]
                manifests = [pool.submit(self._read_manifest, version) for version in batch]
                for version, files, manifest in zip(batch, sizes, manifests, strict=True):
                    if MANIFEST_FILE in files.result() or (include_incomplete and files.result()):
                        found.append(self._summary(version, files.result(), manifest.result))
        return Listing(found[::-1], bool(waiting), len(numbers))

    def manifest(self, version: str) -> tuple[Manifest, str]:
        """Return a version's manifest and the SHA-256 of its bytes.

        Raises:
            NotFound: not a published version; says which there are, or which models.
            InvalidManifest: it cannot be used.
        """
        try:
            if VERSION.fullmatch(version):
                return self._read_manifest(version)
        except NotFound:
            pass
        listing = self.newest(NAMED_VERSIONS, include_incomplete=False)
        if not listing.claimed:
            expect_model(self._store, self._model)
        published = [each.version for each in listing.versions]
        if not published:
            raise NotFound(
                f"Expected a published version of {self._model} in {self._store.url}; received {version!r}, "
                "and nothing is published yet. `admin_cli publish` publishes the first."
            )
        more = "…, " if listing.older else ""
        raise NotFound(
            f"Expected one of {more}{', '.join(published)}; received {version!r}. "
            "`admin_cli list` shows what is published."
        )

    def read_file(self, manifest: Manifest, name: str) -> bytes:
        """Return the bytes of one of a version's files, compared with its manifest.

        Raises:
            NotFound: the manifest lists no such file.
            Corrupt: missing, or other bytes than the manifest promises.
        """
        if name not in manifest.files:
            raise NotFound(
                f"Expected one of the files of {manifest.version} of {self._model}: "
                f"{', '.join(sorted(manifest.files))}; received {name!r}."
            )
        try:
            data = self._store.read(self._path(manifest.version, name)).data
        except NotFound as error:
            raise self.damaged(manifest, [f"{name} is missing"]) from error
        problem = difference(name, manifest.files[name], entry_of(data))
        if problem:
            raise self.damaged(manifest, [problem])
        return data

    def verified(self, version: str, replay: Replay) -> Verified:
        """Compare every file of a version with its manifest, then replay its golden cases.

        Raises:
            NotFound: not a published version.
            Corrupt: names each file at fault, with what was expected and found.
            Refused: a golden case does not repeat.
        """
        manifest, sha256 = self.manifest(version)
        # What the replay reads is read once, whole; the rest, which may be large, only passes through.
        needed = {MODEL_FILE, *(case.file for case in manifest.golden)}
        contents: dict[str, bytes] = {}

        def problem(name: str) -> str | None:
            path = self._path(version, name)
            try:
                if name not in needed:
                    return difference(name, manifest.files[name], self._hashed(path))
                contents[name] = self._store.read(path).data
            except NotFound:
                return f"{name} is missing"
            return difference(name, manifest.files[name], entry_of(contents[name]))

        names = sorted(manifest.files)
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            problems = [each for each in pool.map(problem, names) if each]
        if problems:
            raise self.damaged(manifest, problems)
        replay(manifest, lambda name: contents[name] if name in contents else self.read_file(manifest, name))
        checked = [CheckedFile(name, manifest.files[name].bytes, manifest.files[name].sha256) for name in names]
        return Verified(manifest, sha256, checked)

    def claim(self, who: str) -> str:
        """Take the next free number, as whose no other publisher can, and return it, such as "v7".

        Raises:
            Conflict: too many others took numbers at the same time.
        """
        claim = {"id": uuid.uuid4().hex, "who": who, "time": now("milliseconds")}
        data = fields.write_json(claim, CLAIM_FILE)
        number = 0
        for _ in range(ATTEMPTS):
            number = max([number, *(int(version[1:]) for version in claimed(self._store, self._model))]) + 1
            try:
                self.create(f"v{number}", CLAIM_FILE, data, entry_of(data))
            except PreconditionFailed:
                continue
            return f"v{number}"
        raise Conflict(f"{ATTEMPTS} others took the next number of {self._model} first. Try again.")

    def create(self, version: str, name: str, data: bytes | Path, entry: FileEntry) -> None:
        """Write one of a version's files, which must not exist yet.

        Raises:
            PreconditionFailed: somebody else wrote it, with other bytes.
        """
        path = self._path(version, name)
        content_type = mimetypes.guess_type(name)[0]
        try:
            self._store.write(path, data, if_generation=MUST_NOT_EXIST, content_type=content_type)
        except (PreconditionFailed, Unavailable):
            # The write may have happened and only its answer got lost.
            if not self._holds(path, entry):
                raise

    def damaged(self, manifest: Manifest, problems: list[str]) -> Corrupt:
        """Return the error to raise for a version that is not what was published."""
        return Corrupt(
            f"{manifest.version} of {self._model} is damaged: {'; '.join(problems)}. "
            "Roll back if it serves, and publish the run again.",
            store=self._store.url,
        )

    def _path(self, version: str | None, name: str) -> str:
        return f"{self._prefix}{version}/{name}"

    def _sizes(self, version: str) -> dict[str, int]:
        """Return a version's files and their sizes in bytes."""
        prefix = self._path(version, "")
        return {item.name.removeprefix(prefix): item.size for item in self._store.list(prefix)}

    def _stored(self) -> dict[str, dict[str, int]]:
        """Return every claimed number's files and their sizes in bytes, sorted by number."""
        found: dict[str, dict[str, int]] = {}
        for item in self._store.list(self._prefix):
            version, _, name = item.name.removeprefix(self._prefix).partition("/")
            if name and VERSION.fullmatch(version):
                found.setdefault(version, {})[name] = item.size
        return {version: found[version] for version in sorted(found, key=lambda each: int(each[1:]))}

    def _summary(
        self, version: str, sizes: dict[str, int], read: Callable[[], tuple[Manifest, str]] | None = None
    ) -> VersionSummary:
        """Return a version's line.

        Args:
            version: which.
            sizes: its files and their sizes in bytes.
            read: gives its manifest; by default it is read now.
        """
        if MANIFEST_FILE not in sizes:
            return VersionSummary(version, False, None, self._claimed_by(version))
        try:
            manifest, _ = read() if read else self._read_manifest(version)
        except (Corrupt, NotFound) as error:
            return VersionSummary(version, True, None, str(error))
        wrong = [name for name, entry in sorted(manifest.files.items()) if sizes.get(name) != entry.bytes]
        problem = f"missing or of another size: {', '.join(wrong)}" if wrong else None
        return VersionSummary(version, True, manifest, problem)

    def _claimed_by(self, version: str) -> str:
        try:
            claim = fields.read_object(self._store.read(self._path(version, CLAIM_FILE)).data, CLAIM_FILE)
            return f"claimed by {claim.text('who')} at {claim.time('time')}, not finished"
        except (Corrupt, NotFound):
            return "not finished"

    def _read_manifest(self, version: str) -> tuple[Manifest, str]:
        data = self._store.read(self._path(version, MANIFEST_FILE)).data
        try:
            manifest = Manifest.from_json(data)
            for field, expected in (("model", self._model), ("version", version)):
                found = getattr(manifest, field)
                if found != expected:
                    raise InvalidManifest(f"Expected {field} to be {expected!r}; received {found!r}.", field=field)
        except InvalidManifest as error:
            raise InvalidManifest(
                f"{version} of {self._model} cannot be used. {error}", field=error.field, store=self._store.url
            ) from error
        return manifest, entry_of(data).sha256

    def _hashed(self, path: str) -> FileEntry:
        hasher = Hasher()
        self._store.download(path, cast(BinaryIO, hasher))
        return hasher.entry()

    def _holds(self, path: str, entry: FileEntry) -> bool:
        try:
            return difference(path, entry, self._hashed(path)) is None
        except (NotFound, Unavailable):
            return False
