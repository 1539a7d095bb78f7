"""Every setting of the function: one frozen object, read from a mapping of environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from classifier.errors import InvalidSetting
from classifier.names import bucket_of, check_model_name

MIB = 2**20
ACCESS_RULES = ("public",)
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Settings:
    """What an operator may decide without touching code. `from_env` names the variables."""

    model_store: str = ".model-store"
    """MODEL_STORE: ``gs://bucket/prefix`` or a folder."""
    model_name: str = "food"
    """MODEL_NAME: which of the store's models is served."""
    pointer_ttl: float = 30.0
    """POINTER_TTL: seconds between two looks at the pointer."""
    access: str = "public"
    """ACCESS: who may call."""
    cors_origins: tuple[str, ...] = ("*",)
    """CORS_ORIGINS: ``*``, or origins with commas between them; empty for none."""
    max_image_bytes: int = 20 * MIB
    """MAX_IMAGE_BYTES: the largest photo, in bytes."""
    max_image_pixels: int = 50_000_000
    """MAX_IMAGE_PIXELS: the largest photo, in pixels, before it is decoded."""
    max_image_memory: int = 200 * MIB
    """MAX_IMAGE_MEMORY: bytes that decoding may take, for one photo and for all that are decoded at the same time."""
    interpreters: int = 1
    """INTERPRETERS: how many photos may be classified at the same time; 0 stands for half of the CPUs."""
    threads: int = 1
    """THREADS_PER_INTERPRETER: CPU threads for one photo; 0 divides the CPUs among the interpreters."""
    wait: float = 10.0
    """INTERPRETER_WAIT: seconds that a request waits for a free interpreter before it is turned away."""
    photo_store: str = ""
    """PHOTO_STORE: where ``{"object": ...}`` may read; ``gs://bucket/prefix`` or a folder. Empty: nowhere."""

    @classmethod
    def from_env(cls, env: Mapping[str, str], *, cpus: int | None = None) -> Settings:
        """Read the settings; a variable that is missing or empty has its default.

        Args:
            env: usually ``os.environ``.
            cpus: how many CPUs to share out; by default those this process may run on.

        Raises:
            InvalidSetting: a value cannot be used; the message names the variable.
        """
        cpus = cpus or _available_cpus()
        interpreters = _integer(env, "INTERPRETERS", 0, least=0) or max(1, cpus // 2)
        return cls(
            model_store=_store(env, "MODEL_STORE", ".model-store"),
            model_name=_name(env, "MODEL_NAME", "food"),
            pointer_ttl=_seconds(env, "POINTER_TTL", 30.0),
            access=_choice(env, "ACCESS", "public", ACCESS_RULES),
            cors_origins=_origins(env, "CORS_ORIGINS"),
            max_image_bytes=_integer(env, "MAX_IMAGE_BYTES", 20 * MIB, least=1),
            max_image_pixels=_integer(env, "MAX_IMAGE_PIXELS", 50_000_000, least=1),
            max_image_memory=_integer(env, "MAX_IMAGE_MEMORY", 200 * MIB, least=1),
            interpreters=interpreters,
            threads=_integer(env, "THREADS_PER_INTERPRETER", 0, least=0) or max(1, cpus // interpreters),
            wait=_seconds(env, "INTERPRETER_WAIT", 10.0),
            photo_store=_store(env, "PHOTO_STORE", ""),
        )


def _available_cpus() -> int:
    """Count the CPUs that this process may use, not those of the whole machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _text(env: Mapping[str, str], name: str, default: str) -> str:
    return env.get(name, "").strip() or default


def _name(env: Mapping[str, str], name: str, default: str) -> str:
    value = _text(env, name, default)
    try:
        check_model_name(value)
    except InvalidSetting as error:
        raise InvalidSetting(f"Expected {name} to be a model's name; received {value!r}. {error}") from error
    return value


def _store(env: Mapping[str, str], name: str, default: str) -> str:
    value = _text(env, name, default)
    try:
        if value:
            bucket_of(value)
    except InvalidSetting as error:
        raise InvalidSetting(f"Expected {name} to be a store; received {value!r}. {error}") from error
    return value


def _choice(env: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = _text(env, name, default)
    if value not in allowed:
        raise InvalidSetting(f"Expected {name} to be one of {', '.join(allowed)}; received {value!r}.")
    return value


def _integer(env: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    value = _text(env, name, str(default))
    if not re.fullmatch(r"[0-9]{1,15}", value) or int(value) < least:
        raise InvalidSetting(f"Expected {name} to be a whole number of at least {least}; received {value!r}.")
    return int(value)


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    value = _text(env, name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        raise InvalidSetting(f"Expected {name} to be a number of seconds such as 30 or 0.5; received {value!r}.")
    return float(value)


def _origins(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Read exact origins: anything like a pattern is refused, because it would admit more than it shows."""
    if name not in env:
        return ("*",)
    origins = tuple(origin.strip() for origin in env[name].split(",") if origin.strip())
    for origin in origins:
        if origins != ("*",) and not _ORIGIN.fullmatch(origin):
            raise InvalidSetting(
                f"Expected {name} to be * or origins such as https://example.com,http://localhost:5000; "
                f"received {origin!r}."
            )
    return origins
