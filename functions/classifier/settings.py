"""Every setting of the function: one frozen object, read from a mapping of environment variables.

Each is declared here, once: field, variable, default, reader and meaning. The README's table is made of them
(`make docs`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from classifier import variables
from classifier.errors import InvalidSetting
from classifier.storage.opening import JSON_API, LIBRARY
from classifier.variables import ACCESS_RULES, MIB

Read = Callable[[Mapping[str, str], str, Any], Any]


class Declared(NamedTuple):
    """What is said of a setting besides its field."""

    variable: str
    meaning: str
    unset: Any
    """What stands for a variable that is missing or empty."""
    read: Read


def _setting(variable: str, default: Any, read: Read, meaning: str, *, unset: Any = None) -> Any:
    """Declare a setting; `unset` where a missing variable stands for something else than the field's default."""
    return field(
        default=default, metadata={"declared": Declared(variable, meaning, default if unset is None else unset, read)}
    )


@dataclass(frozen=True)
class Settings:
    """What an operator may decide without touching code."""

    model_store: str = _setting("MODEL_STORE", ".model-store", variables.store, "`gs://bucket/prefix` or a folder")
    model_name: str = _setting("MODEL_NAME", "food", variables.model_name, "which of the store's models")
    other_models: tuple[str, ...] = _setting(
        "MODEL_NAMES", (), variables.model_names, "more of them, with commas between, for `?model=NAME`"
    )
    model_rules: tuple[tuple[str, Mapping[str, str]], ...] = _setting(
        "MODEL_RULES",
        (),
        variables.model_rules,
        'settings of one of them alone, as JSON: `{"dogs": {"ACCESS": "auth", "RATE_LIMIT": "9/minute"}}`',
    )
    pointer_ttl: float = _setting("POINTER_TTL", 30.0, variables.seconds(), "seconds between two looks at the pointer")
    storage_client: str = _setting(
        "STORAGE_CLIENT",
        JSON_API,
        variables.choice(JSON_API, LIBRARY),
        "what reads and writes buckets: `json-api`, plain requests that start fast, or the library "
        "`google-cloud-storage`",
    )
    access: str = _setting(
        "ACCESS",
        "public",
        variables.choice(*ACCESS_RULES),
        "who may call: `public`, `auth` (Firebase ID tokens), `app-check`, or `auth+app-check`",
    )
    access_claim: str = _setting(
        "ACCESS_CLAIM", "", variables.claim, "`name` or `name=value`: a claim that a user's ID token must have"
    )
    access_check_revoked: bool = _setting(
        "ACCESS_CHECK_REVOKED",
        False,
        variables.switch,
        "1: ask Firebase each time whether the user was disabled or signed out",
    )
    project: str = _setting(
        "GOOGLE_CLOUD_PROJECT",
        "",
        variables.project,
        "the project whose tokens count; the platform sets it, `GCLOUD_PROJECT` or `FIREBASE_CONFIG`",
    )
    rate_limit: str = _setting(
        "RATE_LIMIT",
        "",
        variables.limits,
        "requests of one user, app or address, such as `60/minute` or `5/second,1000/day`; empty: no limit",
    )
    rate_limit_store: str = _setting(
        "RATE_LIMIT_STORE",
        "memory://",
        variables.counters,
        "`memory://`: each instance counts alone; `redis://host:port/0`: all together",
    )
    trusted_proxies: int = _setting(
        "TRUSTED_PROXIES", 0, variables.proxies, "how many last entries of X-Forwarded-For to believe; on Cloud Run 1"
    )
    cors_origins: tuple[str, ...] = _setting(
        "CORS_ORIGINS", ("*",), variables.origins, "`*`, or origins with commas between them"
    )
    max_image_bytes: int = _setting("MAX_IMAGE_BYTES", 16 * MIB, variables.integer(1), "largest photo in bytes")
    max_image_pixels: int = _setting(
        "MAX_IMAGE_PIXELS", 50_000_000, variables.integer(1), "largest photo in pixels, looked at before decoding"
    )
    max_image_memory: int = _setting(
        "MAX_IMAGE_MEMORY",
        200 * MIB,
        variables.integer(1),
        "bytes that decoding may take, one photo and all that are decoded at once",
    )
    max_photos: int = _setting("MAX_PHOTOS", 8, variables.integer(1), "photos of one request")
    interpreters: int = _setting(
        "INTERPRETERS", 1, variables.integer(0), "photos classified at the same time; 0: half of the CPUs", unset=0
    )
    threads: int = _setting(
        "THREADS_PER_INTERPRETER", 1, variables.integer(0), "CPU threads for one photo; 0 shares the CPUs out", unset=0
    )
    wait: float = _setting(
        "INTERPRETER_WAIT",
        10.0,
        variables.seconds(),
        "seconds that a request may wait for an interpreter, or for memory; if it would be longer: 503 at once",
    )
    max_waiting: int = _setting(
        "MAX_WAITING",
        16,
        variables.integer(0),
        "requests that may wait for an interpreter, and for memory; others: 503 at once",
    )
    result_cache_bytes: int = _setting(
        "RESULT_CACHE_BYTES",
        8 * MIB,
        variables.integer(0),
        "memory for the results of photos that may come again; 0: none is kept",
    )
    request_within: float = _setting(
        "REQUEST_WITHIN",
        50.0,
        variables.seconds(1.0),
        "seconds in which a request has to arrive, body and all; else: 408",
    )
    request_least_rate: int = _setting(
        "REQUEST_LEAST_RATE",
        4096,
        variables.integer(1),
        "bytes a second that it has to make after the first fifth of that time; else: 408",
    )
    stats_every: float = _setting(
        "STATS_EVERY",
        60.0,
        variables.seconds(),
        "seconds between two objects of counts under `stats/`; 0: none is written",
    )
    feedback_limit: str = _setting(
        "FEEDBACK_LIMIT",
        "100/day",
        variables.limits_or_none,
        "corrections of one user, app or address; `0`: none are taken",
    )
    on_device: bool = _setting(
        "ON_DEVICE",
        False,
        variables.on_device,
        "1: the page can run the model in the browser too; needs `make litert`",
    )
    photo_store: str = _setting("PHOTO_STORE", "", variables.store, 'where `{"object": …}` may read; empty: nowhere')
    upload_bucket: str = _setting(
        "UPLOAD_BUCKET", "", variables.bucket, "the bucket whose uploads get labels; by default the Firebase project's"
    )
    upload_prefix: str = _setting("UPLOAD_PREFIX", "uploads/", variables.prefix, "how the names of those uploads begin")
    function_memory: int = _setting(
        "FUNCTION_MEMORY",
        512,
        variables.memory,
        "MiB of an instance: 512, 1024, 2048 or 4096; this and what follows is read on deployment",
    )
    function_location: str = _setting("FUNCTION_LOCATION", "us-central1", variables.region, "the region")
    function_account: str = _setting(
        "FUNCTION_ACCOUNT",
        "",
        variables.account,
        "the service account that the functions run as; empty: Google's default",
    )
    function_secrets: tuple[str, ...] = _setting(
        "FUNCTION_SECRETS", (), variables.secrets, "`RATE_LIMIT_STORE`: it is in Secret Manager"
    )

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
        values = {name: each.read(env, each.variable, each.unset) for name, each in declarations().items()}
        rules_of_access = (values["access"], *(rules.get("ACCESS", "") for _, rules in values["model_rules"]))
        has_users = any("auth" in access.split("+") for access in rules_of_access)
        variables.check_access(env, values["access"], values["project"], has_users=has_users)
        values["interpreters"] = values["interpreters"] or max(1, cpus // 2)
        values["threads"] = values["threads"] or max(1, cpus // values["interpreters"])
        settings = cls(**values)
        for name, rules in settings.model_rules:  # what cannot be used is told at the start
            try:
                own = settings.of_model(name)
                users = "auth" in own.access.split("+")
                claim = {"ACCESS_CLAIM": rules.get("ACCESS_CLAIM", ""), "ACCESS_CHECK_REVOKED": ""}
                variables.check_access({**env, **claim}, own.access, own.project, has_users=users)
            except InvalidSetting as error:
                raise InvalidSetting(f"MODEL_RULES of {name!r}: {error}") from error
        return settings

    @property
    def models(self) -> tuple[str, ...]:
        """The models that may be asked for, the default first, each once."""
        return tuple(dict.fromkeys((self.model_name, *self.other_models)))

    def of_model(self, name: str) -> Settings:
        """Return the settings of one of the models: these, with what MODEL_RULES says of it.

        Raises:
            InvalidSetting: the rules name a model that may not be asked for, or cannot be used.
        """
        if name not in self.models:
            raise InvalidSetting(f"Expected one of {', '.join(self.models)}; received {name!r}. Add it to MODEL_NAMES.")
        rules = dict(self.model_rules).get(name, {})
        changes: dict[str, Any] = {"model_name": name}
        for field_name, each in declarations().items():
            if each.variable in rules:
                changes[field_name] = each.read(rules, each.variable, each.unset)
        if "auth" not in changes.get("access", self.access).split("+"):  # a claim is a user's
            changes |= {"access_claim": "", "access_check_revoked": False}
        return replace(self, **changes)


def declarations() -> dict[str, Declared]:
    """Return the settings by their field's name, in their order."""
    return {each.name: each.metadata["declared"] for each in fields(Settings)}


def available_cpus() -> int:
    """Count the CPUs that this process may use, not those of the whole machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
