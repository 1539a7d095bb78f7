"""The rules of versions: publish, list, promote, roll back, verify; over both stores."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from classifier import golden
from classifier.bundle import entry_of
from classifier.channels import Channels, HistoryEntry
from classifier.errors import (
    Conflict,
    Corrupt,
    InvalidManifest,
    InvalidRequest,
    InvalidSetting,
    NotFound,
    PointerError,
    PreconditionFailed,
    Refused,
    Unavailable,
)
from classifier.manifest import Manifest
from classifier.registry import CheckedFile, Registry
from classifier.store import Content, LocalStore, ObjectStore, StoredObject
from tests.bundles import PLAIN_FILES, files_of, replay_bytes, write_bundle
from tests.processes import start_together

RIVALS = 8


@pytest.fixture
def registry(store: ObjectStore) -> Registry:
    return Registry(store, "food")


@pytest.fixture
def local(local_store: LocalStore) -> Registry:
    return Registry(local_store, "food")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def publish(registry: Registry, bundle: Path, times: int = 1) -> Manifest:
    for _ in range(times):
        manifest = registry.publish(bundle, who="kim", replay=replay_bytes)
    return manifest


def promote(registry: Registry, version: str, **options: Any) -> HistoryEntry:
    return registry.promote(version, **{"who": "kim", "reason": "", "replay": replay_bytes, **options})


def rollback(registry: Registry, **options: Any) -> HistoryEntry:
    return registry.rollback(**{"who": "kim", "reason": "", "replay": replay_bytes, **options})


def serving(registry: Registry) -> str | None:
    production = registry.channels().production
    return production.version if production else None


def names(store: ObjectStore) -> list[str]:
    return [item.name for item in store.list()]


class TestPublish:
    def test_a_published_version_has_all_files_and_its_manifest(self, registry: Registry, bundle: Path) -> None:
        manifest = publish(registry, bundle)
        assert (manifest.model, manifest.version, manifest.created_by) == ("food", "v1", "kim")
        assert manifest.created_at == "2026-01-31T12:00:00Z"
        stored, sha256 = registry.manifest("v1")
        assert stored == manifest
        assert entry_of(registry.store.read("food/versions/v1/manifest.json").data).sha256 == sha256
        assert {name: registry.read_file(manifest, name) for name in manifest.files} == PLAIN_FILES
        assert names(registry.store) == sorted(
            f"food/versions/v1/{name}" for name in [*PLAIN_FILES, "claim.json", "manifest.json"]
        )
        assert registry.channels() == Channels()

    def test_a_bundle_that_changes_while_it_is_sent_is_not_published(self, tmp_path: Path, bundle: Path) -> None:
        class Meanwhile(LocalStore):
            """Somebody exports again after the bundle was checked and before this file is sent."""

            def write(self, name: str, data: bytes | Path, **options: Any) -> int:
                if name.endswith("model.keras"):
                    (bundle / "model.keras").write_bytes(b"another training's")
                return super().write(name, data, **options)

        registry = Registry(Meanwhile(tmp_path / "changing"), "food")
        with pytest.raises(Corrupt, match=r"model\.keras"):
            publish(registry, bundle)
        assert registry.versions() == []

    def test_the_manifest_is_written_last(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle)
        items = sorted(local.store.list(), key=lambda item: item.generation)
        assert items[0].name.endswith("/claim.json")
        assert items[-1].name.endswith("/manifest.json")

    def test_numbers_count_up_also_past_incomplete_ones_and_ten(self, registry: Registry, bundle: Path) -> None:
        registry.store.write("food/versions/v9/claim.json", b"{}")
        registry.store.write("food/versions/v07/claim.json", b"{}")
        registry.store.write("food/versions/notes.txt", b"")
        assert publish(registry, bundle).version == "v10"
        assert publish(registry, bundle).version == "v11"
        assert [each.version for each in registry.versions()] == ["v10", "v11"]

    def test_models_in_one_store_are_apart(self, store: ObjectStore, bundle: Path) -> None:
        food, dogs = Registry(store, "food"), Registry(store, "food-2")
        publish(food, bundle, 2)
        assert publish(dogs, bundle).version == "v1"
        promote(dogs, "v1")
        assert (serving(food), serving(dogs)) == (None, "v1")

    @pytest.mark.parametrize("model", ["", "a/b", "..", ".hidden", "a b", "x" * 101])
    def test_a_model_needs_a_plain_name(self, local_store: LocalStore, model: str) -> None:
        with pytest.raises(InvalidSetting, match="model's name"):
            Registry(local_store, model)

    def test_rivals_never_share_a_number(self, registry: Registry, bundle: Path) -> None:
        barrier = threading.Barrier(RIVALS)

        def rival(number: int) -> str | None:
            barrier.wait()
            return registry.publish(bundle, who=f"rival-{number}", replay=replay_bytes).version

        with ThreadPoolExecutor(RIVALS) as pool:
            versions = list(pool.map(rival, range(RIVALS)))
        assert sorted(versions) == [f"v{number}" for number in range(1, RIVALS + 1)]
        published = registry.versions()
        assert [each.problem for each in published] == [None] * RIVALS
        assert {each.version: each.manifest.created_by for each in published} == {
            version: f"rival-{number}" for number, version in enumerate(versions)
        }

    REFUSED: tuple[tuple[str, Callable[[Path], object], type[PointerError], str], ...] = (
        ("no bundle", lambda b: (b / "manifest.json").unlink(), NotFound, r"manifest\.json.*trainer export"),
        ("no JSON", lambda b: (b / "manifest.json").write_bytes(b"{"), InvalidManifest, r"manifest\.json"),
        ("missing", lambda b: (b / "model.keras").unlink(), Corrupt, r"model\.keras .*not there"),
        ("shorter", lambda b: (b / "model.tflite").write_bytes(b"a"), Corrupt, r"model\.tflite to have 7 bytes"),
        ("other bytes", lambda b: (b / "model.tflite").write_bytes(b"A MODEL"), Corrupt, r"model\.tflite"),
        ("unlisted", lambda b: (b / "notes.txt").write_bytes(b""), Refused, r"notes\.txt"),
        ("unlisted below", lambda b: (b / "golden/x.png").write_bytes(b""), Refused, r"golden/x\.png"),
    )

    @pytest.mark.parametrize(
        ("damage", "error", "message"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
    )
    def test_a_damaged_bundle_is_refused_before_anything_is_written(
        self, local: Registry, bundle: Path, damage: Callable[[Path], object], error: type[PointerError], message: str
    ) -> None:
        damage(bundle)
        with pytest.raises(error, match=message):
            publish(local, bundle)
        assert names(local.store) == []

    def test_a_golden_case_that_does_not_repeat_is_refused(self, local: Registry, tmp_path: Path) -> None:
        bundle = write_bundle(tmp_path / "bundle", {**PLAIN_FILES, "golden/0.png": b"cat"})
        with pytest.raises(Refused, match=r"golden/0\.png: expected dog; found cat"):
            publish(local, bundle)
        assert names(local.store) == []

    def test_somebody_has_to_publish_and_promote(self, local: Registry, bundle: Path) -> None:
        with pytest.raises(InvalidRequest):
            local.publish(bundle, who="", replay=replay_bytes)
        publish(local, bundle)
        with pytest.raises(InvalidRequest):
            promote(local, "v1", who="")
        assert local.channels() == Channels()


class TestList:
    def test_nothing_is_published(self, registry: Registry) -> None:
        assert registry.versions(include_incomplete=True) == []
        with pytest.raises(NotFound, match=r"'v1'.*nothing is published yet.*admin_cli publish"):
            registry.manifest("v1")

    def test_incomplete_claims_are_listed_only_on_request(self, registry: Registry, bundle: Path) -> None:
        publish(registry, bundle)
        registry.store.write(
            "food/versions/v2/claim.json", b'{"id": "1", "who": "lee", "time": "2026-01-31T12:00:00Z"}'
        )
        registry.store.write("food/versions/v3/model.tflite", b"x")
        assert [each.version for each in registry.versions()] == ["v1"]
        listed = registry.versions(include_incomplete=True)
        assert [(each.version, each.complete, each.problem) for each in listed] == [
            ("v1", True, None),
            ("v2", False, "claimed by lee at 2026-01-31T12:00:00Z, not finished"),
            ("v3", False, "not finished"),
        ]
        with pytest.raises(NotFound, match=r"Expected one of v1; received 'v2'"):
            registry.manifest("v2")

    def test_one_broken_version_does_not_hide_the_others(self, registry: Registry, bundle: Path) -> None:
        publish(registry, bundle, 5)
        store = registry.store
        store.write("food/versions/v2/manifest.json", b'{"schema_version": 1}')
        store.write("food/versions/v3/model.tflite", b"shorter")
        store.write("food/versions/v3/model.keras", b"cut")
        store.write("food/versions/v4/manifest.json", store.read("food/versions/v1/manifest.json").data)
        listed = registry.versions()
        assert [each.version for each in listed] == ["v1", "v2", "v3", "v4", "v5"]
        problems = {each.version: each.problem for each in listed if each.problem}
        assert "labels" in problems["v2"]
        assert problems["v3"] == "missing or of another size: model.keras"
        assert "version to be 'v4'; received 'v1'" in problems["v4"]
        assert sorted(problems) == ["v2", "v3", "v4"]

    @pytest.mark.parametrize(
        "version", ["v9", "", "1", "V1", "v01", "v1 ", "../v1", "latest", "v" + "1" * 50, "v\u0661"]
    )
    def test_an_unknown_version_is_answered_with_what_there_is(
        self, local: Registry, bundle: Path, version: str
    ) -> None:
        publish(local, bundle, 2)
        with pytest.raises(NotFound) as caught:
            local.manifest(version)
        assert str(caught.value) == (
            f"Expected one of v1, v2; received {version!r}. `admin_cli list` shows what is published."
        )

    def test_a_version_of_another_model_is_refused(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle)
        for item in list(local.store.list("food/")):
            local.store.write(item.name.replace("food/", "dogs/", 1), local.store.read(item.name).data)
        with pytest.raises(InvalidManifest, match="model to be 'dogs'; received 'food'") as caught:
            Registry(local.store, "dogs").manifest("v1")
        assert caught.value.field == "model"


class TestFiles:
    def test_a_damaged_file_is_refused_by_name(self, registry: Registry, bundle: Path) -> None:
        manifest = publish(registry, bundle)
        registry.store.write("food/versions/v1/model.tflite", b"A model")
        with pytest.raises(Corrupt) as caught:
            registry.read_file(manifest, "model.tflite")
        expected, found = entry_of(b"a model"), entry_of(b"A model")
        for part in ("v1", "food", "model.tflite", "7 bytes", expected.sha256, found.sha256):
            assert part in str(caught.value)

    def test_a_file_that_is_not_listed_or_not_there(self, local: Registry, bundle: Path) -> None:
        manifest = publish(local, bundle)
        with pytest.raises(NotFound, match=r"model\.keras.*received 'claim\.json'"):
            local.read_file(manifest, "claim.json")
        (local.store.folder / "food/versions/v1/model.keras").unlink()
        with pytest.raises(Corrupt, match=r"model\.keras is missing"):
            local.read_file(manifest, "model.keras")

    def test_verify_returns_what_it_compared(self, registry: Registry, bundle: Path) -> None:
        publish(registry, bundle)
        assert registry.verify("v1", replay=replay_bytes) == [
            CheckedFile(name, len(data), entry_of(data).sha256) for name, data in sorted(PLAIN_FILES.items())
        ]

    def test_verify_names_every_file_at_fault(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle)
        (local.store.folder / "food/versions/v1/model.keras").unlink()
        local.store.write("food/versions/v1/report/model_card.md", b"other")
        with pytest.raises(Corrupt, match=r"model\.keras is missing; expected report/model_card\.md to have"):
            local.verify("v1", replay=replay_bytes)

    def test_verify_compares_the_manifest_with_the_pointer(self, local: Registry, bundle: Path) -> None:
        manifest = publish(local, bundle)
        promote(local, "v1")
        forged = dataclasses.replace(manifest, metrics={"top1": 1.0})
        local.store.write("food/versions/v1/manifest.json", forged.to_json())
        with pytest.raises(Corrupt, match=r"manifest\.json was promoted with the SHA-256"):
            local.verify("v1", replay=replay_bytes)


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

    def test_promoting_what_serves_is_recorded(self, registry: Registry, bundle: Path) -> None:
        publish(registry, bundle)
        promote(registry, "v1")
        promote(registry, "v1")
        assert [(each.from_version, each.to_version) for each in registry.channels().history] == [
            (None, "v1"),
            ("v1", "v1"),
        ]

    def test_other_channels_and_unknown_fields_survive(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle, 2)
        promote(local, "v1")
        document = json.loads(local.store.read("food/channels.json").data)
        document["canary"] = {**document["production"], "share": 0.1}
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
            "from classifier.registry import Registry\n"
            "from classifier.store import LocalStore\n"
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
        with pytest.raises(Refused, match="there is none"):
            rollback(registry)
        publish(registry, bundle)
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
        promote(registry, "v1")
        second = registry.channels_if_changed(first.generation)
        assert second is not None
        assert len(second.history) == 2

    def test_a_broken_pointer_is_refused_and_not_overwritten(self, local: Registry, bundle: Path) -> None:
        publish(local, bundle)
        local.store.write("food/channels.json", b'{"schema_version": 1, "production": {}}')
        for use in (local.channels, lambda: promote(local, "v1"), lambda: rollback(local)):
            with pytest.raises(InvalidManifest) as caught:
                use()
            assert caught.value.field == "production.version"
        assert local.store.read("food/channels.json").data == b'{"schema_version": 1, "production": {}}'


class UnreliableStore:
    """A real store behind a bad line: chosen writes happen, but their answer is lost or comes as a refusal.

    A client that repeats a write whose answer got lost is told that the precondition failed.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.url = store.url
        self.lose: Callable[[str], bool] = lambda name: False
        self.error: PointerError = Unavailable("the answer got lost")
        self.happens = True

    def read(self, name: str) -> Content:
        return self.store.read(name)

    def read_if_changed(self, name: str, generation: int) -> Content | None:
        return self.store.read_if_changed(name, generation)

    def write(self, name: str, data: bytes | Path, **options: Any) -> int:
        if not self.lose(name):
            return self.store.write(name, data, **options)
        if self.happens:
            self.store.write(name, data, **options)
        raise self.error

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        return self.store.list(prefix)

    def download(self, name: str, file: BinaryIO) -> int:
        return self.store.download(name, file)


class TestLostAnswers:
    @pytest.fixture(params=[Unavailable("lost"), PreconditionFailed("repeated")], ids=["lost", "repeated"])
    def unreliable(self, request: pytest.FixtureRequest, local_store: LocalStore) -> UnreliableStore:
        store = UnreliableStore(local_store)
        store.error = request.param
        return store

    def test_a_publication_goes_on(self, unreliable: UnreliableStore, bundle: Path) -> None:
        registry = Registry(unreliable, "food")
        unreliable.lose = lambda name: True
        assert publish(registry, bundle).version == "v1"
        assert [each.version for each in registry.versions(include_incomplete=True)] == ["v1"]
        registry.verify("v1", replay=replay_bytes)

    def test_a_change_that_happened_is_not_repeated(self, unreliable: UnreliableStore, bundle: Path) -> None:
        registry = Registry(unreliable, "food")
        publish(registry, bundle, 2)
        unreliable.lose = lambda name: name.endswith("channels.json")
        first = promote(registry, "v1")
        second = promote(registry, "v2")
        third = rollback(registry)
        assert registry.channels().history == (first, second, third)
        assert serving(registry) == "v1"

    def test_a_change_that_did_not_happen_is_reported(self, local_store: LocalStore, bundle: Path) -> None:
        store = UnreliableStore(local_store)
        registry = Registry(store, "food")
        publish(registry, bundle)
        store.lose, store.happens = (lambda name: True), False
        with pytest.raises(Unavailable, match="not certain whether v1 serves now"):
            promote(registry, "v1")
        with pytest.raises(Unavailable):
            publish(registry, bundle)
        assert registry.channels() == Channels()
        assert [each.version for each in registry.versions(include_incomplete=True)] == ["v1"]


class TestGoldenReplay:
    """The real replay, on a real model."""

    def test_a_real_version_is_published_promoted_and_verified(self, registry: Registry, tiny_bundle: Path) -> None:
        manifest = registry.publish(tiny_bundle, who="kim", replay=golden.replay)
        promote(registry, "v1", replay=golden.replay)
        checked = registry.verify("v1", replay=golden.replay)
        assert [each.name for each in checked] == sorted(manifest.files)
        assert len(manifest.golden) == 8

    def test_a_probability_outside_the_tolerance_is_refused(self, local: Registry, tiny_bundle: Path) -> None:
        rewrite(tiny_bundle, lambda manifest: {"golden": (_shifted(manifest, 0.02), *manifest.golden[1:])})
        with pytest.raises(
            Refused,
            match=r"golden/0\.png does not repeat: expected 'green' with probability 0\.0201 ± 0\.01; found 0\.0001",
        ):
            local.publish(tiny_bundle, who="kim", replay=golden.replay)

    def test_a_probability_inside_the_tolerance_passes(self, local: Registry, tiny_bundle: Path) -> None:
        rewrite(tiny_bundle, lambda manifest: {"golden": (_shifted(manifest, 0.009), *manifest.golden[1:])})
        assert local.publish(tiny_bundle, who="kim", replay=golden.replay).version == "v1"

    def test_another_photo_is_refused(self, local: Registry, tiny_bundle: Path) -> None:
        (tiny_bundle / "golden/0.png").write_bytes((tiny_bundle / "golden/3.png").read_bytes())
        rewrite(tiny_bundle, lambda manifest: {"files": files_of(tiny_bundle)})
        with pytest.raises(Refused, match=r"golden/0\.png does not repeat"):
            local.publish(tiny_bundle, who="kim", replay=golden.replay)

    def test_a_photo_that_cannot_be_read_is_refused(self, local: Registry, tiny_bundle: Path) -> None:
        (tiny_bundle / "golden/5.png").write_bytes(b"not a photo")
        rewrite(tiny_bundle, lambda manifest: {"files": files_of(tiny_bundle)})
        with pytest.raises(Refused, match=r"golden/5\.png cannot be read"):
            local.publish(tiny_bundle, who="kim", replay=golden.replay)

    def test_a_model_of_another_size_or_with_other_labels_is_refused(self, local: Registry, tiny_bundle: Path) -> None:
        rewrite(tiny_bundle, lambda manifest: {"labels": (*manifest.labels, "violet"), "golden": ()})
        with pytest.raises(Corrupt, match=r"32 x 32 pixels and to know 5 classes.*knows 4"):
            local.publish(tiny_bundle, who="kim", replay=golden.replay)

    def test_what_is_not_a_model_is_refused(self, local: Registry, bundle: Path) -> None:
        with pytest.raises(Corrupt, match="LiteRT"):
            local.publish(bundle, who="kim", replay=golden.replay)
        assert names(local.store) == []


def rewrite(bundle: Path, change: Callable[[Manifest], dict[str, Any]]) -> None:
    path = bundle / "manifest.json"
    manifest = Manifest.from_json(path.read_bytes())
    path.write_bytes(dataclasses.replace(manifest, **change(manifest)).to_json())


def _shifted(manifest: Manifest, by: float) -> Any:
    """The first golden case, with the second label's probability that much higher."""
    case = manifest.golden[0]
    first, second, *rest = case.probabilities
    return dataclasses.replace(case, probabilities=(first, second + by, *rest))
