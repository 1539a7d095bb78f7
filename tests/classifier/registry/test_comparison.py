"""Paired comparisons: the arithmetic against other libraries, and what is paired with what."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from classifier.registry.comparison import (
    Answer,
    Photo,
    by_class,
    calibration_error,
    labels_changed,
    paired,
    right,
    shared,
    told_unknown,
    unpaired,
)
from trainer.metrics.calibration import expected_calibration_error


def photos(label: str, before: list[str], after: list[str]) -> list[Photo]:
    return [
        Photo(f"{label}/{number}", label, Answer(one, 0.9), Answer(other, 0.9))
        for number, (one, other) in enumerate(zip(before, after, strict=True))
    ]


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (9, 1), (3, 12), (40, 40), (700, 300)])
def test_the_p_value_is_mcnemar_s_exact_one(lost, won):
    change = paired([True] * lost + [False] * won + [True] * 5, [False] * lost + [True] * won + [True] * 5)
    expected = binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1.0
    assert change.p == pytest.approx(expected, rel=1e-9)
    assert change.difference == pytest.approx((won - lost) / (lost + won + 5))


@pytest.mark.parametrize("drop", [0.0, 0.05, 0.2])
def test_the_interval_holds_the_true_difference_as_often_as_it_says(drop):
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(3000):
        before = rng.random(80) < 0.9
        after = np.where(before, rng.random(80) >= drop / 0.9, rng.random(80) < 0.4)
        change = paired(before.tolist(), after.tolist())
        held += change.low <= 0.04 - drop <= change.high
    assert held / 3000 >= 0.93


def test_few_photos_do_not_pretend_to_be_sure():
    change = paired([True] * 3, [True] * 3)
    assert change.low < -0.3 < 0.3 < change.high


def test_figures_of_different_photos_are_compared_without_pairs():
    change = unpaired((0.99, 1000), (0.796, 1000))
    assert not change.paired
    assert change.high < -0.15
    assert change.p < 1e-6
    assert unpaired((0.9, 10), (0.8, 10)).high > 0


def test_a_class_is_worse_only_beyond_what_so_many_classes_show_by_chance():
    fallen = photos("soup", ["soup"] * 20, ["salad"] * 15 + ["soup"] * 5)
    noise = [photo for label in "abcdefghij" for photo in photos(label, [label] * 20, [label] * 15 + ["x"] * 5)]
    assert {each.label for each in by_class(fallen + noise) if each.worse} == {"soup"}
    alone = by_class(photos("a", ["a"] * 20, ["a"] * 14 + ["x"] * 6))
    assert alone[0].worse  # the same fall, where nothing else was looked at
    better = by_class(photos("a", ["x"] * 20, ["a"] * 20))
    assert not better[0].worse


def test_the_calibration_error_is_the_trainer_s():
    rng = np.random.default_rng(5)
    probabilities = rng.dirichlet(np.ones(4) / 2, 500).astype(np.float64)
    truth = rng.integers(0, 4, 500).astype(np.int32)
    answers = [
        (Answer(str(row.argmax()), float(row.max())), str(label))
        for row, label in zip(probabilities, truth, strict=True)
    ]
    assert calibration_error(answers) == pytest.approx(expected_calibration_error(probabilities, truth), abs=1e-9)


def test_labels_are_compared_by_name_and_number():
    change = labels_changed(["a", "b", "c"], ["a", "aa", "b"])
    assert (change.added, change.removed, change.renumbered) == (("aa",), ("c",), ("b",))
    assert labels_changed(["a", "b"], ["a", "b"]).renumbered == ()


def test_only_photos_that_both_have_seen_under_the_same_label_are_compared():
    one, other = Answer("a", 0.9, False), Answer("b", 0.6, True)
    before = {"1": ("a", one), "2": ("a", one), "3": ("b", one), "4": ("new", one), "5": ("a", one)}
    after = {"1": ("a", one), "2": ("b", other), "3": ("b", other), "4": ("new", other), "6": ("a", one)}
    both, left_out = shared(before, after, ["a", "b"])
    assert [photo.name for photo in both] == ["1", "3"]
    assert left_out == 2  # under another label now, and one of a label that only one knows
    assert right(both).after == 1.0
    unknown = told_unknown(both)
    assert unknown is not None
    assert (unknown.before, unknown.after) == (0.0, 0.5)
    assert told_unknown(photos("a", ["a"], ["a"])) is None
