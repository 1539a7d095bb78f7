"""What earlier releases make of pointers and manifests: their own readers, in tests/data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from classifier.registry import pruning
from classifier.registry.channels import Channels
from classifier.registry.gate import Gate
from classifier.registry.rules import Registry
from classifier.storage.local import LocalStore
from tests.support.bundles import replay_bytes, write_bundle
from tests.support.processes import ROOT
from tests.support.registries import promote, publish, rollback

RELEASE = ROOT / "tests/data/earlier_release"
WITHOUT_SAMPLES = ROOT / "tests/data/release_without_samples"
POINTER = "food/channels.json"
READ = """
import json, sys
from dataclasses import asdict, replace
from classifier.registry.channels import Channels, HistoryEntry, Pointer
channels = Channels.from_json(sys.stdin.buffer.read(), 7)
if len(sys.argv) > 1:
    action, version, sha256 = sys.argv[1:]
    entry = HistoryEntry(
        "of the earlier release", "2026-11-30T05:00:00.000Z", "lee", action, "production",
        channels.production.version, version, "", sha256,
    )
    channels = replace(channels, production=Pointer(version, sha256), history=(*channels.history, entry))
print(json.dumps({
    "production": [channels.production.version, channels.production.manifest_sha256],
    "served": channels.served(),
    "earlier": [[each.version, each.manifest_sha256] for each in channels.earlier()],
    "history": [entry.to_dict() for entry in channels.history],
    "written": channels.to_json().decode(),
}))
"""
STATES = ("canary", "canary raised", "shadow", "aborted", "forced", "rolled back", "pruned")


def earlier(content: bytes, *change: str) -> Any:
    """What the earlier release makes of a pointer; with an action, a version and a SHA-256 it changes production."""
    done = subprocess.run(
        [sys.executable, "-c", READ, *change],
        env={**os.environ, "PYTHONPATH": str(RELEASE)},
        input=content,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.fixture(name="local", scope="module")
def local_fixture(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(LocalStore(tmp_path_factory.mktemp("store")), "food")


@pytest.fixture(name="states", scope="module")
def states_fixture(local: Registry, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Pointers that this release writes, each with a gate and with what the name says."""
    bundle = write_bundle(tmp_path_factory.mktemp("bundle"))

    def pointer() -> bytes:
        return local.store.read(POINTER).data

    options: dict[str, Any] = {"who": "kim", "reason": "new", "replay": replay_bytes}
    states = {}
    publish(local, bundle, 5)
    promote(local, "v1")
    promote(local, "v2")
    local.set_gate(lambda gate: gate.changed("class_drop", "0.3"), who="kim", reason="")
    local.start_canary("v3", 10, **options)
    states["canary"] = pointer()
    local.start_canary("v3", 50, **options)
    states["canary raised"] = pointer()
    local.abort_canary(who="kim", reason="slow", figures={"requests": {"canary": 40}, "findings": []})
    states["aborted"] = pointer()
    local.start_shadow("v3", 0.5, keep_photos=True, **options)
    states["shadow"] = pointer()
    promote(local, "v4", judge=lambda *_: ["top-1 falls"], force=True)
    states["forced"] = pointer()
    rollback(local)
    states["rolled back"] = pointer()
    promote(local, "v5")
    rollback(local)  # else v4 has served last
    pruning.prune(local, "v4", who="kim", reason="")
    states["pruned"] = pointer()
    assert sorted(states) == sorted(STATES)
    return states


@pytest.mark.parametrize("state", STATES)
def test_it_serves_what_this_release_promoted_and_loses_nothing(states: dict[str, bytes], state: str) -> None:
    content = states[state]
    ours, theirs = Channels.from_json(content, 7), earlier(content)
    assert ours.production is not None
    assert theirs["production"] == [ours.production.version, ours.production.manifest_sha256]
    assert theirs["served"] == ours.served()
    assert theirs["history"] == [entry.to_dict() for entry in ours.history]
    assert json.loads(theirs["written"]) == json.loads(content)
    assert Channels.from_json(theirs["written"].encode(), 7) == ours
    # What it would fall back to is what this release would, but for what it does not know to be deleted.
    known = [[each.version, each.manifest_sha256] for each in ours.earlier()]
    assert [each for each in theirs["earlier"] if each[0] not in ours.pruned()] == known


def test_this_release_goes_on_from_what_it_promotes(local: Registry, states: dict[str, bytes]) -> None:
    sha256 = {version: local.manifest(version)[1] for version in ("v3", "v5")}
    other = Channels.from_json(earlier(states["canary"], "promote", "v5", sha256["v5"])["written"].encode(), 8)
    assert (other.production and other.production.version, other.canary and other.canary.percent) == ("v5", 10)
    assert (other.gate, other.served()[-2:]) == (Gate(class_drop=0.3), ["v2", "v5"])
    same = Channels.from_json(earlier(states["canary"], "promote", "v3", sha256["v3"])["written"].encode(), 8)
    assert (same.production and same.production.version, same.canary) == ("v3", None)
    shadow = Channels.from_json(earlier(states["shadow"], "promote", "v3", sha256["v3"])["written"].encode(), 8)
    assert (shadow.production and shadow.production.version, shadow.shadow) == ("v3", None)
    back = Channels.from_json(
        earlier(states["canary"], "rollback", "v1", local.manifest("v1")[1])["written"].encode(), 8
    )
    assert (back.served(), back.canary and back.canary.version) == (["v1"], "v3")


def test_a_release_without_samples_reads_a_version_that_shows_some_and_loses_nothing(tmp_path: Path) -> None:
    registry = Registry(LocalStore(tmp_path / "store"), "food")
    bundle = write_bundle(tmp_path / "bundle")
    shown = registry.publish(bundle, who="kim", replay=replay_bytes, public=("golden/0.png",)).to_json()
    program = (
        "import sys; from classifier.registry import manifest; assert 'public' not in dir(manifest.Manifest);"
        "read = manifest.Manifest.from_json(sys.stdin.buffer.read()); sys.stdout.buffer.write(read.to_json());"
        f"assert manifest.__file__.startswith({str(WITHOUT_SAMPLES)!r}) and read.labels == ('cat', 'dog')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(WITHOUT_SAMPLES)},
        input=shown,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == json.loads(shown)
    assert json.loads(shown)["public"] == ["golden/0.png"]


def test_the_reader_is_the_one_that_was_kept() -> None:
    """What is imported there is in that folder: no module of this release answers in its place."""
    program = (
        "from classifier import errors; from classifier.registry import channels, fields; "
        "print(errors.__file__, channels.__file__, fields.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(RELEASE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert all(Path(each).is_relative_to(RELEASE) for each in done.stdout.split())
