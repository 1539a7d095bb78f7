"""Numbers with their nouns, and the name that was meant."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from classifier.wording import did_you_mean, meant, nearest, plural
from tests.support.processes import FUNCTIONS, ROOT

GATE = ("top_1_drop", "class_drop", "unknown_rise", "latency_ratio", "memory_ratio", "allow_added_labels")
NETWORKS = ("mobilenet_v2", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "efficientnet_lite3")


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (1, ("photo",), "1 photo"),
        (0, ("photo",), "0 photos"),
        (1234, ("photo",), "1,234 photos"),
        (2, ("class",), "2 classes"),
        (2, ("epoch",), "2 epochs"),
        (1, ("class",), "1 class"),
        (2, ("pair is", "pairs are"), "2 pairs are"),
    ],
)
def test_a_number_and_its_noun_agree(count, words, said):
    assert plural(count, *words) == said


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("top1_drop", GATE, ["top_1_drop"]),
        ("Top-1-Drop", GATE, ["top_1_drop"]),
        ("latency", GATE, ["latency_ratio"]),
        ("drop", GATE, ["top_1_drop", "class_drop"]),
        ("mobilenetv2", NETWORKS, ["mobilenet_v2"]),
        ("efficientnet", NETWORKS, ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]),
        ("food101", ("food-101", "dog-breed", "folder", "csv"), ["food-101"]),
        ("--epochs", ("--head-epochs", "--dropout", "--fine-tune-epochs"), ["--head-epochs", "--fine-tune-epochs"]),
        ("zzz", NETWORKS, []),
        ("", NETWORKS, []),
    ],
)
def test_what_was_meant(name, known, found):
    assert meant(name, known) == found
    assert nearest(name, known) == (found[0] if found else None)


def test_a_suggestion_is_a_question():
    assert did_you_mean("drop", GATE) == " Did you mean top_1_drop or class_drop?"
    assert did_you_mean("top_1_dorp", GATE) == " Did you mean top_1_drop?"
    assert did_you_mean("zzz", GATE) == ""


NOUNS = ("photos", "pairs", "corrections", "epochs", "versions", "decisions", "golden", "requests")
SPLITS = {"split", "kind", "what"}
"""Names of texts: "test photos"."""


def counted_by_hand(source: str) -> list[str]:
    """Return the f-strings in which a number that may be 1 stands before a noun in the plural."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, after in zip(node.values, node.values[1:], strict=False):
            if not (isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)):
                continue
            said = str(after.value).lstrip()
            name = ast.unparse(value.value).rpartition(".")[2]
            named = name in SPLITS or name.isupper() or said.startswith("photos/s")
            plain = isinstance(value.value, ast.Call | ast.Attribute | ast.Name | ast.Subscript) and not named
            is_plural = isinstance(value.value, ast.Call) and ast.unparse(value.value.func) == "plural"
            if plain and not is_plural and said.startswith(NOUNS) and str(after.value).startswith(" "):
                found.append(f"{ast.unparse(value.value)} {said[:30]}")
    return found


def test_no_command_says_1_photos() -> None:
    """In what the commands print; a message that is only said of many, such as a limit, is not of these files."""
    files = [
        *(ROOT / "admin_cli").glob("*.py"),
        *(ROOT / "trainer/commands").glob("*.py"),
        *(ROOT / "trainer/audit").glob("*.py"),
    ]
    assert len(files) > 40
    assert {path.name: found for path in files if (found := counted_by_hand(path.read_text()))} == {}
    assert counted_by_hand('f"{count} photos of {n} classes"') == ["count photos of "]


def test_whoever_names_something_that_is_not_there_is_asked_what_was_meant() -> None:
    """One helper: nobody else guesses names, but where labels are looked up for callers and data sets."""
    own = {"wording.py", "query.py", "subsets.py"}
    programs = [
        path
        for top in (FUNCTIONS / "classifier", ROOT / "trainer", ROOT / "admin_cli", ROOT / "batch")
        for path in Path(top).rglob("*.py")
    ]
    assert {path.name for path in programs if "import difflib" in path.read_text()} == own
