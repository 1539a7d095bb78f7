"""Every setting of the function: one frozen object, read from a mapping of environment variables."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from classifier.errors import InvalidRequest, InvalidSetting
from classifier.storage.names import bucket_of, check_model_name, check_name
from classifier.storage.opening import JSON_API, LIBRARY

MIB = 2**20
MEMORIES = ("512", "1024", "2048", "4096")
"""What FUNCTION_MEMORY may be: sizes that one CPU may have."""
SECRETS = ("RATE_LIMIT_STORE",)
"""The settings that may hold a password, and so may come from Secret Manager."""
ACCESS_RULES = ("public", "auth", "app-check", "auth+app-check")
_LIMIT = re.compile(r"[1-9][0-9]{0,8}/([1-9][0-9]{0,3} ?)?(second|minute|hour|day)s?")
_REGION = re.compile(r"[a-z]+-[a-z]+[0-9]{1,2}")
_ACCOUNT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]@([a-z0-9-]+\.iam\.gserviceaccount\.com)?")
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
    storage_client: str = JSON_API
    """STORAGE_CLIENT: what reads and writes buckets, ``json-api`` or ``google-cloud-storage``."""
    access: str = "public"
    """ACCESS: who may call."""
    access_claim: str = ""
    """ACCESS_CLAIM: ``name`` or ``name=value``, a custom claim that a user's ID token must have."""
    access_check_revoked: bool = False
    """ACCESS_CHECK_REVOKED: whether each request asks Firebase if the user was disabled or signed out."""
    project: str = ""
    """GOOGLE_CLOUD_PROJECT: the Firebase project whose tokens count."""
    rate_limit: str = ""
    """RATE_LIMIT: such as ``60/minute`` or ``5/second,1000/day``, for each caller; empty for none."""
    rate_limit_store: str = "memory://"
    """RATE_LIMIT_STORE: where requests are counted, ``memory://`` (each instance alone) or ``redis://host:port/0``."""
    trusted_proxies: int = 0
    """TRUSTED_PROXIES: how many of the last entries of X-Forwarded-For were written by proxies that are trusted."""
    cors_origins: tuple[str, ...] = ("*",)
    """CORS_ORIGINS: ``*``, or origins with commas between them; empty for none."""
    max_image_bytes: int = 16 * MIB
    """MAX_IMAGE_BYTES: the largest photo, in bytes."""
    max_image_pixels: int = 50_000_000
    """MAX_IMAGE_PIXELS: the largest photo, in pixels, before it is decoded."""
    max_image_memory: int = 200 * MIB
    """MAX_IMAGE_MEMORY: bytes that decoding may take, for one photo and for all that are decoded at the same time."""
    max_photos: int = 8
    """MAX_PHOTOS: how many photos one request may have; all together have no more bytes than one request may."""
    interpreters: int = 1
    """INTERPRETERS: how many photos may be classified at the same time; 0 stands for half of the CPUs."""
    threads: int = 1
    """THREADS_PER_INTERPRETER: CPU threads for one photo; 0 divides the CPUs among the interpreters."""
    wait: float = 10.0
    """INTERPRETER_WAIT: seconds that a request may wait for an interpreter, or for memory to decode a large photo."""
    max_waiting: int = 16
    """MAX_WAITING: how many requests may wait for an interpreter, and how many for memory."""
    result_cache_bytes: int = 8 * MIB
    """RESULT_CACHE_BYTES: what results that may be asked for again take in memory; 0 keeps none."""
    request_within: float = 50.0
    """REQUEST_WITHIN: seconds in which a request has to arrive, body and all."""
    request_least_rate: int = 4096
    """REQUEST_LEAST_RATE: bytes a second that it has to make after the first fifth of that time."""
    photo_store: str = ""
    """PHOTO_STORE: where ``{"object": ...}`` may read; ``gs://bucket/prefix`` or a folder. Empty: nowhere."""
    upload_bucket: str = ""
    """UPLOAD_BUCKET: the bucket whose uploads are labelled; by default the Firebase project's. Empty: none is known."""
    upload_prefix: str = "uploads/"
    """UPLOAD_PREFIX: the start of the names of the uploads that are labelled."""
    function_memory: int = 512
    """FUNCTION_MEMORY: MiB of one instance; read when the functions are deployed."""
    function_location: str = "us-central1"
    """FUNCTION_LOCATION: the region; read when the functions are deployed."""
    function_account: str = ""
    """FUNCTION_ACCOUNT: the service account that the functions run as; read when they are deployed. Empty: Google's."""
    function_secrets: tuple[str, ...] = ()
    """FUNCTION_SECRETS: which of `SECRETS` are in Secret Manager; read when the functions are deployed."""

    @classmethod
    def from_env(cls, env: Mapping[str, str], *, cpus: int | None = None) -> Settings:
        """Read the settings; a variable that is missing or empty has its default.

        Args:
            env: usually ``os.environ``.
            cpus: how many CPUs to share out; by default those this process may run on.

        Raises:
            InvalidSetting: a value cannot be used; the message names the variable.
        """
        cpus = cpus or available_cpus()
        interpreters = _integer(env, "INTERPRETERS", 0, least=0) or max(1, cpus // 2)
        access = _choice(env, "ACCESS", "public", ACCESS_RULES)
        _check_access(env, access)
        # Google's front end appends the address of whoever called it.
        in_cloud = bool(env.get("K_SERVICE")) and env.get("FUNCTIONS_EMULATOR") != "true"
        return cls(
            model_store=_store(env, "MODEL_STORE", ".model-store"),
            model_name=_name(env, "MODEL_NAME", "food"),
            pointer_ttl=_seconds(env, "POINTER_TTL", 30.0),
            storage_client=_choice(env, "STORAGE_CLIENT", JSON_API, (JSON_API, LIBRARY)),
            access=access,
            access_claim=_claim(env, "ACCESS_CLAIM"),
            access_check_revoked=_switch(env, "ACCESS_CHECK_REVOKED"),
            project=_project(env, "GOOGLE_CLOUD_PROJECT", needed=access != "public"),
            rate_limit=_limit(env, "RATE_LIMIT"),
            rate_limit_store=_counters(env, "RATE_LIMIT_STORE"),
            trusted_proxies=_integer(env, "TRUSTED_PROXIES", int(in_cloud), least=0),
            cors_origins=_origins(env, "CORS_ORIGINS"),
            max_image_bytes=_integer(env, "MAX_IMAGE_BYTES", 16 * MIB, least=1),
            max_image_pixels=_integer(env, "MAX_IMAGE_PIXELS", 50_000_000, least=1),
            max_image_memory=_integer(env, "MAX_IMAGE_MEMORY", 200 * MIB, least=1),
            max_photos=_integer(env, "MAX_PHOTOS", 8, least=1),
            interpreters=interpreters,
            threads=_integer(env, "THREADS_PER_INTERPRETER", 0, least=0) or max(1, cpus // interpreters),
            wait=_seconds(env, "INTERPRETER_WAIT", 10.0),
            max_waiting=_integer(env, "MAX_WAITING", 16, least=0),
            result_cache_bytes=_integer(env, "RESULT_CACHE_BYTES", 8 * MIB, least=0),
            request_within=_seconds(env, "REQUEST_WITHIN", 50.0, least=1.0),
            request_least_rate=_integer(env, "REQUEST_LEAST_RATE", 4096, least=1),
            photo_store=_store(env, "PHOTO_STORE", ""),
            upload_bucket=_bucket(env, "UPLOAD_BUCKET"),
            upload_prefix=_prefix(env, "UPLOAD_PREFIX", "uploads/"),
            function_memory=int(_choice(env, "FUNCTION_MEMORY", "512", MEMORIES)),
            function_location=_region(env, "FUNCTION_LOCATION", "us-central1"),
            function_account=_account(env, "FUNCTION_ACCOUNT"),
            function_secrets=_secrets(env, "FUNCTION_SECRETS"),
        )


def available_cpus() -> int:
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


def _switch(env: Mapping[str, str], name: str) -> bool:
    value = _text(env, name, "0").lower()
    if value not in ("0", "1", "false", "true"):
        raise InvalidSetting(f"Expected {name} to be 0 or 1; received {value!r}.")
    return value in ("1", "true")


def _claim(env: Mapping[str, str], name: str) -> str:
    value = _text(env, name, "")
    if value and not re.fullmatch(r"[^=\s]+(=\S.*)?", value):
        raise InvalidSetting(f"Expected {name} to be a claim such as member or role=editor; received {value!r}.")
    return value


def _check_access(env: Mapping[str, str], access: str) -> None:
    """Refuse what would look like a protection and be none."""
    users = "auth" in access.split("+")
    for name in ("ACCESS_CLAIM", "ACCESS_CHECK_REVOKED"):
        if env.get(name, "").strip() and not users:
            raise InvalidSetting(f"Expected {name} to be empty without users; received {env[name]!r}, ACCESS={access}.")
    host = env.get("FIREBASE_AUTH_EMULATOR_HOST", "")
    if host and users and env.get("FUNCTIONS_EMULATOR") != "true":
        raise InvalidSetting(
            "Expected FIREBASE_AUTH_EMULATOR_HOST to be empty outside the Firebase emulators, because with it "
            f"firebase-admin takes tokens that nobody signed; received {host!r}."
        )


def _project(env: Mapping[str, str], name: str, *, needed: bool) -> str:
    """Read the project from what the platform sets: any of three variables."""
    project = _text(env, name, "") or env.get("GCLOUD_PROJECT", "") or _project_of_firebase(env)
    if needed and not re.fullmatch(r"[a-z][a-z0-9-]{2,62}", project):
        raise InvalidSetting(
            f"Expected {name} to be the Firebase project whose tokens count, with this ACCESS; "
            f"received {project or 'nothing'!r}."
        )
    return project


def _project_of_firebase(env: Mapping[str, str]) -> str:
    return _firebase_config(env, "projectId")


def _firebase_config(env: Mapping[str, str], name: str) -> str:
    try:
        config = json.loads(env.get("FIREBASE_CONFIG", "") or "{}")
    except ValueError:  # the name of a file, which the platform never sets
        return ""
    return str(config.get(name) or "") if isinstance(config, dict) else ""


def _bucket(env: Mapping[str, str], name: str) -> str:
    value = _text(env, name, "")
    try:
        if value and ("/" in value or not bucket_of(f"gs://{value}")):
            raise InvalidSetting("It has a slash.")
    except InvalidSetting as error:
        raise InvalidSetting(
            f"Expected {name} to be a bucket's name, without gs:// and prefix; received {value!r}."
        ) from error
    return value or _firebase_config(env, "storageBucket")


def _prefix(env: Mapping[str, str], name: str, default: str) -> str:
    """Read a folder's name, whose slash at the end tells ``uploads/`` from ``uploads-of-others/``."""
    value = _text(env, name, default)
    try:
        check_name(value.removesuffix("/"))
    except InvalidRequest as error:
        raise InvalidSetting(f"Expected {name} to be a prefix such as uploads/; received {value!r}. {error}") from error
    if not value.endswith("/"):
        raise InvalidSetting(f"Expected {name} to be a prefix that ends with a slash, as uploads/; received {value!r}.")
    return value


def _region(env: Mapping[str, str], name: str, default: str) -> str:
    value = _text(env, name, default)
    if not _REGION.fullmatch(value):
        raise InvalidSetting(f"Expected {name} to be a region such as europe-west1; received {value!r}.")
    return value


def _account(env: Mapping[str, str], name: str) -> str:
    value = _text(env, name, "")
    if value and not _ACCOUNT.fullmatch(value):
        raise InvalidSetting(
            f"Expected {name} to be a service account such as pointer-serving@PROJECT.iam.gserviceaccount.com, "
            f"or pointer-serving@ for one of the project; received {value!r}."
        )
    return value


def _secrets(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    secrets = tuple(part.strip() for part in env.get(name, "").split(",") if part.strip())
    if not set(secrets) <= set(SECRETS):
        raise InvalidSetting(f"Expected {name} to be empty or {', '.join(SECRETS)}; received {env[name]!r}.")
    return secrets


def _limit(env: Mapping[str, str], name: str) -> str:
    parts = [part.strip() for part in _text(env, name, "").split(",")]
    if parts != [""] and not all(_LIMIT.fullmatch(part) for part in parts):
        raise InvalidSetting(
            f"Expected {name} to be limits such as 60/minute or 5/second,1000/day; received {env[name]!r}."
        )
    return ",".join(parts)


def _counters(env: Mapping[str, str], name: str) -> str:
    value = _text(env, name, "memory://")
    if value != "memory://" and not re.fullmatch(r"rediss?://[^\s/].*", value):
        # What follows the scheme may hold a password.
        raise InvalidSetting(
            f"Expected {name} to be memory://, redis://host:port/0 or rediss://…; "
            f"received a value that begins with {value[:6]!r}."
        )
    return value


def _integer(env: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    value = _text(env, name, str(default))
    if not re.fullmatch(r"[0-9]{1,15}", value) or int(value) < least:
        raise InvalidSetting(f"Expected {name} to be a whole number of at least {least}; received {value!r}.")
    return int(value)


def _seconds(env: Mapping[str, str], name: str, default: float, *, least: float = 0.0) -> float:
    value = _text(env, name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        raise InvalidSetting(f"Expected {name} to be a number of seconds such as 30 or 0.5; received {value!r}.")
    if float(value) < least:
        raise InvalidSetting(f"Expected {name} to be at least {least:g} seconds; received {value!r}.")
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
