"""Models, pulling a version, and pruning: what may never go, what is said, and deletions that are killed."""

from __future__ import annotations

import csv
import io
import json
import webbrowser
from pathlib import Path

import pytest

from classifier.errors import NotFound, Refused
from classifier.registry import pruning
from classifier.registry.bundle import read_bundle
from classifier.registry.rules import Registry
from classifier.storage.local import LocalStore
from tests.support.bundles import colour_photo, replay_bytes, write_bundle
from tests.support.commands import Cli, cli_fixture  # noqa: F401  # fixture
from tests.support.registries import promote, publish
from tests.support.serving import MODEL


def without_blanks(text: str) -> str:
    return "".join(text.split())


def registry_of(tmp_path: Path) -> Registry:
    return Registry(LocalStore(tmp_path / "store"), MODEL)


@pytest.fixture(name="nine")
def nine_fixture(tmp_path: Path) -> Registry:
    """v1 to v9; v2 is v6's parent; v3 served, then v5, which serves; v4 is the canary."""
    registry = registry_of(tmp_path)
    plain, child = write_bundle(tmp_path / "a"), write_bundle(tmp_path / "b", parent_version="v2")
    for number in range(1, 10):
        publish(registry, child if number == 6 else plain)
    promote(registry, "v3")
    promote(registry, "v5")
    registry.start_canary("v4", 10, who="kim", reason="", replay=replay_bytes)
    return registry


def test_models_are_listed(cli: Cli, nine: Registry, tmp_path: Path) -> None:
    publish(Registry(LocalStore(tmp_path / "store"), "dogs"), tmp_path / "a")
    rows = cli("models", "--json").json()
    assert rows == [
        {"model": "dogs", "production": None, "canary": None, "shadow": None, "newest": "v1", "versions": 1},
        {"model": "food", "production": "v5", "canary": "v4", "shadow": None, "newest": "v9", "versions": 9},
    ]
    assert cli("models").well().split()[:6] == ["model", "production", "canary", "shadow", "newest", "versions"]


def test_a_version_is_pulled_whole_and_verified(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    cli("publish", tiny_bundle, "--again").well()
    cli("promote", "v1").well()
    cli("pull", "--out", tmp_path / "pulled").well()
    manifest = read_bundle(tmp_path / "pulled")
    assert manifest.version == "v1"
    assert cli("pull", "v1", "--out", tmp_path / "pulled", "--json").json()["version"] == "v1"
    (tmp_path / "pulled/report/notes.md").write_text("mine")
    assert "something else: report/notes.md" in cli("pull", "--out", tmp_path / "pulled").failed(2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine.txt").write_text("mine")
    assert "holds something else" in cli("pull", "--out", tmp_path / "other").failed(2)
    assert "published without one" in cli("open", "v1").failed(3)


def test_a_version_is_pulled_where_its_report_was_opened_and_where_another_was_pulled(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of(tmp_path)
    files = {"model.tflite": b"a model", "golden/0.png": b"dog"}
    publish(registry, write_bundle(tmp_path / "a", files | {"report/report.html": b"<p>"}))
    publish(registry, write_bundle(tmp_path / "b", files | {"report/notes.md": b"other"}))
    promote(registry, "v1")
    # Where there is a browser it gets the page; where there is none, or it does not start, the address is told.
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(opened.append(address)) or len(opened) == 1)
    page = (tmp_path / "here/report/report.html").resolve().as_uri()
    told = [without_blanks(cli("open", "v1", "--out", tmp_path / "here", DISPLAY=":0").well()) for _ in range(2)]
    assert opened == [page, page]
    assert [without_blanks(page) in each for each in told] == [False, True]
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert without_blanks(page) in without_blanks(cli("open", "v1", "--out", tmp_path / "here").well())
    assert len(opened) == 2
    for version in ("v1", "v2"):
        (tmp_path / "here/report/report.html.partial").write_text("as a killed one leaves it")
        cli("pull", version, "--out", tmp_path / "here").well()
        assert read_bundle(tmp_path / "here").version == version


def test_what_serves_served_last_is_a_canary_new_or_a_parent_stays(cli: Cli, nine: Registry) -> None:
    assert cli("prune", "--keep", "4", "--dry-run", "--json").json() == {"pruned": ["v1"], "dry_run": True}
    # v2 is the parent of v6, which is among the newest four; of three it is not.
    assert pruning.prunable(nine, 3) == ["v1", "v2", "v6"]
    assert cli("prune", "--keep", "3", "--reason", "room").well() == "deleted v1, v2, v6\n"
    assert [each["version"] for each in cli("list", "--all", "--json").json()] == ["v3", "v4", "v5", "v7", "v8", "v9"]
    newest = cli("history", "--json").json()[0]
    assert (newest["action"], newest["to"], newest["reason"]) == ("prune", "v6", "room")
    assert "nothing is old enough" in cli("prune", "--keep", "3").well()
    for version in ("v3", "v4", "v5"):
        with pytest.raises(Refused, match="it stays"):
            pruning.prune(nine, version, who="kim", reason="")


def test_a_version_that_is_being_deleted_can_no_longer_serve(
    cli: Cli, nine: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: LocalStore, name: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            pruning.prune(nine, "v1", who="kim", reason="")
    assert len(nine.versions()) == 9  # everything is there still, and it will not serve
    with pytest.raises(NotFound, match="deleted by `admin_cli prune`"):
        promote(nine, "v1")
    assert [each["version"] for each in cli("list", "--json").json()] == [f"v{number}" for number in range(2, 10)]
    first = cli("list", "--all", "--json").json()[0]
    assert (first["version"], first["complete"], "prune" in first["problem"]) == ("v1", False, True)
    assert (pruning.unfinished(nine), pruning.prunable(nine, 4)) == (["v1"], [])
    assert cli("prune", "--keep", "9").well() == "deleted v1\n"
    assert [each["to"] for each in cli("history", "--json").json()].count("v1") == 1


def test_a_deletion_killed_between_any_two_files_leaves_no_version_half_there(
    cli: Cli, nine: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = LocalStore.delete
    for _ in range(10):
        calls = []

        def once(self: LocalStore, name: str, calls: list[str] = calls) -> None:
            if calls:
                raise KeyboardInterrupt
            calls.append(name)
            delete(self, name)

        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, "delete", once)
            patch.setattr(pruning, "PARALLEL", 1)
            try:
                pruning.prune(nine, "v1", who="kim", reason="")
            except KeyboardInterrupt:
                assert "v1" not in [each.version for each in nine.versions()]
                continue
        break
    assert "v1" not in [each.version for each in nine.versions(include_incomplete=True)]


def test_rolling_back_passes_over_what_was_deleted(cli: Cli, nine: Registry) -> None:
    promote(nine, "v7")
    pruning.prune(nine, "v3", who="kim", reason="")
    assert "Expected one of v5 to roll back to" in cli("rollback", "--to", "v3").failed(5)
    assert [pointer.version for pointer in nine.channels().earlier()] == ["v5"]


def test_mistakes_are_told(cli: Cli, tmp_path: Path) -> None:
    assert "the folder does not exist" in cli("models").failed(3)
    assert "the folder does not exist" in cli("prune").failed(3)


def test_a_version_is_tried_before_it_serves_and_several_photos_are_a_table(
    cli: Cli, tiny_bundle: Path, confused_bundle: Path, tmp_path: Path
) -> None:
    for bundle in (tiny_bundle, confused_bundle):
        cli("publish", bundle, "--again").well()
    cli("promote", "v1").well()
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(colour_photo("green"))
    (folder / "b.png").write_bytes(colour_photo("red"))
    (folder / "c.jpg").write_bytes(b"broken")
    (folder / "notes.txt").write_text("none")

    def labels(*options: str) -> list[str | None]:
        done = cli("predict", folder, "--json", *options)
        assert (done.code, done.err) == (2, "admin_cli: 1 of 3 photos could not be read; their rows say why.\n")
        return [each.get("label") for each in json.loads(done.out)]

    assert labels() == ["green", "red", None]
    assert labels("--version", "v2") == ["blue", "red", None]
    assert "There is no canary" in cli("predict", folder, "--version", "canary").failed(3)
    cli("canary", "start", "v2").well()
    assert labels("--version", "canary") == ["blue", "red", None]
    rows = list(csv.DictReader(io.StringIO(cli("predict", folder / "a.png", folder / "c.jpg").out)))
    assert (rows[0]["label"], rows[0]["status"], rows[0]["problem"]) == ("green", "ok", "")
    assert rows[1]["label"] == "" and "photo" in rows[1]["problem"]
    assert "says v2 of food" in cli("predict", folder / "a.png", "--version", "v2").well()
    assert "received both" in cli("predict", folder, "--version", "v2", "--url", "http://localhost:1").failed(2)
    assert "Expected one photo" in cli("predict", folder, "--gradcam", tmp_path / "x.jpg").failed(2)
    (tmp_path / "empty").mkdir()
    assert "found none" in cli("predict", tmp_path / "empty").failed(3)
