"""A manifest is read back as it was written, and a broken one is refused with its field's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier.errors import InvalidManifest
from classifier.registry.channels import Channels, HistoryEntry, Pointer
from classifier.registry.manifest import FileEntry, GoldenCase, InputSpec, Manifest

SHA = "ab" * 32

WHOLE: dict[str, Any] = {
    "schema_version": 1,
    "model": "food",
    "version": "v7",
    "task": "single-label",
    "labels": ["bibimbap", "김치", "crème brûlée"],
    "input": {"width": 224, "height": 192, "resize": "crop"},
    "files": {
        "golden/0.jpg": {"sha256": SHA, "bytes": 0},
        "model.tflite": {"sha256": SHA, "bytes": 12},
    },
    "metrics": {"top1": 0.75, "nested": {"per_class": [1, 2.5, None, "x"]}},
    "golden": [{"file": "golden/0.jpg", "label": "김치", "probabilities": [0.25, 0.5, 0.25]}],
    "golden_tolerance": 0.02,
    "variant": "int8-dynamic",
    "variants": {"float32": {"top1": 0.76}},
    "thresholds": {"unknown": 0.4},
    "tta": {"views": ["original", "mirrored"], "top_1": 0.77},
    "training": {"epochs": 3},
    "data": {"fingerprint": SHA},
    "parent_version": "v6",
    "created_by": "kim",
    "created_at": "2026-01-31T12:00:00Z",
    "tools": {"keras": "3.15.1"},
}


def encoded(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(json.dumps(WHOLE))
    change(document)
    return encoded(document)


def test_every_field_is_read() -> None:
    manifest = Manifest.from_json(encoded(WHOLE))
    assert manifest.labels == ("bibimbap", "김치", "crème brûlée")
    assert manifest.input == InputSpec(224, 192, "crop")
    assert manifest.files["model.tflite"] == FileEntry(SHA, 12)
    assert manifest.golden == (GoldenCase("golden/0.jpg", "김치", (0.25, 0.5, 0.25)),)
    simple = {name: value for name, value in WHOLE.items() if name not in ("labels", "input", "files", "golden")}
    assert {name: getattr(manifest, name) for name in simple} == simple
    assert manifest.extra == {}


def test_writing_gives_the_bytes_that_were_read() -> None:
    assert Manifest.from_json(encoded(WHOLE)).to_json() == encoded(WHOLE)


def test_the_task_of_an_older_manifest_is_a_single_label_and_another_one_is_refused() -> None:
    older = Manifest.from_json(changed(lambda document: document.pop("task")))
    assert older.task == "single-label"
    with pytest.raises(
        InvalidManifest, match=r"received 'multi-label'\. A newer release wrote it: update this one\.$"
    ) as told:
        Manifest.from_json(changed(lambda document: document.update(task="multi-label")))
    assert told.value.field == "task"


def test_unknown_fields_are_kept_wherever_they_are() -> None:
    def extend(document: dict[str, Any]) -> None:
        document["future"] = {"a": [1]}
        document["input"]["colour"] = "rgb"
        document["files"]["model.tflite"]["compression"] = None
        document["golden"][0]["note"] = "dark"

    manifest = Manifest.from_json(changed(extend))
    assert manifest.extra == {"future": {"a": [1]}}
    assert manifest.input.extra == {"colour": "rgb"}
    assert manifest.to_json() == changed(extend)


def test_what_may_be_left_out_has_a_default() -> None:
    required = ("schema_version", "labels", "input", "files", "created_at")
    least = {name: WHOLE[name] for name in required}
    manifest = Manifest.from_json(encoded({**least, "input": {"width": 8, "height": 9}}))
    assert (manifest.model, manifest.version, manifest.golden, manifest.thresholds) == (None, None, (), {})
    assert manifest.input.resize == "stretch"
    for name in required:
        with pytest.raises(InvalidManifest) as caught:
            Manifest.from_json(changed(lambda document, name=name: document.pop(name)))
        assert caught.value.field == name


BROKEN: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("schema_version", lambda d: d.update(schema_version=2)),
    ("schema_version", lambda d: d.update(schema_version=True)),
    ("model", lambda d: d.update(model=3)),
    ("model", lambda d: d.update(model="")),
    ("version", lambda d: d.update(version=["v7"])),
    ("labels", lambda d: d.update(labels=[])),
    ("labels", lambda d: d.update(labels="cat")),
    ("labels.1", lambda d: d["labels"].__setitem__(1, None)),
    ("labels.2", lambda d: d["labels"].__setitem__(2, "bibimbap")),
    ("input", lambda d: d.update(input=[224, 224])),
    ("input.width", lambda d: d["input"].update(width=0)),
    ("input.width", lambda d: d["input"].update(width=224.5)),
    ("input.width", lambda d: d["input"].update(width="224")),
    ("input.height", lambda d: d["input"].pop("height")),
    ("input.height", lambda d: d["input"].update(height=100_000)),
    ("input.resize", lambda d: d["input"].update(resize="pad")),
    ("files", lambda d: d.update(files=["model.tflite"])),
    ("files.model.tflite", lambda d: d["files"].pop("model.tflite")),
    ("files.model.tflite", lambda d: d["files"].update({"model.tflite": SHA})),
    ("files.model.tflite.sha256", lambda d: d["files"]["model.tflite"].update(sha256="AB" * 32)),
    ("files.model.tflite.sha256", lambda d: d["files"]["model.tflite"].pop("sha256")),
    ("files.model.tflite.bytes", lambda d: d["files"]["model.tflite"].update(bytes=-1)),
    ("files.../x", lambda d: d["files"].update({"../x": {"sha256": SHA, "bytes": 1}})),
    ("files./x", lambda d: d["files"].update({"/x": {"sha256": SHA, "bytes": 1}})),
    ("files.manifest.json", lambda d: d["files"].update({"manifest.json": {"sha256": SHA, "bytes": 1}})),
    ("files.claim.json", lambda d: d["files"].update({"claim.json": {"sha256": SHA, "bytes": 1}})),
    ("metrics", lambda d: d.update(metrics=None)),
    ("golden", lambda d: d.update(golden={})),
    ("golden.0", lambda d: d.update(golden=["golden/0.jpg"])),
    ("golden.0.file", lambda d: d["golden"][0].update(file="golden/9.jpg")),
    ("golden.0.label", lambda d: d["golden"][0].update(label="pizza")),
    ("golden.0.probabilities", lambda d: d["golden"][0].update(probabilities=[1.0])),
    ("golden.0.probabilities", lambda d: d["golden"][0].update(probabilities=1.0)),
    ("golden.0.probabilities.2", lambda d: d["golden"][0].update(probabilities=[0, 0, 1.5])),
    ("golden_tolerance", lambda d: d.update(golden_tolerance=-0.1)),
    ("golden_tolerance", lambda d: d.update(golden_tolerance="0.1")),
    ("variant", lambda d: d.update(variant=None)),
    ("variants", lambda d: d.update(variants=[])),
    ("thresholds.unknown", lambda d: d["thresholds"].update(unknown=40)),
    ("tta", lambda d: d.update(tta=["mirrored"])),
    ("training", lambda d: d.update(training="x")),
    ("data", lambda d: d.update(data="x")),
    ("parent_version", lambda d: d.update(parent_version=6)),
    ("created_by", lambda d: d.update(created_by={})),
    ("created_at", lambda d: d.update(created_at="2026-01-31T12:00:00+09:00")),
    ("created_at", lambda d: d.update(created_at="2026-01-31T12:00:00")),
    ("created_at", lambda d: d.update(created_at="yesterday")),
    ("created_at", lambda d: d.update(created_at=1.5)),
    ("tools.keras", lambda d: d["tools"].update(keras=3)),
]


@pytest.mark.parametrize(("field", "change"), BROKEN, ids=[f"{i}-{field}" for i, (field, _) in enumerate(BROKEN)])
def test_a_broken_field_is_named(field: str, change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(InvalidManifest) as caught:
        Manifest.from_json(changed(change))
    assert caught.value.field == field
    assert field in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda data: ascii(data[:12]),
)
def test_what_is_not_a_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidManifest, match=r"manifest\.json") as caught:
        Manifest.from_json(data)
    assert caught.value.field == "manifest.json"


def test_a_metric_that_is_not_finite_cannot_be_written() -> None:
    manifest = Manifest(
        labels=("a",),
        input=InputSpec(1, 1),
        files={"model.tflite": FileEntry(SHA, 1)},
        metrics={"loss": float("nan")},
        created_at="2026-01-31T12:00:00Z",
    )
    with pytest.raises(InvalidManifest, match="finite"):
        manifest.to_json()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, database=None)
@given(name=st.sampled_from([*WHOLE, "new"]), value=JSON)
def test_any_value_in_any_field_is_read_and_written_back_or_refused(name: str, value: Any) -> None:
    data = encoded({**WHOLE, name: value}) if _can_be_encoded(value) else b"\xff"
    try:
        manifest = Manifest.from_json(data)
    except InvalidManifest:
        return
    assert Manifest.from_json(manifest.to_json()) == manifest


def _can_be_encoded(value: Any) -> bool:
    try:
        encoded({"value": value})
    except UnicodeEncodeError:
        return False
    return True


def history(*actions: str) -> Channels:
    """Channels whose production went so: "v2" promotes, "-v1" rolls back to, "canary:v3" is another channel."""
    entries = []
    for index, each in enumerate(actions):
        channel, _, action = each.rpartition(":")
        verb = "rollback" if action.startswith("-") else "promote"
        target = action.removeprefix("-")
        entries.append(
            HistoryEntry(str(index), "2026-01-31T12:00:00Z", "kim", verb, channel or "production", None, target, "")
        )
    return Channels(history=tuple(entries))


@pytest.mark.parametrize(
    ("actions", "previous"),
    [
        ((), None),
        (("v1",), None),
        (("v1", "v2"), "v1"),
        (("v1", "v2", "v3"), "v2"),
        (("v1", "v2", "v3", "-v2"), "v1"),
        (("v1", "v2", "v3", "-v2", "-v1"), None),
        (("v1", "v2", "v3", "-v1"), None),
        (("v1", "v2", "-v1", "v3"), "v1"),
        (("v1", "v1"), None),
        (("v1", "v2", "v2"), "v1"),
        (("v1", "v2", "v1"), "v2"),
        (("v1", "v2", "v1", "-v2"), "v1"),
        (("v1", "canary:v2", "v3", "canary:v4"), "v1"),
    ],
)
def test_a_rollback_goes_down_the_stack_of_promotions(actions: tuple[str, ...], previous: str | None) -> None:
    *before, _ = history(*actions).served() or [None]
    assert (before or [None])[-1] == previous


def test_channels_keep_what_they_do_not_know() -> None:
    document = {
        "schema_version": 1,
        "production": {"version": "v2", "manifest_sha256": SHA, "warm": True},
        "canary": {"version": "v3", "manifest_sha256": SHA, "share": 0.1},
        "shadow": None,
        "history": [
            {
                "id": "1",
                "time": "2026-01-31T12:00:00Z",
                "who": "kim",
                "action": "promote",
                "channel": "production",
                "from": None,
                "to": "v2",
                "reason": "",
                "ticket": 7,
            }
        ],
        "notes": ["x"],
    }
    channels = Channels.from_json(encoded(document), 5)
    assert channels.generation == 5
    assert channels.production == Pointer("v2", SHA, {"warm": True})
    assert channels.to_json() == encoded(document)


@pytest.mark.parametrize(
    ("field", "document"),
    [
        ("schema_version", {"schema_version": 9}),
        ("production.version", {"schema_version": 1, "production": {"manifest_sha256": SHA}}),
        ("production.version", {"schema_version": 1, "production": {"version": "v1\r\nA: b", "manifest_sha256": SHA}}),
        ("shadow.version", {"schema_version": 1, "shadow": {"version": "latest", "manifest_sha256": SHA}}),
        ("canary.manifest_sha256", {"schema_version": 1, "canary": {"version": "v1", "manifest_sha256": "x"}}),
        ("history.0.id", {"schema_version": 1, "history": [{}]}),
        ("channels.json", []),
    ],
)
def test_broken_channels_are_refused_with_the_field(field: str, document: Any) -> None:
    with pytest.raises(InvalidManifest) as caught:
        Channels.from_json(encoded(document), 1)
    assert caught.value.field == field
