"""The models of one process: each is loaded when it is first asked for, and the least recently used makes room."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import NamedTuple

from classifier.errors import NotFound, Unavailable
from classifier.fair_queue import FairQueue
from classifier.logs import log
from classifier.photo.memory import Memory
from classifier.serving.beside import free_memory
from classifier.serving.cache import ResultCache
from classifier.serving.instance import Instance
from classifier.serving.loader import Chosen
from classifier.serving.predictor import Predictor
from classifier.settings import Settings

LONGEST_SHOWN = 100
PROMISED_FOR = 5.0
"""Seconds for which memory counts as taken before it is, at most: a model is read and built meanwhile."""


LONGEST_COLD_WAIT = 5.0
"""Seconds that a request may wait for its turn to wait for a model that is not loaded."""
TOLD_WITHIN = 3.0
"""Seconds in which all models have to tell what serves."""
SERVER_THREADS = 12
"""What main.py asks gunicorn for, unless the environment's THREADS says otherwise."""


def server_threads() -> int:
    """Return how many requests the server answers at once."""
    told = os.environ.get("THREADS", "")
    return int(told) if told.isdecimal() and int(told) else SERVER_THREADS


class _Promise(NamedTuple):
    instance: Instance
    loads: int
    """Of the instance, when it was promised."""
    needed: int
    until: float

    def is_due(self, now: float) -> bool:
        """Say whether the memory has still to be taken."""
        return now < self.until and self.instance.loads == self.loads


class Models:
    """Predictors by their model's name. They share the memory for photos and the result cache. For any thread.

    Args:
        settings: see `Settings`; those of the default model.
        instance: what decides what serves of the default model; by default a new one.
    """

    def __init__(self, settings: Settings, instance: Instance | None = None) -> None:
        self.settings = settings
        self.default = settings.model_name
        self._of = {name: settings.of_model(name) for name in settings.models}
        self._memory = Memory(settings.max_image_memory, wait=settings.wait, max_waiting=settings.max_waiting)
        self._results = ResultCache(settings.result_cache_bytes) if settings.result_cache_bytes else None
        # Of the server's threads a third may wait for stores, and as many for their turn: the rest is for what is here.
        third = max(1, server_threads() // 3)
        self._cold = (
            FairQueue(
                third, wait=LONGEST_COLD_WAIT, max_waiting=third, busy="Models that are not loaded are slow to read"
            )
            if len(self._of) > 1
            else None
        )
        self._reading: dict[str, Future[Chosen]] = {}
        """What serves of cold models, while it is read for `all_chosen`."""
        self._lock = threading.Lock()
        self._making_room = threading.Lock()
        self._promised: list[_Promise] = []
        """What models will take that are being loaded."""
        self._predictors: OrderedDict[str, Predictor] = OrderedDict()
        """The least recently used first."""
        if instance is not None:
            self._predictors[self.default] = self._made(self.default, instance)

    @property
    def names(self) -> tuple[str, ...]:
        """The models that may be asked for, the default first."""
        return tuple(self._of)

    def settings_of(self, name: str) -> Settings:
        """Return the settings of a model. Raises `NotFound`: it may not be asked for."""
        self.expect(name)
        return self._of[name]

    def expect(self, name: str) -> None:
        """Do nothing where a model may be asked for.

        Raises:
            NotFound: it may not; says which may.
        """
        if name not in self._of:
            raise NotFound(f"Expected model to be one of {', '.join(self._of)}; received {name[:LONGEST_SHOWN]!r}.")

    def __getitem__(self, name: str) -> Predictor:
        """Return the predictor of a model, which is used by this. Raises `NotFound`: it may not be asked for."""
        predictor = self.peek(name)
        with self._lock:
            if self._predictors.get(name) is predictor:
                self._predictors.move_to_end(name)
        return predictor

    def peek(self, name: str) -> Predictor:
        """Return the predictor of a model, without using it. Raises `NotFound`: it may not be asked for."""
        self.expect(name)
        with self._lock:
            if name not in self._predictors:
                self._predictors[name] = self._made(name)
                self._predictors.move_to_end(name, last=False)
            return self._predictors[name]

    def _made(self, name: str, instance: Instance | None = None) -> Predictor:
        settings = self._of[name]
        room = self._room_for(name) if len(self._of) > 1 else None
        instance = instance or Instance(settings, make_room=room, cold=self._cold)
        return Predictor(settings, instance, memory=self._memory, results=self._results)

    def all_chosen(self, names: Iterable[str], caller: str | None = None) -> dict[str, Chosen | Exception]:
        """Return what serves of several models, or why it cannot be told: all are read at once, within `TOLD_WITHIN`.

        No model is loaded or used by it. One that is still being read for another request is not read twice.

        Args:
            names: the models.
            caller: see `Instance.chosen`.
        """
        flights = {name: self._read(name) for name in names}
        wait(flights.values(), timeout=TOLD_WITHIN)
        found: dict[str, Chosen | Exception] = {}
        for name, flight in flights.items():
            try:
                if not flight.done():
                    raise Unavailable(f"What serves of {name} was not read within {TOLD_WITHIN:g} s.")
                flight.result()
                found[name] = self.peek(name).instance.chosen(caller, in_line=False)  # which has just been read
            except Exception as error:  # noqa: BLE001 - whoever asked tells it
                found[name] = error
        return found

    def _read(self, name: str) -> Future[Chosen]:
        """Begin to read what serves of a model, in a thread of its own, or join whoever reads it."""
        instance = self.peek(name).instance
        with self._lock:
            known = self._reading.get(name)
            if known is not None:
                return known
            flight: Future[Chosen] = Future()
            self._reading[name] = flight

        def read() -> None:
            try:
                flight.set_result(instance.chosen(in_line=False))
            except Exception as error:  # noqa: BLE001 - see above
                flight.set_exception(error)
            finally:
                with self._lock:
                    del self._reading[name]

        try:
            threading.Thread(target=copy_context().run, args=(read,), name="models", daemon=True).start()
        except RuntimeError as error:  # no thread is to be had
            with self._lock:
                del self._reading[name]
            flight.set_exception(Unavailable(f"No thread is to be had: {error}."))
        return flight

    def _room_for(self, name: str) -> Callable[[int], None]:
        def make_room(needed: int) -> None:
            """Let go of others until so many bytes are free, or none is left: it is loaded all the same."""
            with self._making_room:
                now, instance = time.monotonic(), self.peek(name).instance
                self._promised = [each for each in self._promised if each.is_due(now) and each.instance is not instance]
                promised = sum(each.needed for each in self._promised)
                while (free := free_memory(self.settings)) is not None and needed > free - promised:
                    if not self._let_go_of_another(name):
                        break
                self._promised.append(_Promise(instance, instance.loads, needed, now + PROMISED_FOR))

        return make_room

    def _let_go_of_another(self, name: str) -> bool:
        """Forget the least recently used model that is loaded; requests that it is answering end undisturbed."""
        with self._lock:
            found = self._least_recently_used(name)
            if found is None:
                return False
            del self._predictors[found]  # it begins anew when it is asked for again
        gc.collect()
        log("INFO", f"Let go of the model {found}, to make room for {name}.", model=found)
        return True

    def _least_recently_used(self, name: str) -> str | None:
        """Return the model that is held and was used longest ago, but for one. Nothing here outlives the call."""
        held = (each for each, predictor in self._predictors.items() if predictor.instance.is_loaded)
        return next((each for each in held if each != name), None)
