"""Which names can be used: of objects in every store, of models, and of stores."""

from __future__ import annotations

import re

from classifier.errors import InvalidRequest, InvalidSetting

LOCK_FILE = ".lock"
TEMPORARY_FOLDER = ".tmp"
MAX_NAME_BYTES = 1024
MAX_SEGMENT_BYTES = 255
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_SCHEMES = "gs|gcs|s3[an]?|az|azure|abfss?|wasbs?|hdfs|file|https?|ftp"
_ADDRESS = re.compile(rf"[a-z][a-z0-9+.-]+:[/\\]|://|(?:{_SCHEMES})(?:[:;,]|//|\\\\)", re.IGNORECASE)
"""How a text begins that is meant as an address, with or without its colon and both slashes."""
_GOOGLE = re.compile(r"(?:gs|gcs)[:;,]*[/\\]*(?=[a-z0-9])", re.IGNORECASE)


def check_name(name: str) -> None:
    """Refuse a name that could point outside the store or that one of the stores cannot hold.

    Raises:
        InvalidRequest: with the reason.
    """
    try:
        length = len(name.encode())
        segments = name.split("/")
        longest = max(len(segment.encode()) for segment in segments)
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"Expected an object name that is valid Unicode; received {name!r}.") from error
    if not name:
        reason = "is empty"
    elif any(segment in ("", ".", "..") for segment in segments):
        reason = 'has an empty, "." or ".." segment'
    elif "\\" in name:
        reason = "has a backslash"
    elif not name.isprintable():
        reason = "has a character that cannot be printed"
    elif segments[0] in (LOCK_FILE, TEMPORARY_FOLDER):
        reason = f"starts with {segments[0]!r}, which the store keeps for itself"
    elif length > MAX_NAME_BYTES or longest > MAX_SEGMENT_BYTES:
        reason = f"has more than {MAX_NAME_BYTES} bytes, or more than {MAX_SEGMENT_BYTES} between slashes"
    else:
        return
    raise InvalidRequest(f'Expected an object name such as "uploads/cat.jpg"; received {name[:200]!r}, which {reason}.')


def check_prefix(prefix: str) -> None:
    """Refuse a listing's prefix whose folder part is not a safe name.

    Raises:
        InvalidRequest: with the reason.
    """
    folder = prefix.rpartition("/")[0]
    if folder or prefix.startswith("/"):
        check_name(folder)


def is_model_name(name: str) -> bool:
    """Say whether a model can have this name."""
    return _MODEL_NAME.fullmatch(name) is not None


def check_model_name(name: str) -> None:
    """Refuse a model's name that could not be a folder's.

    Raises:
        InvalidSetting: with the rule.
    """
    if not is_model_name(name):
        raise InvalidSetting(
            f"Expected a model's name to be at most 100 letters, digits, '.', '_' and '-'; received {name[:200]!r}."
        )


def bucket_of(url: str) -> tuple[str, str] | None:
    """Return the bucket and the prefix that a store's URL names, or None where it names a folder.

    Raises:
        InvalidSetting: neither ``gs://bucket/prefix`` nor a folder.
    """
    if not url.startswith("gs://"):
        if not url or "\0" in url or "://" in url or _ADDRESS.match(url):
            raise InvalidSetting(
                f"Expected a store to be gs://bucket/prefix or a folder; received {url!r}.{_meant(url)}"
            )
        return None
    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    prefix = prefix.strip("/")
    try:
        if prefix:
            check_name(prefix)
    except InvalidRequest as error:
        raise InvalidSetting(f"Expected a store to be gs://bucket/prefix; received {url!r}. {error}") from error
    if not _BUCKET.fullmatch(bucket):
        raise InvalidSetting(f"Expected a store to be gs://bucket/prefix with a valid bucket name; received {url!r}.")
    return bucket, prefix


def _meant(url: str) -> str:
    """Return what a mistyped address may have been meant as, as sentences behind the message."""
    if not _ADDRESS.match(url):
        return ""
    google = _GOOGLE.match(url)
    meant = f"Perhaps gs://{url[google.end() :]} is meant" if google else "Models are kept in Cloud Storage or a folder"
    return f" {meant}; a folder of that name is ./{url}."
