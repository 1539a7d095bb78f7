"""What doctor finds of the function's own account: it acts as that account, and tries what it may do."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from admin_cli.findings import Finding
from classifier.errors import Denied, InvalidRequest, NotFound, PreconditionFailed, Unavailable
from classifier.registry.catalogue import VERSIONS_FOLDER
from classifier.registry.channels import CHANNELS_FILE
from classifier.registry.manifest import MANIFEST_FILE
from classifier.registry.rules import Registry
from classifier.storage.names import bucket_of
from classifier.traffic.feedback import FEEDBACK_FOLDER
from classifier.traffic.writer import STATS_FOLDER

if TYPE_CHECKING:
    from classifier.storage.json_api import JsonApiStore

ACCOUNT = re.compile(r"[a-z0-9-]+@[a-z0-9.-]+\.gserviceaccount\.com")
NEVER = 1
"""A generation that no object has: Cloud Storage answers what is allowed with 412, and changes nothing."""
LIFETIME = 600
"""Seconds that the token is good for."""
SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
CALLER_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
STEP = "docs/deploy.md, step 3"
CALLERS_REMEDY = (
    f"Enable iamcredentials.googleapis.com, and get roles/iam.serviceAccountTokenCreator on the account ({STEP})."
)


def expect_account(registry: Registry, account: str) -> None:
    """Expect an account that can be acted as, and a store that knows accounts.

    Raises:
        InvalidRequest: it is none, or the store is a folder or an emulator.
    """
    if not ACCOUNT.fullmatch(account):
        raise InvalidRequest(
            f"Expected --as NAME@PROJECT.iam.gserviceaccount.com, the function's account; received {account!r}."
        )
    if bucket_of(registry.store.url) is None or os.environ.get("STORAGE_EMULATOR_HOST"):
        emulator = ", by STORAGE_EMULATOR_HOST" if bucket_of(registry.store.url) else ""
        raise InvalidRequest(
            f"Expected a store in Cloud Storage with --as, which tries an account's permissions there; "
            f"received {registry.store.url}{emulator}."
        )


def function_may(registry: Registry, account: str) -> Iterator[Finding]:
    """Act as the function's account: it has to read, and to create statistics and corrections, and nothing else.

    Every write that is tried is one on condition of a generation that nothing has, and what is deleted was never there:
    whatever the account may do, nothing is changed. The store has to keep preconditions.

    Raises:
        Unavailable: the store cannot be reached.
    """
    from google.auth.exceptions import GoogleAuthError

    from classifier.storage.json_api import JsonApiStore

    bucket, prefix = bucket_of(registry.store.url) or ("", "")
    try:
        store = JsonApiStore(bucket, prefix, credentials=_acting_as(account))
        try:
            yield from _reading(registry, store)
            yield from _creating(registry.model, store)
            yield from _changing(registry, store)
        finally:
            store.close()
    except (GoogleAuthError, Unavailable) as error:
        cause = error if isinstance(error, GoogleAuthError) else error.__cause__
        if not isinstance(cause, GoogleAuthError):
            raise
        yield Finding("account", "wrong", f"you cannot act as {account}: {_told(cause)}", CALLERS_REMEDY)


def _reading(registry: Registry, store: JsonApiStore) -> Iterator[Finding]:
    pointer = registry.channels(newest=0).production
    names = [f"{registry.model}/{CHANNELS_FILE}"]
    if pointer:
        names.append(f"{registry.model}/{VERSIONS_FOLDER}/{pointer.version}/{MANIFEST_FILE}")
    refused = [name for name in names if not _may(lambda name=name: store.read(name))]  # type: ignore[misc]
    if not _may(lambda: list(store.folders(f"{registry.model}/"))):
        refused.append("the list of objects")  # without it what is not there is refused, not missing
    yield Finding(
        "may read",
        "wrong" if refused else "ok",
        f"not {refused[0]}" if refused else "pointer and versions",
        f"roles/storage.objectViewer on the bucket ({STEP})." if refused else "",
    )


def _creating(model: str, store: JsonApiStore) -> Iterator[Finding]:
    for folder, what in ((STATS_FOLDER, "statistics"), (FEEDBACK_FOLDER, "corrections")):
        fine = _may(lambda folder=folder: store.write(_nobody(model, folder), b"", if_generation=NEVER))  # type: ignore[misc]
        yield Finding(
            "may create",
            "ok" if fine else "wrong",
            f"{what}, under {folder}/" if fine else f"nothing under {folder}/: no {what} arrive",
            "" if fine else f"roles/storage.objectCreator with its condition ({STEP}).",
        )


def _changing(registry: Registry, store: JsonApiStore) -> Iterator[Finding]:
    """Try what only publishers and operators may."""
    name = f"{registry.model}/{CHANNELS_FILE}"
    try:
        # Should a server pass over the condition after all, it is what is there already.
        current = registry.store.read(name).data
    except NotFound:
        current = b"{}"
    versions, model = VERSIONS_FOLDER, registry.model
    may = {
        "move the pointer": _may(lambda: store.write(name, current, if_generation=NEVER)),
        "publish versions": _may(lambda: store.write(_nobody(model, versions), b"", if_generation=NEVER)),
        "delete versions": _may(lambda: store.delete(_nobody(model, versions))),
        "delete statistics": _may(lambda: store.delete(_nobody(model, STATS_FOLDER))),
        "delete corrections": _may(lambda: store.delete(_nobody(model, FEEDBACK_FOLDER))),
    }
    remedy = f"Whoever takes the function over may too: take that role away ({STEP}, and the editors of step 2)."
    for what, allowed in may.items():
        yield Finding(
            "may not",
            "wrong" if allowed else "ok",
            f"{what}, but is let" if allowed else what,
            remedy if allowed else "",
        )


def _nobody(model: str, folder: str) -> str:
    """Return the name of an object that was never there."""
    return f"{model}/{folder}/doctor-{uuid.uuid4().hex}"


def _may(attempt: Callable[[], object]) -> bool:
    """Say whether the account is let: an attempt that fails for another reason is one that it may make."""
    try:
        attempt()
    except Denied:
        return False
    except (PreconditionFailed, NotFound):
        pass
    return True


def _acting_as(account: str) -> Any:
    """Return credentials of an account, for which whoever runs this gets a token."""
    import google.auth
    from google.auth import impersonated_credentials

    caller, _ = google.auth.default(scopes=CALLER_SCOPES)
    return impersonated_credentials.Credentials(caller, account, SCOPES, lifetime=LIFETIME)  # type: ignore[no-untyped-call]


def _told(error: BaseException) -> str:
    """Return what the IAM credentials API says, or else google-auth."""
    *_, said = error.args or (str(error),)
    try:
        said = json.loads(said)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        said = error.args[0] if error.args else error
    return " ".join(str(said).split()).rstrip(".")
