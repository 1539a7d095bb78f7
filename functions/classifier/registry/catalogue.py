"""What a store holds, by the names of its folders alone: models, and the numbers of their versions."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from classifier.errors import NotFound
from classifier.storage.names import is_model_name
from classifier.storage.protocol import ObjectStore

VERSIONS_FOLDER = "versions"
VERSION = re.compile(r"v[1-9][0-9]{0,8}")
PARALLEL_LOOKS = 64
"""Small reads at once: of what is listed, so that a bucket's distance counts once and not for each."""
_WRITTEN = re.compile(r"v?0*([1-9][0-9]{0,8})", re.IGNORECASE)


def version_name(text: str) -> str:
    """Return the version that somebody wrote as "v7", "V7" or "7"; any other text as it is."""
    written = _WRITTEN.fullmatch(text.strip())
    return f"v{written[1]}" if written else text


def claimed(store: ObjectStore, model: str) -> list[str]:
    """Return every number of a model that was taken, sorted; on a disk also of folders in which nothing is."""
    try:
        names = [name for name in store.folders(f"{model}/{VERSIONS_FOLDER}/") if VERSION.fullmatch(name)]
    except NotFound:
        return []
    return sorted(names, key=lambda each: int(each[1:]))


def expect_model(store: ObjectStore, model: str) -> None:
    """Do nothing where the store holds anything of the model.

    Raises:
        NotFound: it does not; says which models it holds, if any.
    """
    if model in _folders(store):
        return
    found = models(store)
    if not found:
        raise NotFound(f"There is no model in {store.url}. `admin_cli publish RUN` publishes the first version.")
    raise NotFound(f"Expected one of the models {', '.join(found)} of {store.url}; received {model!r}.")


def models(store: ObjectStore) -> list[str]:
    """Return the models that have versions, sorted.

    Raises:
        NotFound: the store does not exist.
    """
    names = _folders(store)
    with ThreadPoolExecutor(PARALLEL_LOOKS) as pool:
        hold = pool.map(lambda name: VERSIONS_FOLDER in store.folders(f"{name}/"), names)
        return [name for name, holds in zip(names, hold, strict=True) if holds]


def _folders(store: ObjectStore) -> list[str]:
    try:
        return [name for name in store.folders() if is_model_name(name)]
    except NotFound as error:
        raise NotFound(f"{error} `admin_cli publish RUN` makes it.") from error
