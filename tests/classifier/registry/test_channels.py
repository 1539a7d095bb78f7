"""The rules of what serves: promote, roll back, and the pointer that tells it; over both stores."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from classifier.errors import Conflict, Corrupt, InvalidManifest, NotFound, Refused
from classifier.registry.channels import Channels, HistoryEntry, Pointer
from classifier.registry.manifest import Manifest
from classifier.registry.rules import Registry
from tests.support.bundles import PLAIN_FILES
from tests.support.processes import RIVALS, start_together
from tests.support.registries import (  # noqa: F401  # fixtures
    bundle_fixture,
    local_fixture,
    promote,
    publish,
    registry_fixture,
    rollback,
    serving,
)


class TestPromote:
    def test_the_first_promotion_starts_from_nothing(self, registry: Registry, bundle: Path) -> None:
        publish(registry, bundle)
        entry = promote(registry, "v1", reason="the first")
        channels = registry.channels()
        assert channels.production is not None
        assert channels.production.version == "v1"
        assert channels.production.manifest_sha256 == registry.manifest("v1")[1]
        assert channels.history == (entry,)
        assert (entry.action, entry.channel, entry.from_version, entry.to_version) == (
            "promote",
            "production",
            None,
            "v1",
        )
        assert (entry.who, entry.reason) == ("kim", "the first")

    def test_the_pointer_is_stored_as_documented(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle)
        promote(local, "v1", reason="why not")
        document = json.loads(local.store.read("food/channels.json").data)
        sha256 = local.manifest("v1")[1]
        assert document["production"] == {"version": "v1", "manifest_sha256": sha256}
        assert (document["canary"], document["shadow"]) == (None, None)
        entry = document["history"][0]
        assert sorted(entry) == ["action", "channel", "from", "id", "manifest_sha256", "reason", "time", "to", "who"]
        assert (entry["from"], entry["to"], entry["manifest_sha256"]) == (None, "v1", sha256)

    def test_promoting_what_serves_writes_nothing_and_verifies_nothing(self, registry: Registry, bundle: Path) -> None:
        publish(registry, bundle, 2)
        promote(registry, "v1")
        before = registry.channels()
        assert registry.promote("v1", who="kim", reason="", replay=_refuse) is None
        assert registry.promote("v1", who="kim", reason="", replay=_refuse, expect="v1") is None
        assert registry.channels() == before
        with pytest.raises(Conflict, match="it serves v1"):
            promote(registry, "v1", expect="v2")

    def test_a_rival_who_promotes_the_same_first_is_enough(self, registry: Registry, bundle: Path) -> None:
        def rival(manifest: Manifest, read_file: Callable[[str], bytes]) -> None:
            promote(registry, "v1", who="lee")

        publish(registry, bundle)
        assert registry.promote("v1", who="kim", reason="", replay=rival) is None
        assert [entry.who for entry in registry.channels().history] == ["lee"]

    def test_a_version_of_another_manifest_than_was_promoted_is_promoted_again(
        self, local: Registry, bundle: Path
    ) -> None:
        publish(local, bundle)
        promote(local, "v1")
        path = "food/versions/v1/manifest.json"
        local.store.write(path, local.store.read(path).data + b"\n")
        entry = promote(local, "v1")
        assert (entry.from_version, entry.to_version) == ("v1", "v1")
        assert local.channels().production.manifest_sha256 == local.manifest("v1")[1]

    def test_other_channels_and_unknown_fields_survive(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle, 3)
        promote(local, "v1")
        document = json.loads(local.store.read("food/channels.json").data)
        document["canary"] = {**document["production"], "version": "v3", "share": 0.1}
        document["future"] = [1]
        local.store.write("food/channels.json", json.dumps(document).encode())
        promote(local, "v2")
        after = json.loads(local.store.read("food/channels.json").data)
        assert (after["canary"], after["future"]) == (document["canary"], [1])
        assert after["production"]["version"] == "v2"

    def test_an_unknown_version_changes_nothing(self, registry: Registry, bundle: Path) -> None:
        publish(registry, bundle)
        with pytest.raises(NotFound, match="Expected one of v1; received 'v2'"):
            promote(registry, "v2")
        assert registry.channels() == Channels()

    @pytest.mark.parametrize("name", sorted(PLAIN_FILES))
    def test_a_damaged_version_changes_nothing(self, local: Registry, bundle: Path, name: str) -> None:
        publish(local, bundle, 2)
        promote(local, "v1")
        local.store.write(f"food/versions/v2/{name}", b"rotten")
        with pytest.raises(Corrupt, match=rf"v2 of food is damaged.*{name}"):
            promote(local, "v2")
        assert serving(local) == "v1"

    def test_a_version_that_does_not_replay_changes_nothing(self, local: Registry, bundle: Path) -> None:
        def refuse(manifest: Manifest, read_file: Callable[[str], bytes]) -> None:
            assert read_file("model.tflite") == PLAIN_FILES["model.tflite"]
            assert read_file("report/model_card.md") == PLAIN_FILES["report/model_card.md"]
            raise Refused("not the same")

        publish(local, bundle)
        with pytest.raises(Refused, match="not the same"):
            promote(local, "v1", replay=refuse)
        assert local.channels() == Channels()

    def test_expect_holds_or_is_a_conflict(self, registry: Registry, bundle: Path) -> None:
        publish(registry, bundle, 3)
        with pytest.raises(Conflict, match=r"Expected production to serve v1; it serves nothing"):
            promote(registry, "v2", expect="v1")
        promote(registry, "v1")
        promote(registry, "v2", expect="v1")
        with pytest.raises(Conflict, match=r"Expected production to serve v1; it serves v2"):
            promote(registry, "v3", expect="v1")
        assert serving(registry) == "v2"

    def test_expect_is_held_against_a_rival_who_comes_in_between(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle, 3)
        promote(local, "v1")

        def rival(manifest: Manifest, read_file: Callable[[str], bytes]) -> None:
            promote(local, "v3")

        with pytest.raises(Conflict, match="it serves v3"):
            promote(local, "v2", expect="v1", replay=rival)
        assert serving(local) == "v3"

    def test_eight_rivals_leave_eight_entries_and_one_pointer(self, registry: Registry, bundle: Path) -> None:
        publish(registry, bundle, RIVALS)
        barrier = threading.Barrier(RIVALS)

        def rival(number: int) -> HistoryEntry:
            barrier.wait()
            return promote(registry, f"v{number}", who=f"rival-{number}")

        with ThreadPoolExecutor(RIVALS) as pool:
            entries = list(pool.map(rival, range(1, RIVALS + 1)))
        expect_one_chain(registry, [entry.id for entry in entries])

    def test_eight_rival_processes_leave_eight_entries_and_one_pointer(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle, RIVALS)
        code = (
            "from pathlib import Path\n"
            "from classifier.registry.rules import Registry\n"
            "from classifier.storage.local import LocalStore\n"
            "registry = Registry(LocalStore(Path(sys.argv[1])), 'food')\n"
            "wait()\n"
            "replay = lambda manifest, read_file: None\n"
            "print(registry.promote(sys.argv[2], who='x', reason='', replay=replay).id)\n"
        )
        rivals = [[local.store.url, f"v{number}"] for number in range(1, RIVALS + 1)]
        expect_one_chain(local, start_together(code, rivals))

    def test_an_expectation_lets_one_of_eight_rivals_win(self, registry: Registry, bundle: Path) -> None:
        publish(registry, bundle, 2)
        promote(registry, "v1")
        barrier = threading.Barrier(RIVALS)

        def rival(_: int) -> bool:
            barrier.wait()
            try:
                promote(registry, "v2", expect="v1")
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(RIVALS) as pool:
            assert sum(pool.map(rival, range(RIVALS))) == 1
        assert len(registry.channels().history) == 2


def _refuse(manifest: Manifest, read_file: Callable[[str], bytes]) -> None:
    raise AssertionError("nothing is to be replayed")


def expect_one_chain(registry: Registry, identities: list[str]) -> None:
    """The history holds each change once, each from where the one before went to, and the pointer is the last."""
    channels = registry.channels()
    assert sorted(entry.id for entry in channels.history) == sorted(identities)
    targets = [entry.to_version for entry in channels.history]
    assert [entry.from_version for entry in channels.history] == [None, *targets[:-1]]
    assert sorted(targets) == sorted(f"v{number}" for number in range(1, RIVALS + 1))
    assert channels.production is not None
    assert channels.production.version == targets[-1]
    assert channels.production.manifest_sha256 == registry.manifest(targets[-1])[1]


class TestRollback:
    def test_there_is_nothing_to_go_back_to(self, registry: Registry, bundle: Path) -> None:
        with pytest.raises(NotFound, match="There is no"):
            rollback(registry)
        publish(registry, bundle)
        with pytest.raises(Refused, match="there is none"):
            rollback(registry)
        promote(registry, "v1")
        with pytest.raises(Refused, match=r"there is none.*admin_cli promote"):
            rollback(registry)
        assert len(registry.channels().history) == 1

    def test_it_goes_down_the_stack(self, registry: Registry, bundle: Path) -> None:
        publish(registry, bundle, 3)
        for version in ("v1", "v2", "v3"):
            promote(registry, version)
        entry = rollback(registry, reason="too many pizzas")
        assert (entry.action, entry.from_version, entry.to_version) == ("rollback", "v3", "v2")
        assert entry.reason == "too many pizzas"
        assert rollback(registry).to_version == "v1"
        assert serving(registry) == "v1"
        with pytest.raises(Refused):
            rollback(registry)
        assert [each.action for each in registry.channels().history] == ["promote"] * 3 + ["rollback"] * 2

    def test_to_an_earlier_version(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle, 4)
        for version in ("v1", "v2", "v3"):
            promote(local, version)
        for version in ("v3", "v4", "v9"):
            with pytest.raises(Refused, match=rf"Expected one of v1, v2 to roll back to.*{version}"):
                rollback(local, to=version)
        assert rollback(local, to="v1").to_version == "v1"
        assert local.channels().served() == ["v1"]

    def test_a_damaged_target_is_refused(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle, 2)
        promote(local, "v1")
        promote(local, "v2")
        local.store.write("food/versions/v1/model.tflite", b"rotten")
        with pytest.raises(Corrupt, match="v1 of food is damaged"):
            rollback(local)
        assert serving(local) == "v2"

    def test_a_promotion_in_between_is_a_conflict(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle, 3)
        promote(local, "v1")
        promote(local, "v2")

        def rival(manifest: Manifest, read_file: Callable[[str], bytes]) -> None:
            promote(local, "v3")

        with pytest.raises(Conflict, match="serves v3 now"):
            rollback(local, replay=rival)
        assert serving(local) == "v3"

    def test_one_of_eight_rivals_rolls_back(self, registry: Registry, bundle: Path) -> None:
        publish(registry, bundle, 3)
        for version in ("v1", "v2", "v3"):
            promote(registry, version)
        barrier = threading.Barrier(RIVALS)

        def together(manifest: Manifest, read_file: Callable[[str], bytes]) -> None:
            barrier.wait()

        def rival(_: int) -> bool:
            try:
                rollback(registry, replay=together)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(RIVALS) as pool:
            assert sum(pool.map(rival, range(RIVALS))) == 1
        assert serving(registry) == "v2"


class TestChannels:
    def test_a_poll_transfers_them_only_when_they_changed(self, registry: Registry, bundle: Path) -> None:
        assert registry.channels_if_changed(0) is None
        publish(registry, bundle)
        promote(registry, "v1")
        first = registry.channels_if_changed(0)
        assert first is not None
        assert first.generation > 0
        assert registry.channels_if_changed(first.generation) is None
        publish(registry, bundle)
        promote(registry, "v2")
        second = registry.channels_if_changed(first.generation)
        assert second is not None
        assert len(second.history) == 2

    def test_only_the_newest_entries_are_looked_at_where_no_more_are_asked_for(
        self, local: Registry, bundle: Path
    ) -> None:
        publish(local, bundle, 3)
        for version in ("v1", "v2", "v3"):
            promote(local, version)
        whole = local.channels()
        document = json.loads(local.store.read("food/channels.json").data)
        document["history"][0] = "broken"
        local.store.write("food/channels.json", json.dumps(document).encode())
        newest = local.channels(newest=2)
        assert (newest.history, newest.older, newest.production) == (whole.history[1:], 1, whole.production)
        assert local.channels(newest=0).older == 3
        with pytest.raises(InvalidManifest, match=r"history\.0"):
            local.channels(newest=3)
        with pytest.raises(ValueError, match="would be lost"):
            newest.to_json()
        document["history"][:2] = ["broken", {**document["history"][1], "action": "prune", "to": "v7"}]
        local.store.write("food/channels.json", json.dumps(document).encode())
        assert local.channels(newest=1).pruned() == local.channels(newest=0).pruned() == {"v7"}

    def test_a_canary_that_a_release_without_canaries_promoted_is_over(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle, 2)
        promote(local, "v1")
        local.start_canary("v2", 10, who="kim", reason="", replay=lambda *_: None)
        document = json.loads(local.store.read("food/channels.json").data)
        document["production"] = {name: document["canary"][name] for name in ("version", "manifest_sha256")}
        local.store.write("food/channels.json", json.dumps(document).encode())
        channels = local.channels()
        assert (channels.production.version, channels.canary) == ("v2", None)
        promote(local, "v1")
        assert json.loads(local.store.read("food/channels.json").data)["canary"] is None

    def test_a_broken_pointer_is_refused_and_not_overwritten(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle)
        local.store.write("food/channels.json", b'{"schema_version": 1, "production": {}}')
        for use in (local.channels, lambda: promote(local, "v1"), lambda: rollback(local)):
            with pytest.raises(InvalidManifest) as caught:
                use()
            assert caught.value.field == "production.version"
        assert local.store.read("food/channels.json").data == b'{"schema_version": 1, "production": {}}'

    @pytest.mark.parametrize(
        ("recorded", "expected"),
        [
            ([None, "a" * 64, None], "a" * 64),
            (["a" * 64, None, None], "a" * 64),
            ([None, None, None], ""),
        ],
        ids=["after a release without hashes", "before one", "never"],
    )
    def test_what_served_before_has_the_hash_that_was_recorded_whenever_it_was(
        self, recorded: list[str | None], expected: str
    ) -> None:
        served = [("v1", recorded[0]), ("v2", None), ("v1", recorded[1]), ("v1", recorded[2]), ("v3", "b" * 64)]
        history = tuple(
            HistoryEntry(str(at), "2026-01-01T00:00:00Z", "tester", "promote", "production", None, version, "", sha256)
            for at, (version, sha256) in enumerate(served)
        )
        channels = Channels(1, Pointer("v3", "b" * 64), history=history)
        assert channels.earlier() == [Pointer("v1", expected), Pointer("v2", "")]
