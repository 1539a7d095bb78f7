"""What doctor finds: a store in order, a damaged version, a store without preconditions, no function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from classifier.storage.local import LocalStore
from tests.support.commands import Cli, cli_fixture  # noqa: F401  # fixture
from tests.support.serving import damage, serve


@pytest.fixture(name="store")
def store_fixture(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> Path:
    cli("publish", tiny_bundle, "--again").well()
    cli("publish", tiny_bundle, "--again").well()
    cli("promote", "v1").well()
    return tmp_path / "store"


def findings(done: Any) -> dict[str, dict[str, str]]:
    return {each["what"]: each for each in json.loads(done.out)}


def test_a_store_in_order(cli: Cli, store: Path, tmp_path: Path) -> None:
    with serve(store, tmp_path / "serving") as function:
        done = cli("doctor", "--url", function.url, "--json")
    assert done.code == 0, done
    found = findings(done)
    assert {found[what]["verdict"] for what in ("python", "store", "production", "function", "settings")} == {"ok"}
    assert "lets one of two rivals win" in found["store"]["found"]
    assert not list(store.rglob("doctor-*"))
    said = cli("doctor").well()
    assert max(map(len, said.splitlines())) <= 80


def test_what_is_wrong_is_told_with_its_remedy(cli: Cli, store: Path) -> None:
    damage(store, "v1")
    done = cli("doctor", "--url", "http://127.0.0.1:9", "--json")
    assert done.code == 5
    found = findings(done)
    assert (found["production"]["verdict"], found["production"]["remedy"]) == ("wrong", "admin_cli rollback")
    assert found["function"]["verdict"] == "wrong"
    assert "Something is wrong: production, function" in done.err


@pytest.mark.parametrize(("channel", "remedy"), [("canary", "canary abort"), ("shadow", "shadow stop")])
def test_a_version_beside_production_that_is_damaged_is_ended(cli: Cli, store: Path, channel: str, remedy: str) -> None:
    cli(channel, "start", "v2").well()
    damage(store, "v2")
    found = json.loads(cli("doctor", "--json").out)
    wrong = {each["what"]: each["remedy"] for each in found if each["verdict"] == "wrong"}
    assert wrong == {channel: f"admin_cli {remedy}"}


def test_a_store_without_preconditions_is_found_out(cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = LocalStore.write

    def careless(self: LocalStore, name: str, data: bytes, **options: Any) -> int:
        return write(self, name, data, content_type=options.get("content_type"))

    monkeypatch.setattr(LocalStore, "write", careless)
    done = cli("doctor", "--json")
    assert done.code == 5
    assert "lets both of two rivals win" in findings(done)["store"]["found"]


def test_nothing_promoted_and_no_store(cli: Cli, tiny_bundle: Path) -> None:
    done = cli("doctor", "--json")
    assert done.code == 5
    assert "does not exist" in findings(done)["store"]["found"]
    assert findings(done)["production"]["remedy"] == "admin_cli publish RUN"
    cli("publish", tiny_bundle, "--again").well()
    assert findings(cli("doctor", "--json"))["production"]["remedy"] == "admin_cli promote v1"
