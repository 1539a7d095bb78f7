"""What one instance serves: loaded at the first prediction, exactly once, and swapped when production moves."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifier.channels import PRODUCTION, Channels, Pointer
from classifier.errors import NotReady, PointerError
from classifier.logs import log
from classifier.manifest import MODEL_FILE, Manifest
from classifier.registry import Registry
from classifier.settings import Settings
from classifier.store import open_store

if TYPE_CHECKING:  # at run time it is imported while the model's bytes are read
    from classifier.pool import Pool


@dataclass(frozen=True)
class Chosen:
    """The version that the pointer names, its manifest read and verified."""

    manifest: Manifest
    channel: str
    pointer: Pointer


@dataclass(frozen=True)
class Loaded(Chosen):
    """A chosen version that is ready to classify."""

    pool: Pool
    loaded_ms: float


class Server:
    """Decides what serves. Making one reads nothing; `current` loads. Any thread may call any method."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loads = 0
        """How many times a version was loaded, for logs and tests."""
        self._lock = threading.Lock()
        self._registry: Registry | None = None
        self._serving: Loaded | None = None
        self._generation = 0
        self._flight: Future[Loaded] | None = None
        self._looking = False
        self._next_look = 0.0

    def current(self) -> Loaded:
        """Return what serves now: the one place that decides it.

        The first callers share one load, or its error; after an error the next caller tries again. Later
        callers never wait: when POINTER_TTL has passed, one starts a look at the pointer in the background.

        Raises:
            NotReady: nothing has been promoted.
            Corrupt: the promoted version is not what its manifest, or the pointer, promises.
            Unavailable: the store cannot be reached.
        """
        serving = self._serving
        if serving is None:
            return self._load_once()
        self._look_when_due()
        return serving

    def chosen(self) -> Chosen:
        """Return what serves, or would serve, without loading a model. Raises what `current` raises."""
        return self._serving or self._choose(self._open().channels())

    def _load_once(self) -> Loaded:
        with self._lock:
            if self._serving is not None:
                return self._serving
            flight, mine = self._flight, self._flight is None
            if flight is None:
                flight = self._flight = Future()
        if not mine:
            return flight.result()
        try:
            channels = self._open().channels()
            loaded = self._load(self._choose(channels))
        except BaseException as error:
            with self._lock:
                self._flight = None
            flight.set_exception(error)
            raise
        with self._lock:
            self._serving, self._generation, self._flight = loaded, channels.generation, None
            self._next_look = time.monotonic() + self.settings.pointer_ttl
        flight.set_result(loaded)
        return loaded

    def _look_when_due(self) -> None:
        with self._lock:
            if self._looking or time.monotonic() < self._next_look:
                return
            self._looking = True
        threading.Thread(target=self._look, name="pointer", daemon=True).start()

    def _look(self) -> None:
        """Follow the pointer: load what it names beside what serves, then swap. On an error change nothing."""
        try:
            channels = self._open().channels_if_changed(self._generation)
            if channels is not None:
                self._follow(channels)
        except Exception as error:  # noqa: BLE001 - whatever happened, this instance goes on serving what it has
            log("ERROR", "Could not follow the pointer; the instance serves what it has.", error=error)
        finally:
            with self._lock:
                self._next_look = time.monotonic() + self.settings.pointer_ttl
                self._looking = False

    def _follow(self, channels: Channels) -> None:
        serving = self._serving
        if serving is None or channels.production != serving.pointer:
            loaded = self._load(self._choose(channels))
            _warm(loaded)
            self._serving = loaded
        self._generation = channels.generation

    def _open(self) -> Registry:
        if self._registry is None:
            self._registry = Registry(open_store(self.settings.model_store), self.settings.model_name)
        return self._registry

    def _choose(self, channels: Channels) -> Chosen:
        pointer = channels.production
        if pointer is None:
            raise NotReady(
                f"No version of the model {self.settings.model_name!r} has been promoted yet. "
                "Run `admin_cli publish RUN`, then `admin_cli promote v1`."
            )
        return Chosen(self._open().manifest_at(pointer), PRODUCTION, pointer)

    def _load(self, chosen: Chosen) -> Loaded:
        """Read, verify and build. Bytes are verified before LiteRT sees them: it trusts what it is given."""
        started = time.perf_counter()
        manifest, pointer = chosen.manifest, chosen.pointer
        with ThreadPoolExecutor(1, thread_name_prefix="imports") as importer:
            imports = importer.submit(_import_runtime)
            content = self._open().read_file(manifest, MODEL_FILE)
            imports.result()
        from classifier.pool import Pool

        settings = self.settings
        pool = Pool(content, size=settings.interpreters, threads=settings.threads, wait=settings.wait)
        manifest.expect_fit(width=pool.width, height=pool.height, classes=pool.classes)
        self.loads += 1
        loaded_ms = round((time.perf_counter() - started) * 1000, 1)
        log("INFO", f"Loaded {pointer.version}.", version=pointer.version, loaded_ms=loaded_ms)
        return Loaded(manifest, chosen.channel, pointer, pool, loaded_ms)


def _import_runtime() -> None:
    """Import what a prediction needs, about 0.1 s that passes while the file is read and hashed."""
    import ai_edge_litert.interpreter  # noqa: F401

    import classifier.heatmap
    import classifier.pool
    import classifier.preprocessing  # noqa: F401


def _warm(loaded: Loaded) -> None:
    """Run one blank photo: the first run of an interpreter is its slowest."""
    import numpy as np

    with loaded.pool.model() as model:
        output = model.run(np.zeros((model.height, model.width, 3), np.uint8))
    if not np.isfinite([*output.probabilities, output.score]).all():
        raise PointerError(f"{loaded.pointer.version} gave probabilities or a score that are not numbers.")
