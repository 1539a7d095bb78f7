"""Labels that the gate would refuse are refused before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from classifier.errors import InvalidManifest, NotFound, Refused
from trainer.data.expected_labels import expect_labels


@pytest.fixture(name="gate")
def gate_fixture(tmp_path: Path) -> Path:
    file = tmp_path / "gate.json"
    file.write_text(json.dumps({"version": "v3", "labels": ["apple", "sky"], "gate": {"allow_added_labels": True}}))
    return file


def test_the_same_labels_and_what_is_allowed_pass(gate: Path) -> None:
    expect_labels(gate, ["sky", "apple", "apple"])
    expect_labels(gate, ["apple", "sky", "tree"])


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["apple"], "compared with v3: labels vanish: sky"),
        (["apple", "leaf", "sky"], "labels get another label_idx: sky (`admin_cli gate set allow_renumbered"),
    ],
)
def test_what_the_gate_would_refuse_is_refused(gate: Path, labels: list[str], reason: str) -> None:
    with pytest.raises(Refused) as refused:
        expect_labels(gate, labels)
    assert reason in str(refused.value) and "Nothing was trained" in str(refused.value)


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="--gate"):
        expect_labels(tmp_path / "none.json", ["a"])
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(InvalidManifest):
        expect_labels(tmp_path / "other.json", ["a"])
