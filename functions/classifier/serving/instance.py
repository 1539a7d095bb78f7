"""What one instance serves: loaded once, swapped when the pointer moves, and the last good version whatever happens."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from classifier.errors import NotReady
from classifier.fair_queue import FairQueue
from classifier.logs import log
from classifier.registry.channels import CANARY, PRODUCTION, Channels, Pointer
from classifier.serving.assignment import gets_canary
from classifier.serving.backoffs import Backoffs
from classifier.serving.canary import CanaryLane
from classifier.serving.loader import Chosen, Fallback, Fetched, Loaded, Loader, Unusable
from classifier.serving.looks import Looks
from classifier.serving.shadow import ShadowLane
from classifier.serving.shared_load import SharedLoad
from classifier.settings import Settings

if TYPE_CHECKING:
    from classifier.serving.pool import Pool

LONGEST_REQUEST = 60.0
"""Seconds after which no request can be using a pool that was replaced."""

_C = TypeVar("_C", bound=Chosen)


class Instance:
    """Decides what serves. Making one reads nothing; `current` loads. Any thread may call any method.

    Args:
        settings: see `Settings`.
        fall_back: whether an earlier version may serve at first; False where production's own is asked for.
        make_room: called with the bytes that are needed before a version, or its file, is read.
        cold: where callers line up who have to wait for a store because nothing is loaded; None lets all of them wait.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        fall_back: bool = True,
        make_room: Callable[[int], None] | None = None,
        cold: FairQueue | None = None,
    ) -> None:
        self.settings = settings
        self._queue = cold
        self._fall_back = fall_back
        self._loader = Loader(settings, make_room)
        self._serving: Loaded | None = None
        self._first_load = SharedLoad[Loaded](lambda: self._follow_beside(self._channels))
        self._channels = Channels()
        """As they were last read."""
        self._backoffs = Backoffs(settings.pointer_ttl)
        self._replaced: tuple[weakref.ref[Pool], float] | None = None
        """The pool that served before, and since when it does not."""
        self._looks = Looks(self._look, settings.pointer_ttl)
        self._reachable = True
        self.canary = CanaryLane(settings, self._loader)
        self.shadow = ShadowLane(settings, self._loader)
        self._following = threading.Lock()
        self._told: dict[str, Chosen] = {}
        """What a cold instance told last of what it would serve in each channel, with the file if it was asked for."""

    @property
    def is_loaded(self) -> bool:
        """Say whether a version, or the file of one, is in memory."""
        return self._serving is not None or bool(self._told) or self._loader.holds_file

    @property
    def loads(self) -> int:
        """How many times a version was loaded, for tests."""
        return self._loader.loads

    def current(self, caller: str | None = None) -> Loaded:
        """Return what serves a caller now: the one place that decides it.

        The first callers share one load, or its error; after an error the next caller tries again. A version that
        cannot be served gives way to the one that production served before it, and so on down the history. Later
        callers do not wait while others keep the instance busy: when POINTER_TTL has passed, one starts a look at the
        pointer in the background. `Looks` says who waits for it after a quiet time.

        Args:
            caller: whom `assignment.gets_canary` decides about; None for production.

        Raises:
            NotReady: nothing has been promoted.
            Corrupt: the promoted version is not what its manifest, or the pointer, promises, and no earlier one is.
            Unavailable: the store cannot be reached, or not within the seconds of `SharedLoad`.
            Overloaded: the instance was told to end before it had loaded, or too many wait for a first load already.
        """
        if self._serving is None:
            with self._in_line():
                loaded = self._first_load.shared(lambda: self._serving, self._load_first)
            return self.canary.for_caller(caller) or loaded
        self._looks.look_when_due()
        return self.canary.for_caller(caller) or self._serving  # maybe another than before

    def chosen(self, caller: str | None = None, *, in_line: bool = True) -> Chosen:
        """Return what serves a caller, or would serve as far as manifests tell, without loading a model.

        Args:
            caller: see `current`.
            in_line: whether to line up where the store has to be read; False for who takes no thread of the server's.

        Raises what `current` raises.
        """
        if self._serving is None:
            return self._cold(Chosen, self._choose, caller, in_line=in_line)
        self._looks.look_when_due()
        return self.canary.for_caller(caller) or self._serving

    def with_file(self, caller: str | None = None) -> Loaded | Fetched:
        """Return what serves a caller, or would serve, with the verified bytes of its file; loads no model.

        Whoever sends the bytes keeps hold of what is returned until the last is sent: see `_two_are_held`.

        Raises what `current` raises.
        """
        serving = self._serving
        if serving is None:
            fetched = self._cold(Fetched, lambda pointer: self._try(pointer, self._loader.fetch), caller)
            serving = self._serving
            if serving is None:
                return fetched
            self._forget()  # a model was loaded meanwhile
        self._looks.look_when_due()
        return self.canary.for_caller(caller) or self._serving or serving

    def read(self, chosen: Chosen, name: str) -> bytes:
        """Return the verified bytes of one of a version's files besides its model.

        Raises:
            NotFound, Corrupt: see `Registry.read_file`.
            Unavailable: the store cannot be reached.
            Overloaded: too many wait for the store.
        """
        with self._in_line():
            return self._loader.read(chosen, name)

    def since(self, chosen: Chosen) -> str | None:
        """Return since when a version serves in its channel, RFC 3339; None where it is a fallback or nothing tells."""
        return None if chosen.fallback else self._channels.since(chosen.channel, chosen.pointer.version)

    def _cold(self, kind: type[_C], use: Callable[[Pointer], _C], caller: str | None, *, in_line: bool = True) -> _C:
        """Return what a cold instance would serve: what it told less than POINTER_TTL seconds ago, if that suffices."""
        told = self._told.get(PRODUCTION)
        if isinstance(told, kind) and not self._channels.canary and not self._looks.is_due():
            return told
        with self._in_line() if in_line else nullcontext():
            return self._read_cold(kind, use, caller)

    def _in_line(self) -> AbstractContextManager[None]:
        """Let the caller wait for a store, or turn it away where too many do: they take the threads of warm models."""
        return self._queue.lend() if self._queue else nullcontext()

    def _read_cold(self, kind: type[_C], use: Callable[[Pointer], _C], caller: str | None) -> _C:
        if self._looks.is_due() or not self._told:
            self._told = {}
            channels = self._see_now()
        else:
            channels = self._channels
        canary = channels.canary
        if canary and gets_canary(canary, caller):
            told = self._told.get(CANARY)
            try:
                return told if isinstance(told, kind) else self._tell(replace(use(canary.pointer), channel=CANARY))
            except Unusable:
                pass  # as for any caller: production
        told = self._told.get(PRODUCTION)
        return told if isinstance(told, kind) else self._tell(self._best(channels, use))

    def _tell(self, chosen: _C) -> _C:
        self._told[chosen.channel] = chosen
        return chosen

    def _see_now(self) -> Channels:
        channels = self._see(self._loader.channels())
        self._looks.have_looked()
        return channels

    def _forget(self) -> None:
        """Let go of what only a cold instance needs."""
        self._told = {}
        self._loader.forget()

    def _choose(self, pointer: Pointer) -> Chosen:
        self._backoffs.check(pointer)
        return self._loader.choose(pointer)

    def _load_first(self) -> Loaded:
        try:
            channels = self._see_now()
            loaded = self._serving = self._best(channels, lambda pointer: self._try(pointer, self._loader.load))
        finally:
            self._forget()
        return loaded

    def _look(self) -> None:
        """Follow the pointer: load what it names beside what serves, then swap. On an error change nothing."""
        try:
            channels = self._loader.channels_if_changed(self._channels)
            channels = self._see(channels) if channels is not None else self._channels
            self._follow(channels)
            self._follow_beside(channels)
            if not self._reachable:
                log("INFO", "The pointer can be followed again.")
            self._reachable = True
        except Exception as error:  # noqa: BLE001 - whatever happened, this instance goes on serving what it has
            # The stack once: an outage is looked at every POINTER_TTL seconds.
            message = "Could not follow the pointer; the instance serves what it has."
            if self._reachable:
                log("ERROR", message, error=error)
            else:
                log("WARNING", message, reason=f"{type(error).__name__}: {error}")
            self._reachable = False

    def _see(self, channels: Channels) -> Channels:
        """Remember what the store says; whatever was changed there, it is a reason to try again at once."""
        if channels.generation != self._channels.generation:
            self._backoffs.forget()
        self._channels = channels
        return channels

    def _follow(self, channels: Channels) -> None:
        serving, pointed = self._serving, self._pointed(channels)
        if serving is None:
            return
        if _same(pointed, serving.pointer):
            if serving.fallback:
                log("INFO", f"{pointed.version} serves as the pointer says.", version=pointed.version)
                self._serving = replace(serving, fallback=None)
            return
        if self._two_are_held():
            return  # until the next look
        try:
            # As many interpreters as requests made the old one build: none of them waits for that again.
            loaded = self._taken(pointed) or self._try(
                pointed, lambda pointer: self._loader.load(pointer, warm=serving.pool.built)
            )
        except Unusable as problem:
            fallback = Fallback(pointed.version, problem.reason)
            if serving.fallback != fallback:
                self._serving = _falling_back(serving, fallback)
            return
        finally:
            self._loader.forget()
        self._serving, self._replaced = loaded, (weakref.ref(serving.pool), time.monotonic())
        log("INFO", f"{pointed.version} serves.", version=pointed.version, before=serving.pointer.version)

    def _follow_beside(self, channels: Channels) -> None:
        """Load the canary or the shadow, or let go of it; whatever goes wrong with it, production serves."""
        if not self._fall_back:
            return  # production's own is asked for, by a command line
        if (channels.canary or channels.shadow) and self._two_are_held():
            return  # until the next look
        if not self._following.acquire(blocking=False):
            return  # the next look will
        try:
            # First the one that only lets go: two are not held beside production.
            lanes = (self.shadow, self.canary) if channels.canary else (self.canary, self.shadow)
            for lane in lanes:
                lane.follow_channels(channels, self._try)
        except Exception as error:  # noqa: BLE001 - see above
            log("ERROR", "Could not follow the canary or the shadow; production serves.", error=error)
        finally:
            self._following.release()
            self._loader.forget()

    def _taken(self, pointer: Pointer) -> Loaded | None:
        """Return the canary or the shadow as production where it is this version and loaded: it was promoted."""
        # The shadow's interpreters have one thread each.
        held = (self.canary.loaded, self.shadow.loaded if self.settings.threads == 1 else None)
        return next((replace(each, channel=PRODUCTION) for each in held if each and each.pointer == pointer), None)

    def _two_are_held(self) -> bool:
        """Say whether requests still use the pool before this one: an instance has memory for two, not for three."""
        if self._replaced is None or self._replaced[0]() is None:
            return False
        gc.collect()  # the stack of a request that failed may hold it, in a circle
        return self._replaced[0]() is not None and time.monotonic() < self._replaced[1] + LONGEST_REQUEST

    def _pointed(self, channels: Channels) -> Pointer:
        if channels.production is None:
            raise NotReady(
                f"No version of the model {self.settings.model_name!r} has been promoted yet. "
                "Run `admin_cli publish RUN`, then `admin_cli promote v1`."
            )
        return channels.production

    def _best(self, channels: Channels, use: Callable[[Pointer], _C]) -> _C:
        """Use the version that the pointer names or else, as a rollback would choose, the latest before it that can be.

        Raises:
            Corrupt: none can be; the error is that of the first.
        """
        pointed = self._pointed(channels)
        problems: list[Unusable] = []
        for pointer in (pointed, *(channels.earlier() if self._fall_back else ())):
            try:
                found = use(pointer)
            except Unusable as problem:
                problems.append(problem)
            else:
                return _falling_back(found, Fallback(pointed.version, problems[0].reason)) if problems else found
        raise problems[0].error.with_traceback(None)  # it may have been raised before

    def _try(self, pointer: Pointer, use: Callable[[Pointer], _C]) -> _C:
        """Use a version unless it failed lately; see `Backoffs.use`."""
        return self._backoffs.use(pointer, use, another_serves=self._serving is not None)


def _falling_back(chosen: _C, fallback: Fallback) -> _C:
    version = chosen.pointer.version
    if isinstance(chosen, Loaded):
        log(
            "WARNING",
            f"{version} serves in place of {fallback.pointed}, which is {fallback.reason}.",
            version=version,
            pointed=fallback.pointed,
            reason=fallback.reason,
        )
    return replace(chosen, fallback=fallback)


def _same(one: Pointer, other: Pointer) -> bool:
    return (one.version, one.manifest_sha256) == (other.version, other.manifest_sha256)
