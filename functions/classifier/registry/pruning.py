"""Deleting old versions: which may go, and in an order that leaves no version half there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from classifier.errors import InvalidRequest, Refused
from classifier.registry.catalogue import VERSIONS_FOLDER
from classifier.registry.changes import Change
from classifier.registry.channels import PRODUCTION, PRUNE, Channels, HistoryEntry
from classifier.registry.manifest import CLAIM_FILE, MANIFEST_FILE
from classifier.registry.rules import Registry

PARALLEL = 16


def prunable(registry: Registry, keep: int) -> list[str]:
    """Return the versions that may be deleted, oldest first.

    Never what production serves or served last, a canary or a shadow, one of the newest `keep`, one that cannot be
    read, or a parent of one that stays. One whose deletion was begun is `unfinished` instead.

    Raises:
        InvalidRequest: `keep` is less than 1.
    """
    if keep < 1:
        raise InvalidRequest(f"Expected to keep at least one version; received {keep}.")
    channels = registry.channels()
    pruned = channels.pruned()
    summaries = [each for each in registry.versions() if each.version not in pruned]
    stay = _pointed_at(channels) | {each.version for each in summaries[-keep:]}
    stay |= {each.version for each in summaries if each.manifest is None}
    parents = {each.version: each.manifest.parent_version for each in summaries if each.manifest}
    waiting = list(stay)
    while waiting:
        parent = parents.get(waiting.pop())
        if parent and parent not in stay:
            stay.add(parent)
            waiting.append(parent)
    return [each.version for each in summaries if each.version not in stay]


def prune(registry: Registry, version: str, *, who: str, reason: str) -> HistoryEntry:
    """Delete a version for good.

    The history says so first, in one compare-and-swap: from then on it can neither be promoted nor become a canary.
    Then its manifest goes, without which it is none, and then its files. Killed half way, the same again finishes it.

    Raises:
        Refused: it serves, served last, or is a canary or a shadow.
        Conflict, Unavailable: as `ChannelsFile.change`.
    """

    def decide(channels: Channels) -> Change | None:
        if version in _pointed_at(channels):
            raise Refused(f"{version} serves, served last, or is a canary: it stays.")
        return None if version in channels.pruned() else Change(channels, PRUNE, PRUNE, version, version)

    entry = registry.change(decide, who=who, reason=reason)
    prefix = f"{registry.model}/{VERSIONS_FOLDER}/{version}/"
    names = [item.name for item in registry.store.list(prefix)]
    order: list[Callable[[str], bool]] = [
        lambda name: name == prefix + MANIFEST_FILE,
        lambda name: name not in (prefix + MANIFEST_FILE, prefix + CLAIM_FILE),
        lambda name: name == prefix + CLAIM_FILE,
    ]
    with ThreadPoolExecutor(PARALLEL) as pool:
        for chosen in order:
            list(pool.map(registry.store.delete, filter(chosen, names)))
    return entry or next(
        each for each in registry.channels().history if (each.action, each.to_version) == (PRUNE, version)
    )


def unfinished(registry: Registry) -> list[str]:
    """Return the versions whose deletion was begun and has left something."""
    pruned = registry.channels().pruned()
    return [each.version for each in registry.versions(include_incomplete=True) if each.version in pruned]


def _pointed_at(channels: Channels) -> set[str]:
    pointers = (channels.production, channels.canary, channels.shadow, *channels.earlier()[:1])
    changed = [entry for entry in channels.history if entry.channel == PRODUCTION][-1:]
    before = {entry.from_version for entry in changed if entry.from_version}  # after a rollback, what served until then
    return {pointer.version for pointer in pointers if pointer} | before
