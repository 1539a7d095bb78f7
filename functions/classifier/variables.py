"""Environment variables to values: each one checked, each fault an `InvalidSetting` that names the variable.

Every reader takes the environment, the variable's name and what stands for one that is missing or empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from classifier.errors import InvalidRequest, InvalidSetting
from classifier.storage.names import bucket_of, check_model_name, check_name

MIB = 2**20
MEMORIES = ("512", "1024", "2048", "4096")
"""What FUNCTION_MEMORY may be: sizes that one CPU may have."""
SECRETS = ("RATE_LIMIT_STORE",)
"""The settings that may hold a password, and so may come from Secret Manager."""
MODEL_RULES = ("ACCESS", "ACCESS_CLAIM", "RATE_LIMIT", "FEEDBACK_LIMIT")
"""What may be set for one model alone."""
ACCESS_RULES = ("public", "auth", "app-check", "auth+app-check")
LITERT = Path(__file__).resolve().parents[1] / "litert"
"""What `make litert` makes: a folder with the version's name, whose files are compressed."""
_LIMIT = re.compile(r"[1-9][0-9]{0,8}/([1-9][0-9]{0,3} ?)?(second|minute|hour|day)s?")
_REGION = re.compile(r"[a-z]+-[a-z]+[0-9]{1,2}")
_ACCOUNT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]@([a-z0-9-]+\.iam\.gserviceaccount\.com)?")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")

Env = Mapping[str, str]


def integer(least: int) -> Callable[[Env, str, int], int]:
    """Return a reader of whole numbers of at least this."""

    def read(env: Env, name: str, unset: int) -> int:
        value = _text(env, name, str(unset))
        if not re.fullmatch(r"[0-9]{1,15}", value) or int(value) < least:
            raise InvalidSetting(f"Expected {name} to be a whole number of at least {least}; received {value!r}.")
        return int(value)

    return read


def seconds(least: float = 0.0) -> Callable[[Env, str, float], float]:
    """Return a reader of seconds of at least so many."""

    def read(env: Env, name: str, unset: float) -> float:
        value = _text(env, name, str(unset))
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
            raise InvalidSetting(f"Expected {name} to be a number of seconds such as 30 or 0.5; received {value!r}.")
        if float(value) < least:
            raise InvalidSetting(f"Expected {name} to be at least {least:g} seconds; received {value!r}.")
        return float(value)

    return read


def choice(*allowed: str) -> Callable[[Env, str, str], str]:
    """Return a reader of one of these texts."""

    def read(env: Env, name: str, unset: str) -> str:
        value = _text(env, name, unset)
        if value not in allowed:
            raise InvalidSetting(f"Expected {name} to be one of {', '.join(allowed)}; received {value!r}.")
        return value

    return read


def memory(env: Env, name: str, unset: int) -> int:
    """Read one of `MEMORIES`."""
    return int(choice(*MEMORIES)(env, name, str(unset)))


def switch(env: Env, name: str, unset: bool) -> bool:
    """Read 0, 1, false or true."""
    value = _text(env, name, str(int(unset))).lower()
    if value not in ("0", "1", "false", "true"):
        raise InvalidSetting(f"Expected {name} to be 0 or 1; received {value!r}.")
    return value in ("1", "true")


def on_device(env: Env, name: str, unset: bool) -> bool:
    """Read whether the page runs the model too; where LiteRT.js is not there it cannot."""
    wanted = switch(env, name, unset)
    if wanted and not any(LITERT.glob("*/index.js.gz")):
        raise InvalidSetting(
            f"Expected {name} to be 0 where {LITERT} has no LiteRT.js; received {env[name]!r}. Run make litert first; "
            "for a deployment, take litert out of what firebase.json ignores of the functions."
        )
    return wanted


def model_name(env: Env, name: str, unset: str) -> str:
    """Read a model's name."""
    value = _text(env, name, unset)
    try:
        check_model_name(value)
    except InvalidSetting as error:
        raise InvalidSetting(f"Expected {name} to be a model's name; received {value!r}. {error}") from error
    return value


def model_names(env: Env, name: str, unset: tuple[str, ...]) -> tuple[str, ...]:
    """Read names of models, with commas between them."""
    found = tuple(part.strip() for part in env.get(name, "").split(",") if part.strip())
    for each in found:
        model_name({name: each}, name, "")
    return found or unset


def model_rules(
    env: Env, name: str, unset: tuple[tuple[str, Mapping[str, str]], ...]
) -> tuple[tuple[str, Mapping[str, str]], ...]:
    """Read settings by model, as JSON: which of them may be there is told, their values are read where they count."""
    text = env.get(name, "").strip()
    if not text:
        return unset
    try:
        rules = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        rules = None
    if not isinstance(rules, dict) or not all(map(_are_rules, rules.values())):
        raise InvalidSetting(
            f'Expected {name} to be JSON such as {{"dogs": {{"ACCESS": "auth"}}}}, with {", ".join(MODEL_RULES)} and '
            f"texts; received {text[:200]!r}."
        )
    return tuple(rules.items())


def store(env: Env, name: str, unset: str) -> str:
    """Read a store's address, or nothing."""
    value = _text(env, name, unset)
    try:
        if value:
            bucket_of(value)
    except InvalidSetting as error:
        raise InvalidSetting(f"Expected {name} to be a store; received {value!r}. {error}") from error
    return value


def claim(env: Env, name: str, unset: str) -> str:
    """Read a custom claim, with or without a value."""
    value = _text(env, name, unset)
    if value and not re.fullmatch(r"[^=\s]+(=\S.*)?", value):
        raise InvalidSetting(f"Expected {name} to be a claim such as member or role=editor; received {value!r}.")
    return value


def project(env: Env, name: str, unset: str) -> str:
    """Read the project from what the platform sets: any of three variables."""
    return _text(env, name, unset) or env.get("GCLOUD_PROJECT", "") or _firebase_config(env, "projectId")


def proxies(env: Env, name: str, unset: int) -> int:
    """Read how many proxies are trusted: by default the one of Google's front end, which appends who called it."""
    in_cloud = bool(env.get("K_SERVICE")) and env.get("FUNCTIONS_EMULATOR") != "true"
    return integer(0)(env, name, max(unset, int(in_cloud)))


def limits(env: Env, name: str, unset: str) -> str:
    """Read limits of requests, or nothing."""
    parts = [part.strip() for part in _text(env, name, unset).split(",")]
    if parts != [""] and not all(_LIMIT.fullmatch(part) for part in parts):
        raise InvalidSetting(
            f"Expected {name} to be limits such as 60/minute or 5/second,1000/day; received {env[name]!r}."
        )
    return ",".join(parts)


def limits_or_none(env: Env, name: str, unset: str) -> str:
    """Read limits of something that may be switched off by 0; nothing then."""
    return "" if env.get(name, "").strip() == "0" else limits(env, name, unset)


def counters(env: Env, name: str, unset: str) -> str:
    """Read where requests are counted; what follows the scheme may hold a password, and is never told."""
    value = _text(env, name, unset)
    if value != "memory://" and not re.fullmatch(r"rediss?://[^\s/].*", value):
        raise InvalidSetting(
            f"Expected {name} to be memory://, redis://host:port/0 or rediss://…; "
            f"received a value that begins with {value[:6]!r}."
        )
    return value


def origins(env: Env, name: str, unset: tuple[str, ...]) -> tuple[str, ...]:
    """Read exact origins: anything like a pattern is refused, because it would admit more than it shows."""
    if name not in env:
        return unset
    found = tuple(origin.strip() for origin in env[name].split(",") if origin.strip())
    for origin in found:
        if found != ("*",) and not _ORIGIN.fullmatch(origin):
            raise InvalidSetting(
                f"Expected {name} to be * or origins such as https://example.com,http://localhost:5000; "
                f"received {origin!r}."
            )
    return found


def bucket(env: Env, name: str, unset: str) -> str:
    """Read a bucket's name; by default that of the Firebase project."""
    value = _text(env, name, unset)
    try:
        if value and ("/" in value or not bucket_of(f"gs://{value}")):
            raise InvalidSetting("It has a slash.")
    except InvalidSetting as error:
        raise InvalidSetting(
            f"Expected {name} to be a bucket's name, without gs:// and prefix; received {value!r}."
        ) from error
    return value or _firebase_config(env, "storageBucket")


def prefix(env: Env, name: str, unset: str) -> str:
    """Read a folder's name, whose slash at the end tells ``uploads/`` from ``uploads-of-others/``."""
    value = _text(env, name, unset)
    try:
        check_name(value.removesuffix("/"))
    except InvalidRequest as error:
        raise InvalidSetting(f"Expected {name} to be a prefix such as uploads/; received {value!r}. {error}") from error
    if not value.endswith("/"):
        raise InvalidSetting(f"Expected {name} to be a prefix that ends with a slash, as uploads/; received {value!r}.")
    return value


def region(env: Env, name: str, unset: str) -> str:
    """Read a region of Google's."""
    value = _text(env, name, unset)
    if not _REGION.fullmatch(value):
        raise InvalidSetting(f"Expected {name} to be a region such as europe-west1; received {value!r}.")
    return value


def account(env: Env, name: str, unset: str) -> str:
    """Read a service account, or nothing."""
    value = _text(env, name, unset)
    if value and not _ACCOUNT.fullmatch(value):
        raise InvalidSetting(
            f"Expected {name} to be a service account such as pointer-serving@PROJECT.iam.gserviceaccount.com, "
            f"or pointer-serving@ for one of the project; received {value!r}."
        )
    return value


def secrets(env: Env, name: str, unset: tuple[str, ...]) -> tuple[str, ...]:
    """Read some of `SECRETS`."""
    found = tuple(part.strip() for part in env.get(name, "").split(",") if part.strip()) or unset
    if not set(found) <= set(SECRETS):
        raise InvalidSetting(f"Expected {name} to be empty or {', '.join(SECRETS)}; received {env[name]!r}.")
    return found


def check_access(env: Env, access: str, project: str, *, has_users: bool) -> None:
    """Refuse what would look like a protection and be none.

    Args:
        env: the variables.
        access: who may call.
        project: whose tokens count.
        has_users: whether users call, here or where the rules of a single model say so.

    Raises:
        InvalidSetting: a setting about users without users, tokens that nobody signed, or no project of theirs.
    """
    users = "auth" in access.split("+")
    for name in ("ACCESS_CLAIM", "ACCESS_CHECK_REVOKED"):
        if env.get(name, "").strip() and not has_users:
            raise InvalidSetting(f"Expected {name} to be empty without users; received {env[name]!r}, ACCESS={access}.")
    host = env.get("FIREBASE_AUTH_EMULATOR_HOST", "")
    if host and users and env.get("FUNCTIONS_EMULATOR") != "true":
        raise InvalidSetting(
            "Expected FIREBASE_AUTH_EMULATOR_HOST to be empty outside the Firebase emulators, because with it "
            f"firebase-admin takes tokens that nobody signed; received {host!r}."
        )
    if access != "public" and not re.fullmatch(r"[a-z][a-z0-9-]{2,62}", project):
        raise InvalidSetting(
            "Expected GOOGLE_CLOUD_PROJECT to be the Firebase project whose tokens count, with this ACCESS; "
            f"received {project or 'nothing'!r}."
        )


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _are_rules(value: object) -> bool:
    return isinstance(value, dict) and all(
        name in MODEL_RULES and isinstance(text, str) and text.strip() for name, text in value.items()
    )


def _text(env: Env, name: str, unset: str) -> str:
    return env.get(name, "").strip() or unset


def _firebase_config(env: Env, name: str) -> str:
    try:
        config = json.loads(env.get("FIREBASE_CONFIG", "") or "{}")
    except ValueError:  # the name of a file, which the platform never sets
        return ""
    return str(config.get(name) or "") if isinstance(config, dict) else ""
