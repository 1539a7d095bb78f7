"""The models of one process: each is loaded when it is first asked for, and the least recently used makes room."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable

from classifier.errors import NotFound
from classifier.logs import log
from classifier.photo.memory import Memory
from classifier.registry.manifest import Manifest
from classifier.serving.beside import free_memory, memory_needed
from classifier.serving.cache import ResultCache
from classifier.serving.instance import Instance
from classifier.serving.predictor import Predictor
from classifier.settings import Settings

LONGEST_SHOWN = 100


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
        self._lock = threading.Lock()
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
        return Predictor(
            settings, instance or Instance(settings, make_room=room), memory=self._memory, results=self._results
        )

    def _room_for(self, name: str) -> Callable[[Manifest], None]:
        def make_room(manifest: Manifest) -> None:
            """Let go of others until a version fits, or none is left: it is loaded all the same."""
            needed = memory_needed(manifest, self.settings.interpreters)
            while (free := free_memory(self.settings)) is not None and needed > free:
                if not self._let_go_of_another(name):
                    return

        return make_room

    def _let_go_of_another(self, name: str) -> bool:
        """Forget the least recently used model that is loaded; requests that it is answering end undisturbed."""
        with self._lock:
            loaded = (each for each, predictor in self._predictors.items() if predictor.instance.is_loaded)
            found = next((each for each in loaded if each != name), None)
            if found is None:
                return False
            del self._predictors[found]  # it begins anew when it is asked for again
        gc.collect()
        log("INFO", f"Let go of the model {found}, to make room for {name}.", model=found)
        return True
