"""Eight at once on canary, shadow, production, gate: one consistent state, and an entry for each that took effect."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from classifier.registry.channels import HistoryEntry
from classifier.registry.rules import Registry
from classifier.storage.protocol import ObjectStore
from tests.support.processes import RIVALS, start_together
from tests.support.registries import bundle_fixture, promote, publish, registry_fixture  # noqa: F401  # fixtures
from tests.support.rivalry import Told, wish

ROUNDS = (
    "canary v3 10, canary v3 50, canary v4 5, promote v2, promote v3, rollback, gate 0.3, abort",
    "shadow v3 0.1, shadow v3 0.5, shadow v4 1, canary v3 10, canary v4 20, promote v3, rollback, gate 0.4",
    "canary v4 25, abort, stop, promote v4, promote v2, rollback, gate 0.5, gate 0.6",
    "shadow v1 0.2, stop, canary v2 30, canary v2 60, abort, promote v2, rollback, gate 0.1",
)
"""What each of the eight wants, round by round, on the state that the round before left."""
PROGRAM = """
from classifier.registry.rules import Registry
from classifier.storage.opening import open_store
from tests.support.rivalry import wish
registry = Registry(open_store(sys.argv[1]), "food")
wait()
entry = wish(registry, sys.argv[2], who="a process")
print(entry.id if entry else "")
"""


def test_every_channel_is_in_a_round_and_eight_want_something() -> None:
    rounds = [[each.strip() for each in text.split(",")] for text in ROUNDS]
    assert [len(wishes) for wishes in rounds] == [RIVALS] * len(ROUNDS)
    assert all({"promote", "rollback", "gate"} <= {each.split()[0] for each in wishes} for wishes in rounds)


@pytest.fixture(name="served")
def served_fixture(registry: Registry, bundle: Path) -> Registry:
    """v1 served and v2 serves; v3 and v4 never did."""
    publish(registry, bundle, 4)
    promote(registry, "v1")
    promote(registry, "v2")
    return registry


def expect_consistent(registry: Registry, took_effect: list[str]) -> None:
    """The history has exactly these entries behind the first two, and tells what the channels are."""
    channels = registry.channels()
    assert sorted(entry.id for entry in channels.history[2:]) == sorted(took_effect)
    told = Told()
    for entry in channels.history:
        told.take(entry)
    told.expect(channels, lambda version: registry.manifest(version)[1])


def test_threads(served: Registry) -> None:
    took_effect: list[str] = []
    for text in ROUNDS:
        barrier = threading.Barrier(RIVALS)

        def rival(number: int, wishes: list[str], barrier: threading.Barrier) -> HistoryEntry | None:
            barrier.wait()
            return wish(served, wishes[number], who=f"rival {number}")

        with ThreadPoolExecutor(RIVALS) as pool:
            entries = pool.map(lambda number: rival(number, text.split(","), barrier), range(RIVALS))  # noqa: B023
            took_effect += [entry.id for entry in entries if entry]
        expect_consistent(served, took_effect)
    assert len(took_effect) >= len(ROUNDS)


@pytest.mark.parametrize("store", ["local", "json_api"], indirect=True)
def test_processes(served: Registry, store: ObjectStore) -> None:
    took_effect: list[str] = []
    for text in ROUNDS[:2]:
        took_effect += filter(None, start_together(PROGRAM, [[store.url, each] for each in text.split(",")]))
        expect_consistent(served, took_effect)
    assert took_effect
