"""Makes one version ready to classify: reads it, verifies it and builds its interpreters, or says what is wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from classifier.errors import Corrupt, NotFound, Unavailable
from classifier.logs import log
from classifier.registry.channels import PRODUCTION, Channels, Pointer
from classifier.registry.manifest import MODEL_FILE, Manifest
from classifier.registry.rules import Registry
from classifier.settings import Settings
from classifier.storage.opening import open_store
from classifier.storage.protocol import ObjectStore

if TYPE_CHECKING:  # at run time it is imported while the model's bytes are read
    from classifier.serving.pool import Pool

UNMEASURED = 4
"""How many times its file's size a model takes at most, where its manifest does not tell."""
READ_WITHIN = 45.0
"""Seconds that a caller waits while another reads the file."""

Reason = Literal["missing", "corrupt", "unloadable", "unavailable", "memory"]
"""Why a version does not serve: not in the store, not what was promoted, not to be run, not to be read now, or (a
canary or a shadow) too large beside production."""


@dataclass(frozen=True)
class Fallback:
    """That another version serves than the pointer names, and why."""

    pointed: str
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A version that serves, or would serve; its manifest was read and verified."""

    manifest: Manifest
    channel: str
    pointer: Pointer
    fallback: Fallback | None = None
    """None where it is the version that the pointer names."""


@dataclass(frozen=True, kw_only=True)
class Loaded(Chosen):
    """A chosen version that is ready to classify."""

    pool: Pool
    loaded_ms: float

    @property
    def content(self) -> bytes:
        """The verified bytes of its model file."""
        return self.pool.content


@dataclass(frozen=True, kw_only=True)
class Fetched(Chosen):
    """A chosen version whose model file was read and verified."""

    content: bytes = field(repr=False)


class Unusable(Exception):
    """One version cannot serve; others may. Never told to a caller: ``error`` is."""

    def __init__(self, version: str, reason: Reason, error: Exception) -> None:
        super().__init__(f"{version} cannot be served: {error}")
        self.version = version
        self.reason = reason
        self.error = error

    def forget_frames(self) -> None:
        """Let go of the stacks, whose frames hold the model's bytes; it may be kept for minutes."""
        self.__traceback__ = None
        error: BaseException | None = self.error
        while error is not None:
            error.__traceback__ = None
            error = error.__cause__ or error.__context__


class Loader:
    """Loads versions from the store that the settings name. Making one reads nothing. For any thread.

    Args:
        settings: see `Settings`.
        make_room: called with the bytes that are needed before a version, or its file, is read.
    """

    def __init__(self, settings: Settings, make_room: Callable[[int], None] | None = None) -> None:
        self._settings = settings
        self.make_room = make_room or (lambda _: None)
        self.loads = 0
        """How many versions were loaded, for tests."""
        self._reading = threading.Lock()
        self._kept: tuple[str, bytes] | None = None
        """A verified model file and its SHA-256, until `forget`."""

    @cached_property
    def _registry(self) -> Registry:
        return Registry(open_store(self._settings.model_store), self._settings.model_name)

    @property
    def store(self) -> ObjectStore:
        """The store."""
        return self._registry.store

    def channels(self) -> Channels:
        """Read the pointer. Raises what `Registry.channels` raises."""
        return self._registry.channels()

    def channels_if_changed(self, channels: Channels) -> Channels | None:
        """Read the pointer unless it is what it was, which is cheaper to ask. Raises as `channels` does."""
        return self._registry.channels_if_changed(channels.generation)

    def choose(self, pointer: Pointer) -> Chosen:
        """Read a version's manifest.

        Args:
            pointer: without a SHA-256 where none was recorded; then whatever manifest there is counts.

        Raises:
            Unusable: it is missing or corrupt.
            Unavailable: the store cannot be reached.
        """
        try:
            if pointer.manifest_sha256:
                manifest = self._registry.manifest_at(pointer)
            else:
                manifest, sha256 = self._registry.manifest(pointer.version)
                pointer = Pointer(pointer.version, sha256)
        except (Corrupt, NotFound) as error:
            raise Unusable(pointer.version, _reason(error), error) from error
        return Chosen(manifest=manifest, channel=PRODUCTION, pointer=pointer)

    def fetch(self, pointer: Pointer) -> Fetched:
        """Read and verify a version's model file and load nothing. It is kept, for the next caller and for `load`.

        Raises:
            Unusable: it is missing or corrupt.
            Unavailable: the store cannot be reached.
        """
        chosen = self.choose(pointer)
        if not self.holds_file:
            self.make_room(chosen.manifest.files[MODEL_FILE].bytes)
        return Fetched(
            manifest=chosen.manifest, channel=chosen.channel, pointer=chosen.pointer, content=self._content(chosen)
        )

    def read(self, chosen: Chosen, name: str) -> bytes:
        """Read one of a version's files besides its model, and verify it. Raises what `Registry.read_file` raises."""
        return self._registry.read_file(chosen.manifest, name)

    @property
    def holds_file(self) -> bool:
        """Say whether a file is kept."""
        return self._kept is not None

    def forget(self) -> None:
        """Let go of the file that is kept."""
        self._kept = None

    def load(self, pointer: Pointer, *, warm: int = 0, threads: int | None = None) -> Loaded:
        """Read, verify and build. Bytes are verified before LiteRT sees them: it trusts what it is given.

        Args:
            pointer: see `choose`.
            warm: how many interpreters to build and run once, so that no request has to wait for that.
            threads: of each interpreter; by default as the settings say.

        Raises:
            Unusable: it is missing, corrupt or cannot be run.
            Unavailable: the store cannot be reached.
        """
        started, settings = time.perf_counter(), self._settings
        with ThreadPoolExecutor(1, thread_name_prefix="imports") as importer:
            imports = importer.submit(_import_runtime)
            chosen = self.choose(pointer)
            manifest, version = chosen.manifest, chosen.pointer.version
            self.make_room(memory_needed(manifest, settings.interpreters))
            content = self._content(chosen)
            imports.result()
        from classifier.serving.pool import Pool

        try:
            pool = Pool(
                content,
                size=settings.interpreters,
                threads=threads or settings.threads,
                wait=settings.wait,
                max_waiting=settings.max_waiting,
            )
            manifest.expect_fit(width=pool.width, height=pool.height, classes=pool.classes, gradcam=pool.has_heatmaps)
            pool.warm(warm)
        except Exception as error:
            raise Unusable(version, "unloadable", error) from error
        self.loads += 1
        loaded_ms = round((time.perf_counter() - started) * 1000, 1)
        log(
            "INFO",
            f"Loaded {version}.",
            version=version,
            variant=manifest.variant,
            sha256=manifest.files[MODEL_FILE].sha256[:12],
            bytes=len(content),
            loaded_ms=loaded_ms,
            interpreters=settings.interpreters,
            threads=settings.threads,
        )
        return Loaded(manifest=manifest, channel=chosen.channel, pointer=chosen.pointer, pool=pool, loaded_ms=loaded_ms)

    def _content(self, chosen: Chosen) -> bytes:
        """Return the verified bytes, which are read once however many callers wait for them, and held once."""
        sha256 = chosen.manifest.files[MODEL_FILE].sha256
        if not self._reading.acquire(timeout=READ_WITHIN):
            raise Unavailable(f"The file of {chosen.pointer.version} was not read within {READ_WITHIN:g} s.")
        try:
            if self._kept and self._kept[0] == sha256:
                return self._kept[1]
            self._kept = None
            try:
                content = self._registry.read_file(chosen.manifest, MODEL_FILE)
            except (Corrupt, NotFound) as error:
                raise Unusable(chosen.pointer.version, _reason(error), error) from error
            self._kept = (sha256, content)
            return content
        finally:
            self._reading.release()


def memory_needed(manifest: Manifest, interpreters: int) -> int:
    """Return about how many bytes a version takes: as it was measured at export, or what its file lets expect."""
    size = manifest.files[MODEL_FILE].bytes
    row = manifest.variants.get(manifest.variant)
    measured = row.get("memory_bytes") if isinstance(row, dict) else None
    if not isinstance(measured, int):
        return size * UNMEASURED
    return measured + (measured - size if measured > size else 0) * (interpreters - 1)


def _reason(error: Exception) -> Reason:
    return "missing" if isinstance(error, NotFound) or isinstance(error.__cause__, NotFound) else "corrupt"


def _import_runtime() -> None:
    """Import what a prediction needs, about 0.1 s that passes while the file is read and hashed."""
    import ai_edge_litert.interpreter  # noqa: F401
