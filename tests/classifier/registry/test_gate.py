"""The gate: what it refuses and why, how its thresholds are kept, and promotions that it holds up."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from classifier.errors import InvalidManifest, InvalidRequest, InvalidSetting, NotFound, Refused
from classifier.registry.channels import Channels
from classifier.registry.comparison import ClassChange, Comparison, Cost, LabelChange, paired
from classifier.registry.gate import Gate
from tests.support.bundles import replay_bytes
from tests.support.registries import (  # noqa: F401  # fixtures
    bundle_fixture,
    local_fixture,
    promote,
    publish,
    registry_fixture,
    rollback,
    serving,
)

SAME = paired([True] * 90 + [False] * 10, [True] * 90 + [False] * 10)
FALLEN = paired([True] * 90 + [False] * 10, [True] * 70 + [False] * 30)
COST = Cost(1000, 224, 224, 10.0, 50_000_000)


def comparison(**changes) -> Comparison:
    same = Comparison(
        "v1", "v2", "100 photos", LabelChange(), (COST, COST), SAME, unknown=paired([False] * 9, [False] * 9)
    )
    return replace(same, **changes)


def test_a_version_as_good_passes():
    assert Gate().refuses(comparison()) == []


@pytest.mark.parametrize(
    ("changes", "reason", "allowed"),
    [
        ({"top_1": FALLEN}, "top-1 falls from 90.0% to 70.0% on 100 photos", {"top_1_drop": 0.3}),
        ({"classes": (ClassChange("soup", FALLEN, True),)}, "recall of soup falls from 90.0% to", {"class_drop": 0.3}),
        (
            {"unknown": paired([False] * 100, [True] * 20 + [False] * 80)},
            "unknown photos rises from 0.0% to 20.0%",
            {"unknown_rise": 0.3},
        ),
        ({"labels": LabelChange(added=("ramen",))}, "labels are added: ramen", {"allow_added_labels": True}),
        (
            {"labels": LabelChange(renumbered=tuple("abcdefg"))},
            "another label_idx: a, b, c, d, e and 2 more",
            {"allow_renumbered_labels": True},
        ),
        (
            {"costs": (COST, replace(COST, latency_ms=16.0))},
            "a forward pass takes 16.0 ms, before 10.0 ms",
            {"latency_ratio": 2.0},
        ),
        (
            {"costs": (COST, replace(COST, memory_bytes=90_000_000))},
            "it takes 90 MB of memory, before 50 MB",
            {"memory_ratio": 2.0},
        ),
    ],
)
def test_what_is_worse_is_refused_by_its_figure_unless_the_thresholds_allow_it(changes, reason, allowed):
    (refused,) = Gate().refuses(comparison(**changes))
    assert reason in refused
    assert Gate(**allowed).refuses(comparison(**changes)) == []


def test_labels_that_vanish_are_refused_whatever_the_thresholds_are():
    loosest = Gate(1.0, 1.0, 1.0, 100.0, 100.0, True, True)
    (refused,) = loosest.refuses(comparison(labels=LabelChange(removed=("pizza",))))
    assert refused == "labels vanish: pizza"


def test_a_fall_that_chance_explains_is_let_through():
    few = paired([True] * 9 + [False], [True] * 8 + [False] * 2)
    assert Gate().refuses(comparison(top_1=few)) == []
    assert Gate().refuses(comparison(classes=(ClassChange("soup", few, False),))) == []


def test_what_cannot_be_compared_is_refused_unless_it_is_the_same_file():
    (refused,) = Gate().refuses(comparison(top_1=None, unknown=None))
    assert "--eval-set" in refused
    assert Gate().refuses(comparison(top_1=None, same_file=True)) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("top1", "0.1", "Expected one of top_1_drop, class_drop"),
        ("top_1_drop", "much", "top_1_drop to be a number from 0 to 1; received 'much'"),
        ("top_1_drop", "nan", "a number from 0 to 1"),
        ("latency_ratio", "0.5", "a number from 1 to 100"),
        ("allow_added_labels", "perhaps", "to be true or false"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(name, text, message):
    with pytest.raises(InvalidSetting, match=message):
        Gate().changed(name, text)


def test_thresholds_are_read_as_people_write_them():
    gate = Gate().changed("top-1-drop", "2%").changed("allow_added_labels", "yes")
    assert (gate.top_1_drop, gate.allow_added_labels) == (0.02, True)


def test_thresholds_are_kept_beside_the_pointer_and_in_the_history(registry, bundle):
    publish(registry, bundle)
    promote(registry, "v1")
    entry = registry.set_gate(lambda gate: gate.changed("top_1_drop", "0.02"), who="kim", reason="small test set")
    assert entry is not None
    assert (entry.action, entry.channel, entry.from_version, entry.to_version) == (
        "gate", "gate", "top_1_drop=0.01", "top_1_drop=0.02",
    )  # fmt: skip
    channels = registry.channels()
    assert channels.gate.top_1_drop == 0.02
    assert channels.history[-1] == entry
    assert serving(registry) == "v1"
    assert channels.served() == ["v1"]
    assert registry.set_gate(lambda gate: gate.changed("top_1_drop", "0.02"), who="kim", reason="") is None
    assert len(registry.channels().history) == 2


def test_fields_that_this_release_does_not_know_are_kept(local, local_store, bundle):
    publish(local, bundle)
    promote(local, "v1")
    path = "food/channels.json"
    plain = json.loads(local_store.read(path).data)
    local_store.write(path, json.dumps({**plain, "gate": {"top_1_drop": 0.05, "f1_drop": 0.1}}).encode())
    local.set_gate(lambda gate: gate.changed("class_drop", "0.2"), who="kim", reason="")
    stored = json.loads(local_store.read(path).data)["gate"]
    assert (stored["top_1_drop"], stored["f1_drop"], stored["class_drop"]) == (0.05, 0.1, 0.2)


def test_a_threshold_that_cannot_be_read_is_named():
    with pytest.raises(InvalidManifest, match=r"gate.top_1_drop"):
        Channels.from_json(b'{"schema_version": 1, "gate": {"top_1_drop": 7}}', 1)


def test_a_promotion_is_judged_against_what_serves(registry, bundle):
    publish(registry, bundle, times=2)
    promote(registry, "v1", judge=lambda *_: pytest.fail("the first is not held up"))
    seen = []

    def judge(pointer, gate):
        seen.append((pointer.version, gate))
        return ["it is worse"]

    with pytest.raises(Refused, match="v2 is not promoted: it is worse"):
        promote(registry, "v2", judge=judge)
    assert serving(registry) == "v1"
    assert seen == [("v1", Gate())]
    entry = promote(registry, "v2", judge=judge, force=True, reason="known")
    assert entry.extra["forced"] == ["it is worse"]
    assert registry.channels().history[-1].extra["forced"] == ["it is worse"]
    rollback(registry)
    assert serving(registry) == "v1"


def test_a_promotion_is_judged_anew_when_production_or_the_gate_changes_meanwhile(registry, bundle):
    publish(registry, bundle, times=3)
    promote(registry, "v1")
    judged = []

    def judge(pointer, gate):
        judged.append((pointer.version, gate.top_1_drop))
        if len(judged) == 1:
            promote(registry, "v2", who="rival")
        elif len(judged) == 2:
            registry.set_gate(lambda gate: gate.changed("top_1_drop", "0"), who="rival", reason="")
        return []

    promote(registry, "v3", judge=judge)
    assert judged == [("v1", 0.01), ("v2", 0.01), ("v2", 0.0)]
    assert serving(registry) == "v3"


def test_nobody_and_nothing_are_refused(registry, bundle):
    publish(registry, bundle)
    with pytest.raises(InvalidRequest, match="name of who"):
        registry.set_gate(lambda gate: gate.changed("class_drop", "0.2"), who="", reason="")
    with pytest.raises(NotFound):
        registry.promote("v9", who="kim", reason="", replay=replay_bytes, judge=lambda *_: [])
