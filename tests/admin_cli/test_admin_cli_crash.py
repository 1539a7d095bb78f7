"""`admin_cli publish`, `promote` or `rollback` killed at any moment leaves a store that reads as before or as after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# What the killed program would import is here already: each of its many runs is a fork.
import ai_edge_litert.interpreter  # noqa: F401
import pytest

import classifier.photo.preprocessing
import classifier.serving.golden  # noqa: F401
from admin_cli.main import main
from tests.support.bundles import files_of
from tests.support.commands import Cli, cli_fixture  # noqa: F401  # fixture
from tests.support.killpoints import kill_everywhere

PROGRAM = f"{__name__}:program"
STEPS_OF_A_WRITE = 10
"""At least: create, fill, sync, lock, stamp, open and sync, rename, unlock, open and sync the folder."""
WRITES_OF_A_PUBLICATION = 4
"""The claim, the model, a golden photo and the manifest."""

program = main


@pytest.fixture
def small_bundle(tiny_bundle: Path) -> Path:
    """The tiny bundle with the fewest files that it needs: there is much to be killed."""
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    for file in tiny_bundle.rglob("*"):
        if file.is_file() and file.name not in ("manifest.json", "model.tflite", "0.png"):
            file.unlink()
    files = {name: {"sha256": entry.sha256, "bytes": entry.bytes} for name, entry in files_of(tiny_bundle).items()}
    assert len(files) == WRITES_OF_A_PUBLICATION - 2
    manifest |= {"files": files, "golden": manifest["golden"][:1]}
    (tiny_bundle / "manifest.json").write_text(json.dumps(manifest))
    return tiny_bundle


@pytest.fixture
def template(cli: Cli, small_bundle: Path, tmp_path: Path) -> Path:
    """A store with v1, v2 and v3, of which v1 and v2 were promoted."""
    for _ in range(3):
        cli("publish", small_bundle).well()
    cli("promote", "v1").well()
    cli("promote", "v2").well()
    return tmp_path / "store"


def read(cli: Cli, store: Path) -> tuple[list[str], list[str]]:
    """Return the versions and what production served, in order; all that is stored has to agree."""

    def ask(*arguments: str) -> Any:
        return cli(*arguments, "--json", MODEL_STORE=store).json()

    listed = ask("list")
    assert all(each["complete"] and each["problem"] is None for each in listed)
    served = [entry["to"] for entry in reversed(ask("history"))]
    assert [each["version"] for each in listed if each["production"]] == served[-1:]
    assert ask("show")["version"] == served[-1]
    # What was there before was not touched: the version that is new, and the one that serves, tell.
    for version in {listed[-1]["version"], served[-1]}:
        assert ask("verify", version)["golden_cases"] == 1
    return [each["version"] for each in listed], served


def kill(cli: Cli, template: Path, tmp_path: Path, *arguments: str) -> list[tuple[list[str], list[str]]]:
    """Return how each of the stores reads that the killed runs left, in order, and last the undisturbed one."""
    stores = kill_everywhere(PROGRAM, template, tmp_path / "stores", *arguments)
    return [read(cli, store) for store in stores]


@pytest.mark.long
def test_publish_killed_at_every_step(cli: Cli, template: Path, small_bundle: Path, tmp_path: Path) -> None:
    seen = kill(cli, template, tmp_path, "publish", str(small_bundle))
    before = (["v1", "v2", "v3"], ["v1", "v2"])
    after = (["v1", "v2", "v3", "v4"], ["v1", "v2"])
    assert seen == [before] * seen.count(before) + [after] * seen.count(after)
    assert seen.count(before) > STEPS_OF_A_WRITE * (WRITES_OF_A_PUBLICATION - 1)
    assert seen.count(after) > 1
    # Whatever a killed publisher left, the next one goes past it.
    early, late = tmp_path / "stores/1", tmp_path / f"stores/{seen.count(before)}"
    assert cli("publish", small_bundle, MODEL_STORE=early).well() == "published v4\n"
    assert cli("publish", small_bundle, MODEL_STORE=late).well() == "published v5\n"
    unfinished = cli("list", "--all", "--json", MODEL_STORE=late).json()[3]
    assert (unfinished["version"], unfinished["complete"]) == ("v4", False)


@pytest.mark.parametrize(("arguments", "then"), [(["promote", "v3"], "v3"), (["rollback"], "v1")])
def test_promote_and_rollback_killed_at_every_step(
    cli: Cli, template: Path, tmp_path: Path, arguments: list[str], then: str
) -> None:
    seen = kill(cli, template, tmp_path, *arguments)
    versions = ["v1", "v2", "v3"]
    before, after = (versions, ["v1", "v2"]), (versions, ["v1", "v2", then])
    assert seen == [before] * seen.count(before) + [after] * seen.count(after)
    assert seen.count(before) > STEPS_OF_A_WRITE // 2
    assert seen.count(after) > 1
    for number in range(1, len(seen) + 1):
        store = tmp_path / f"stores/{number}"
        cli("promote", "v1", MODEL_STORE=store).well()
        assert read(cli, store)[1][-1] == "v1"
