"""What is said of a bucket that cannot be used, whichever client found out."""

from __future__ import annotations

import re
from http import HTTPStatus

from classifier.errors import Denied, MissingStore, Unavailable

LONGEST_REASON = 300


def no_bucket(url: str, bucket: str) -> MissingStore:
    """Return the error of a store whose bucket does not exist."""
    return MissingStore(
        f"The store {url} cannot be used: there is no bucket {bucket!r}. Create it, or mend the store's name."
    )


def denied(url: str, reason: str | BaseException) -> Denied:
    """Return the error of a store that does not let the account do what it wants."""
    return Denied(
        f"The store {url} does not allow that: {sentence(reason)} Check the account's roles (docs/deploy.md, step 3), "
        "and whose credentials these are."
    )


def unreachable(url: str, reason: str | BaseException) -> Unavailable:
    """Return the error of a store that does not answer, or not as it should."""
    return Unavailable(
        f"The store {url} cannot be reached: {sentence(reason)} Check the network, the bucket's name and the "
        "credentials (`gcloud auth application-default login` renews them)."
    )


def sentence(reason: str | BaseException) -> str:
    """Return a reason as one line that ends a sentence; of a client's error, the innermost."""
    if isinstance(reason, BaseException):
        reason = _in_words(reason)
    text = " ".join(reason.split())[:LONGEST_REASON]
    return text if text.endswith((".", "!")) else f"{text}."


def _in_words(error: BaseException) -> str:
    cause: object = getattr(error, "cause", None) or error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if status is not None:
        known = status in HTTPStatus._value2member_map_
        return f"it answered {status}{f' {HTTPStatus(status).phrase}' if known else ''}"
    if isinstance(cause, BaseException) and cause.args:
        cause = getattr(cause.args[0], "reason", None) or cause
    if isinstance(cause, BaseException) and len(cause.args) > 1 and isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    text = str(cause) or type(cause).__name__
    return re.sub(r"^<?[\w.]+\(.*\)>?: ", "", text)  # a connection's own representation says nothing to people
