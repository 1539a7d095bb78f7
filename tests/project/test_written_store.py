"""A store that release 0.1.0 wrote, kept as a file: canary, shadow, gate, statistics and corrections are read."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from classifier.registry import pruning
from classifier.registry.gate import Gate
from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.serving.assignment import gets_canary
from classifier.storage.local import LocalStore
from classifier.storage.protocol import ObjectStore
from classifier.traffic.compaction import compact
from classifier.traffic.feedback import Feedback
from classifier.traffic.reading import read
from tests.support.app_client import client_for
from tests.support.commands import Cli, cli_fixture  # noqa: F401  # fixture
from tests.support.written_store import FILE, START, plain_photo, unpack

GET_IT = {4, 5, 6, 9, 15, 17, 19}
"""Of the addresses 10.0.0.1 to 20 those that the canary's salt chooses: they keep it whichever release asks."""
UNTIL = START + timedelta(days=30)
HISTORY = [
    ("promote", "production", None, "v1"),
    ("gate", "gate", "class_drop=0.1", "class_drop=0.3"),
    ("canary start", "canary", None, "v2"),
    ("canary abort", "canary", "v2", "v1"),
    ("promote", "production", "v1", "v2"),
    ("rollback", "production", "v2", "v1"),
    ("canary start", "canary", None, "v3"),
    ("canary percent", "canary", "v3", "v3"),
]


@pytest.fixture(name="written")
def written_fixture(store: ObjectStore) -> ObjectStore:
    unpack(store)
    return store


def test_pointer_canary_shadow_gate_and_history(written: ObjectStore) -> None:
    food, dogs = Registry(written, "food"), Registry(written, "dogs")
    channels = food.channels()
    assert [(each.action, each.channel, each.from_version, each.to_version) for each in channels.history] == HISTORY
    assert (channels.gate, channels.served()) == (Gate(class_drop=0.3), ["v1"])
    assert channels.production is not None and channels.canary is not None
    assert (channels.production.version, channels.canary.version, channels.canary.percent) == ("v1", "v3", 25)
    assert {number for number in range(1, 21) if gets_canary(channels.canary, f"address/10.0.0.{number}")} == GET_IT
    assert channels.history[3].extra["figures"] == {"requests": {"production": 90, "canary": 10}}
    assert channels.history[4].extra["forced"] == ["top-1 falls"]
    assert channels.extra == channels.canary.extra == {}
    shadow = dogs.channels().shadow
    assert shadow is not None
    assert (shadow.version, shadow.sample, shadow.keep_photos, shadow.extra) == ("v2", 0.5, True, {})
    # What is not changed is written as it was.
    for name, registry in (("food", food), ("dogs", dogs)):
        stored = json.loads(written.read(f"{name}/channels.json").data)
        assert json.loads(registry.channels().to_json()) == stored


def test_versions(written: ObjectStore) -> None:
    registry = Registry(written, "food")
    assert [(each.version, each.complete, each.problem) for each in registry.versions()] == [
        (version, True, None) for version in ("v1", "v2", "v3")
    ]
    assert {each.name for each in registry.verify("v3", replay=golden.replay)} >= {"model.tflite", "golden/0.png"}


def test_statistics(written: ObjectStore) -> None:
    before = read(written, "food", START, UNTIL)
    rows = {tuple(kind): row for kind, row in before.total.rows.items()}
    assert {kind: row.requests for kind, row in rows.items()} == {("v1", "production"): 60, ("v3", "canary"): 7}
    production = rows["v1", "production"]
    assert (production.photos, production.errors, production.unknown, production.cache_hits) == (60, 5, 5, 5)
    assert (production.labels, before.total.problems) == ({"green": 60}, {"v3 memory": 2})
    shadow = read(written, "dogs", START, UNTIL).total.row("v2", "shadow")
    assert (shadow.shadow["agreed"], shadow.disagreements()) == (1, [("green", "blue", 1)])
    compact(written, "food", UNTIL)
    after = read(written, "food", START, UNTIL)
    assert (after.total, after.objects) == (before.total, 3)


def test_corrections(written: ObjectStore) -> None:
    desk = Feedback(written, "food")
    cases = {each.correction.label or str(each.is_open): each for each in desk.cases()}
    assert {name: (each.status, each.label) for name, each in cases.items()} == {
        "green": ("accepted", "green"), "lime": ("pending", "lime"), "False": ("rejected", None),
        "True": ("pending", None),
    }  # fmt: skip
    assert desk.photo(cases["green"]) == desk.photo(cases["True"]) == plain_photo("green")
    assert cases["True"].correction.shadow is not None and cases["True"].correction.shadow.label == "green"
    assert len(desk.forget(str(cases["green"].correction.photo_sha256))) == 2
    assert len(desk.cases()) == 2


def test_it_goes_on(written: ObjectStore) -> None:
    registry = Registry(written, "food")
    options: dict[str, Any] = {"who": "lee", "reason": "", "replay": golden.replay}
    registry.promote("v3", **options)
    assert registry.channels().canary is None
    assert registry.rollback(**options).to_version == "v1"
    registry.start_shadow("v3", 0.1, **options)
    Registry(written, "dogs").start_canary("v2", 10, **options)
    assert pruning.prunable(registry, 1) == ["v2"]
    pruning.prune(registry, "v2", who="lee", reason="")
    assert len(registry.channels().history) == len(HISTORY) + 4


def test_every_reading_command(cli: Cli, tmp_path: Path) -> None:
    unpack(LocalStore(tmp_path / "store"))
    for command in (
        "list --all", "history --all", "show v3", "verify v3", "status", "feedback list --status all", "doctor",
        "gate show", "models", "shadow report", "compare v1 v3", "prune --keep 1 --dry-run",
    ):  # fmt: skip
        assert cli(*command.split(), "--json").json(), command
    assert cli("shadow", "report", "--json", MODEL_NAME="dogs").json()["shadow"]["version"] == "v2"


def test_a_function_serves_production_and_canary(tmp_path: Path) -> None:
    unpack(LocalStore(tmp_path / "store"))
    canary = Registry(LocalStore(tmp_path / "store"), "food").channels().canary
    client = client_for(tmp_path / "store", trusted_proxies=1, pointer_ttl=0.0, function_memory=1 << 20)
    answered = {}
    for number in range(1, 40):
        headers = {"X-Forwarded-For": f"10.0.0.{number}"}
        reply = client.post("/", data=plain_photo("green"), content_type="image/png", headers=headers).get_json()
        answered[number] = (reply["label"], reply["model"]["version"])
    first = next(number for number, (_, version) in answered.items() if version == "v3")  # then it was loaded
    for number in range(first, 40):
        expected = "v3" if gets_canary(canary, f"address/10.0.0.{number}") else "v1"
        assert answered[number] == ("green", expected)


def test_the_file_tells_which_release_wrote_it() -> None:
    assert json.loads(FILE.read_text())["release"] == "0.1.0"
