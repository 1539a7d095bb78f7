"""What is published, once, and what callers may see of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.support.commands import PROGRAM, Cli, cli_fixture, environment_of, photo_fixture, process  # noqa: F401  # fixtures


def test_what_callers_may_see_of_a_version_is_said_at_publication(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    def public(version: str) -> list[str]:
        return list(cli("show", version, "--json").json().get("public", []))

    assert cli("publish", tiny_bundle).well() == "published v1\n"
    assert cli("publish", tiny_bundle, "--samples", "6", "--card").well() == "published v2\n"
    assert cli("publish", tiny_bundle, "--samples", "6", "--card").well().startswith("v2 is the same")
    assert cli("publish", tiny_bundle).well().startswith("v1 is the same")
    assert public("v1") == []
    # Each of the four labels once, before any twice.
    assert public("v2") == [*(f"golden/{number}.png" for number in range(6)), "report/model_card.md"]
    assert "golden/5.png" in cli("show", "v2").well()
    refused = cli("publish", tiny_bundle, "--samples", "9").failed(5)
    assert refused == "Expected at most 8 samples, the golden photos of this bundle; received 9."
    (tiny_bundle / "report/model_card.md").unlink()
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    del manifest["files"]["report/model_card.md"]
    (tiny_bundle / "manifest.json").write_text(json.dumps(manifest))
    assert "`trainer report` makes one in the folder of a run" in cli("publish", tiny_bundle, "--card").failed(3)
    run = tmp_path / "a run"
    shutil.copytree(tiny_bundle, run / "bundle")
    (run / "config.json").write_text("{}")
    for folder in (run, run / "bundle"):
        assert f"`trainer report '{run}'` makes one" in cli("publish", folder, "--card").failed(3)


def test_what_is_published_already_is_not_stored_twice(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    assert cli("publish", tiny_bundle).well() == "published v1\n"
    before = sorted(path for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert cli("publish", tiny_bundle).well().startswith("v1 is the same; nothing was written")
    assert cli("publish", tiny_bundle, "--json").json() == {"version": "v1", "model": "food", "published": False}
    assert sorted(path for path in (tmp_path / "store").rglob("*") if path.is_file()) == before
    assert cli("publish", tiny_bundle, "--again").well() == "published v2\n"
    assert cli("publish", tiny_bundle, "--model", "dogs").well() == "published v1\n"
    # Made anew from the same files it is another.
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "later"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"created_at": "2026-02-01T12:00:00Z"}))
    assert cli("publish", bundle).well() == "published v3\n"
