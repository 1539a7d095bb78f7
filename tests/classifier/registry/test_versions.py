"""The rules of versions: publish, list, read and verify; over both stores."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from classifier.errors import Corrupt, InvalidManifest, InvalidRequest, InvalidSetting, NotFound, PointerError, Refused
from classifier.registry.bundle import entry_of
from classifier.registry.channels import Channels
from classifier.registry.rules import Registry
from classifier.registry.versions import CheckedFile
from classifier.storage.local import LocalStore
from classifier.storage.protocol import ObjectStore
from tests.support.bundles import PLAIN_FILES, replay_bytes, write_bundle
from tests.support.processes import RIVALS
from tests.support.registries import (  # noqa: F401  # fixtures
    bundle_fixture,
    local_fixture,
    names,
    promote,
    publish,
    registry_fixture,
    serving,
)


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
        registry.store.write("food/versions/v1/claim.json", b"{}")
        assert registry.versions() == []
        with pytest.raises(NotFound, match=r"'v1'.*nothing is published yet.*admin_cli publish"):
            registry.manifest("v1")

    def test_a_model_that_is_not_there_is_told_with_those_that_are(self, registry: Registry, bundle: Path) -> None:
        def ask(registry: Registry) -> str:
            assert registry.versions(include_incomplete=True) == []
            told = []
            for use in (lambda: registry.manifest("v1"), lambda: registry.newest_versions(20), registry.expect_model):
                with pytest.raises(NotFound) as caught:
                    use()
                told.append(str(caught.value))
            assert len(set(told)) == 1
            return told[0]

        local = isinstance(registry.store, LocalStore)
        assert ask(registry).startswith(f"There is no {'store at' if local else 'model in'} {registry.store.url}")
        registry.store.write("uploads/cat.jpg", b"no model")
        assert ask(registry).startswith(f"There is no model in {registry.store.url}. `admin_cli publish RUN`")
        publish(Registry(registry.store, "soups"), bundle)
        publish(Registry(registry.store, "dogs"), bundle)
        assert f"Expected one of the models dogs, soups of {registry.store.url}; received 'food'" in ask(registry)
        publish(registry, bundle)
        registry.expect_model()

    def test_the_newest_are_found_behind_incomplete_ones(self, registry: Registry, bundle: Path) -> None:
        publish(registry, bundle, 3)
        promote(registry, "v1")
        for number in range(4, 30, 3):
            registry.store.write(f"food/versions/v{number}/claim.json", b"{}")
        publish(registry, bundle)

        def newest(limit: int | None, **options: bool) -> tuple[list[str], bool]:
            listing, channels = registry.newest_versions(limit, **options)
            assert channels.production is not None and channels.production.version == "v1"
            return [each.version for each in listing.versions], listing.older

        assert newest(1) == (["v29"], True)
        assert newest(2) == (["v3", "v29"], True)
        assert newest(2, include_incomplete=True) == (["v28", "v29"], True)
        assert newest(9) == newest(None) == (["v1", "v2", "v3", "v29"], False)
        assert registry.newest_versions(4)[0].versions == registry.versions()

    def test_no_others_are_read(self, local: Registry, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(local, bundle, 5)
        read: list[str] = []
        for name in ("read", "list"):
            monkeypatch.setattr(local.store, name, _noting(read, getattr(local.store, name)))
        local.newest_versions(2)
        assert {name.split("/")[2] for name in read if "versions" in name} == {"v4", "v5"}
        assert len(read) == 5  # the channels, and of each of two versions its manifest and its files' names

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


def _noting(names: list[str], method: Callable[[str], Any]) -> Callable[[str], Any]:
    def noted(name: str) -> Any:
        names.append(name)
        return method(name)

    return noted
