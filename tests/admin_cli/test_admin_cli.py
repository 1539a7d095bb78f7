"""The command line against real stores: what it does, what it prints for programs, what rivals do to each other."""

from __future__ import annotations

import json
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from classifier.registry.rules import Registry
from classifier.serving.backoffs import SHORTEST
from classifier.storage.opening import open_store
from tests.conftest import BUCKET
from tests.support.bundles import TINY_LABELS, replay_bytes, write_bundle
from tests.support.commands import PROGRAM, Cli, cli_fixture, environment_of, photo_fixture, process  # noqa: F401  # fixtures
from tests.support.processes import start_together
from tests.support.serving import damage, serve

RIVALS = 8


def test_the_whole_story(tmp_path: Path, tiny_bundle: Path, photo: Path) -> None:
    run = partial(process, MODEL_STORE=tmp_path / "store", POINTER_WHO="kim")

    def words(*arguments: str | Path) -> list[list[str]]:
        return [line.split() for line in run(*arguments).well().splitlines()]

    assert "the folder does not exist" in run("list").failed(3)
    (tmp_path / "run").mkdir()
    tiny_bundle.rename(tmp_path / "run/bundle")
    assert run("publish", tmp_path / "run").well() == "published v1\n"
    assert [line[0] for line in words("list")] == ["version", "v1"]
    assert run("promote", "v1", "--reason", "the first").well() == "promoted v1\n"
    assert run("publish", tmp_path / "run/bundle", "--again").well() == "published v2\n"
    assert [line[:2] for line in words("list")[1:]] == [["*", "v1"], ["v2", "2026-01-31"]]
    assert run("promote", "v2", "--expect", "v1", "--who", "lee").well() == "promoted v2 (before: v1)\n"
    assert words("show")[0] == words("show", "v2")[0] == ["version", "v2", "of", "food"]
    assert words("show", "v1")[0] == ["version", "v1", "of", "food"]
    reason = "calls soups salads"
    assert run("rollback", "--reason", reason).well() == "rolled back to v1 (before: v2)\n"
    first, *others = words("history")[1:]
    assert [first[2:], *others[:1], others[1][2:], others[2][2:], *others[3:]] == [
        ["rollback", "v2", "v1", "kim"],
        reason.split(),
        ["promote", "v1", "v2", "lee"],
        ["promote", "-", "v1", "kim"],
        ["the", "first"],
    ]
    assert run("verify", "v2").well().endswith("v2: 11 files as published, 8 golden cases repeat\n")
    said = run("predict", photo, "--gradcam", tmp_path / "out.jpg").well()
    assert said.splitlines()[1].split()[0] == "red"
    # A long path may move to a line of its own.
    assert f"red, says v1 of food wrote {tmp_path / 'out.jpg'}: why red" in " ".join(said.split())
    with Image.open(tmp_path / "out.jpg") as overlay:
        overlay.load()
        assert (overlay.format, overlay.size) == ("JPEG", (160, 120))


def test_a_function_is_asked_and_answers_as_the_model_does_here(
    tmp_path: Path, cli: Cli, tiny_bundle: Path, photo: Path
) -> None:
    with serve(tmp_path / "store", tmp_path / "server", POINTER_TTL="0") as server:
        there = ("--url", server.url)
        here_or_there: list[tuple[str, ...]] = [(), there]
        cli("publish", tiny_bundle, "--again").well()
        for where in here_or_there:
            assert "admin_cli promote v1" in cli("predict", photo, *where).failed(3)
        cli("promote", "v1").well()
        file = tmp_path / "store/food/versions/v1/model.tflite"
        content = file.read_bytes()
        damage(tmp_path / "store")
        for where in here_or_there:
            assert "model.tflite" in cli("predict", photo, *where).failed(5)
        file.write_bytes(content)
        # A version that failed is not tried again at once.
        time.sleep(2 * SHORTEST)
        replies: list[dict[str, Any]] = []
        for number, where in enumerate(here_or_there):
            out = tmp_path / f"{number}.png"
            options = ("--gradcam", out, "--label", "grey", "--top-k", "3", "--json")
            replies.append(cli("predict", photo, *options, *where).json())
            assert replies[-1]["gradcam"].pop("file") == str(out)
        assert replies[1].pop("request_id")
        assert replies[0] == replies[1]
        assert replies[0]["model"] == {"name": "food", "version": "v1", "channel": "production", "task": "single-label"}
        assert replies[0]["gradcam"] == {"label": "grey", "media_type": "image/png"}
        assert (replies[0]["label"], replies[0]["status"], len(replies[0]["predictions"])) == ("red", "ok", 3)
        assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
        assert "red, says v1 of food" in cli("predict", photo, *there).well()
        for where in here_or_there:
            unknown = ("--gradcam", tmp_path / "x.png", "--label", "zebra")
            assert "zebra" in cli("predict", photo, *unknown, *where).failed(2)
            assert cli("predict", tmp_path / "store/food/channels.json", *where).failed(2)
        assert not (tmp_path / "x.png").exists()


def test_a_label_that_looks_like_a_switch_is_explained(
    cli: Cli, tiny_bundle: Path, photo: Path, tmp_path: Path
) -> None:
    """Of digits, one class is called "0"; here green is."""
    manifest = (tiny_bundle / "manifest.json").read_text()
    (tiny_bundle / "manifest.json").write_text(manifest.replace('"green"', '"0"'))
    cli("publish", tiny_bundle, "--again").well()
    cli("promote", "v1").well()
    with serve(tmp_path / "store", tmp_path / "server") as server:
        for options, count in ((("--tta",), 2), (("--views", "crops"), 5), (("--views", "all"), 10), ((), None)):
            here, there = (
                cli("predict", photo, *options, "--json", *where).json() for where in ((), ("--url", server.url))
            )
            assert (here.get("views"), here["predictions"]) == (count, there["predictions"])
        for where in ((), ("--url", server.url)):
            reply = cli("predict", photo, "--gradcam", tmp_path / "0.png", "--label", "0", "--json", *where).json()
            assert reply["gradcam"]["label"] == "0"


def test_a_photo_that_the_model_does_not_know(cli: Cli, tiny_bundle: Path, photo: Path) -> None:
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    (tiny_bundle / "manifest.json").write_text(json.dumps({**manifest, "thresholds": {"unknown": 1.0}}))
    cli("publish", tiny_bundle, "--again").well()
    cli("promote", "v1").well()
    assert "unknown: not like anything that v1 of food was trained on (score " in cli("predict", photo).well()
    assert "unknown below 1.000" in cli("show").well()


def test_on_cloud_storage(emulator: str, tiny_bundle: Path) -> None:
    store = f"gs://{BUCKET}/test/{uuid.uuid4().hex}"
    run = partial(process, MODEL_STORE=store, STORAGE_EMULATOR_HOST=emulator, POINTER_WHO="kim")
    for number in (1, 2):
        assert run("publish", tiny_bundle, "--again").well() == f"published v{number}\n"
        assert run("promote", f"v{number}").well().startswith(f"promoted v{number}")
    assert run("rollback").well() == "rolled back to v1 (before: v2)\n"
    versions = run("list", "--json").json()
    assert [(each["version"], each["production"], each["problem"]) for each in versions] == [
        ("v1", True, None),
        ("v2", False, None),
    ]
    assert [entry["to"] for entry in run("history", "--json").json()] == ["v1", "v2", "v1"]
    assert "Expected one of v1, v2; received 'v3'" in run("show", "v3").failed(3)


def test_json_of_every_command(cli: Cli, tiny_bundle: Path, tmp_path: Path, photo: Path) -> None:
    assert cli("publish", tiny_bundle, "--json").json() == {"version": "v1", "model": "food", "published": True}
    assert cli("history", "--json").json() == []
    first = cli("promote", "v1", "--reason", "a “first” one", "--json").json()
    assert (first["from"], first["to"], first["who"], first["reason"]) == (None, "v1", "kim", "a “first” one")
    cli("publish", tiny_bundle, "--again").well()
    second = cli("promote", "v2", "--json").json()
    third = cli("rollback", "--json").json()
    assert (third["action"], third["from"], third["to"]) == ("rollback", "v2", "v1")
    assert cli("history", "--json").json() == [third, second, first]
    assert cli("history", "--json", "--limit", "2").json() == [third, second]
    unchanged = cli("promote", "v1", "--json").json()
    assert unchanged == {"action": "none", "channel": "production", "from": "v1", "to": "v1"}
    size = (tiny_bundle / "model.tflite").stat().st_size
    listed = cli("list", "--json").json()
    assert listed[0] == {
        "version": "v1",
        "complete": True,
        "production": True,
        "canary": False,
        "problem": None,
        "created_at": "2026-01-31T12:00:00Z",
        "created_by": "kim",
        "architecture": None,
        "variant": "float32",
        "labels": 4,
        "top_1": None,
        "bytes": size,
    }
    assert (listed[1]["version"], listed[1]["production"]) == ("v2", False)
    shown = cli("show", "--json").json()
    assert (shown["version"], shown["labels"], shown["files"]["model.tflite"]["bytes"]) == (
        "v1",
        list(TINY_LABELS),
        size,
    )
    pointer = json.loads((tmp_path / "store/food/channels.json").read_text())["production"]
    assert shown["manifest_sha256"] == pointer["manifest_sha256"]
    verified = cli("verify", "v1", "--json").json()
    assert (verified["version"], len(verified["files"]), verified["golden_cases"]) == ("v1", 11, 8)
    assert {"name": "model.tflite", **shown["files"]["model.tflite"]} in verified["files"]
    predicted = cli("predict", photo, "--json").json()
    assert (predicted["label"], predicted["status"], predicted["label_idx"]) == ("red", "ok", 3)
    assert predicted["predictions"][0]["label"] == "red" and "gradcam" not in predicted


def test_a_version_may_be_written_in_other_ways(cli: Cli, tiny_bundle: Path) -> None:
    for _ in range(2):
        cli("publish", tiny_bundle, "--again").well()
    assert cli("promote", "1").well() == "promoted v1\n"
    assert cli("promote", "V2", "--expect", "production").well() == "promoted v2 (before: v1)\n"
    for same in ("production", "v2", "V2", "2", "02", "Production"):
        assert cli("promote", same, "--expect", "2").well() == "v2 already serves; nothing was changed\n"
        assert cli("show", same).well().split()[:2] == ["version", "v2"]
        assert cli("verify", same).well().endswith("v2: 11 files as published, 8 golden cases repeat\n")
    assert cli("rollback", "--to", "1").well() == "rolled back to v1 (before: v2)\n"
    assert len(cli("history", "--json").json()) == 3
    for other in ("0", "v", "latest", "1.0"):
        assert f"received '{other}'" in cli("show", other).failed(3)


def test_lists_show_the_newest_and_say_so(cli: Cli, tmp_path: Path) -> None:
    registry = Registry(open_store(str(tmp_path / "store")), "food")
    bundle = write_bundle(tmp_path / "bundle")
    for _ in range(23):
        registry.publish(bundle, who="kim", replay=replay_bytes)
    for number in (*range(1, 23), 2):
        registry.promote(f"v{number}", who="kim", reason="", replay=replay_bytes)
    (tmp_path / "store/food/versions/v23/manifest.json").unlink()

    def first(*arguments: str) -> tuple[list[str], str]:
        table, _, said = cli(*arguments).well().partition("\n\n")
        return [line.removeprefix("*").split()[0] for line in table.splitlines()[1:]], said

    assert first("list") == ([f"v{number}" for number in range(3, 23)],
                             "the newest 20 of 23; production serves v2; --all shows all\n")  # fmt: skip
    assert first("list", "--limit", "1")[0] == ["v22"]
    assert first("list", "--limit", "22") == ([f"v{number}" for number in range(1, 23)], "")
    everything, problem = first("list", "--all")
    assert everything == [f"v{number}" for number in range(1, 24)] and "v23      claimed by kim" in problem
    assert first("list", "--all", "--limit", "2")[0] == ["v22", "v23"]
    assert len(cli("list", "--json").json()) == 20
    entries, said = first("history")
    assert (len(entries), said) == (20, "the newest 20 of 23; --all shows all\n")
    assert (len(first("history", "--all")[0]), first("history", "--all")[1]) == (23, "")
    assert len(first("history", "--limit", "3")[0]) == 3


@pytest.fixture(params=["local", "cloud"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where an empty store is, of each kind in turn; set as MODEL_STORE."""
    url = str(tmp_path / "store")
    if request.param == "cloud":
        url = f"gs://{BUCKET}/test/{uuid.uuid4().hex}"
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("emulator"))
    monkeypatch.setenv("MODEL_STORE", url)
    monkeypatch.setenv("MODEL_NAME", "food")
    return url


def test_rivals_that_promote_at_once_leave_one_history(store_url: str, tiny_bundle: Path) -> None:
    store = open_store(store_url)
    registry = Registry(store, "food")
    for _ in range(2):
        registry.publish(tiny_bundle, who="kim", replay=lambda *_: None)
    # What takes long to import is there before the rivals go off.
    heavy = "ai_edge_litert.interpreter, classifier.serving.golden, classifier.photo.preprocessing"
    program = f"import {heavy}; wait(); {PROGRAM}"

    rivals = [["promote", f"v{1 + number % 2}", "--who", f"rival {number}"] for number in range(RIVALS)]
    printed = start_together(program, rivals)

    channels = registry.channels()
    served = [entry.to_version for entry in channels.history]
    assert {entry.who for entry in channels.history} <= {f"rival {number}" for number in range(RIVALS)}
    assert all(entry.from_version != entry.to_version for entry in channels.history)
    assert [entry.from_version for entry in channels.history] == [None, *served[:-1]]
    assert channels.production is not None
    assert channels.production.version == served[-1]
    assert channels.production.manifest_sha256 == registry.manifest(served[-1])[1]
    told = [
        f"promoted {entry.to_version}" + (f" (before: {entry.from_version})" if entry.from_version else "")
        for entry in channels.history
    ]
    # Who came behind a rival with the same wish had nothing to do.
    unchanged = [line for line in printed if line.endswith(" already serves; nothing was changed")]
    assert sorted(set(printed) - set(unchanged)) == sorted(set(told))
    assert len(printed) == len(told) + len(unchanged)


def test_what_cannot_be_used_is_listed_with_its_problem(cli: Cli, tmp_path: Path) -> None:
    """Versions that another tool or another release made, and one that was never finished."""
    registry = Registry(open_store(str(tmp_path / "store")), "food")
    bundle = write_bundle(
        tmp_path / "bundle", training={"network": None, "best_epoch": 3}, variants={"float32": "fast"}
    )
    for _ in range(4):
        registry.publish(bundle, who="kim", replay=replay_bytes)
    versions = tmp_path / "store/food/versions"
    manifest = json.loads((versions / "v2/manifest.json").read_text())
    (versions / "v2/manifest.json").write_text(json.dumps({**manifest, "schema_version": 2}))
    (versions / "v3/model.tflite").unlink()
    (versions / "v4/manifest.json").unlink()
    problems = {each["version"]: each["problem"] for each in cli("list", "--all", "--json").json()}
    assert problems["v1"] is None
    assert "schema_version" in problems["v2"]
    assert problems["v3"] == "missing or of another size: model.tflite"
    assert problems["v4"].startswith("claimed by kim at ")
    assert [each["version"] for each in cli("list", "--json").json()] == ["v1", "v2", "v3"]
    printed = cli("list", "--all").well()
    assert "v3       missing or of another size: model.tflite\n" in printed
    assert "".join(problems["v2"].split()) in "".join(printed.split())
    assert cli("show", "v1").well().endswith("\n* float32      -          -         -   -   -             -\n")
