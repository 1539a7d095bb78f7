"""The report's charts, labels, choice of photos and intervals, each by itself."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image

from trainer.evaluation.served import Evaluation
from trainer.metrics.intervals import f1_interval
from trainer.report import charts, choices, mosaics, style

MARKUP, LONG = "<b>apple & $pie$", "a_label_that_is_as_long_as_labels_get_" * 3


def test_every_label_of_101_classes_can_be_read(tmp_path):
    labels = [f"class with a long name {number:03}" for number in range(101)]
    counts = np.diag(np.full(101, 20)) + np.eye(101, k=3, dtype=int)
    figure = charts.confusion_matrix(pd.DataFrame(counts, pd.Index(labels, name="true"), labels), "All")
    style.save(figure, tmp_path / "matrix.png")
    figure.set_dpi(style.CHART_DPI)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for ticks, across in ((axes.get_yticklabels(), "y"), (axes.get_xticklabels(), "x")):
        assert [tick.get_text() for tick in ticks] == labels
        boxes = [tick.get_window_extent() for tick in ticks]
        ends = sorted((getattr(box, f"{across}0"), getattr(box, f"{across}1")) for box in boxes)
        # The height of a line of text in pixels of the file; no label over another; none cut off.
        assert min(high - low for low, high in ends) >= 13
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(ends))
        assert all(figure.bbox.contains(box.x0, box.y0) and figure.bbox.contains(box.x1, box.y1) for box in boxes)
    with Image.open(tmp_path / "matrix.png") as image:
        assert min(image.size) > 2000
    assert (tmp_path / "matrix.png").stat().st_size < 1.5e6


def test_labels_that_no_font_has_become_numbers():
    undrawable = "\U0001f9ff\U000e0041"
    assert style.drawable(["a_b", undrawable, "x\ny\u200b", "", LONG, "$a$"]) == [
        "a b", "class 1", "x y", "class 3", "a label that is…abels get", "$a$",
    ]  # fmt: skip


def test_charts_take_any_label_and_two_classes(tmp_path):
    labels = [MARKUP, "naïve $x_1^{$ \\frac"]
    counts = pd.DataFrame([[3, 1], [0, 4]], pd.Index(labels, name="true"), labels)
    style.save(charts.confusion_matrix(counts, "Two"), tmp_path / "a.png")
    style.save(charts.class_scores(labels, np.array([0.8, 0.9]), "Two"), tmp_path / "b.png")
    spread = pd.DataFrame({"train": [5, 6], "test": [1, 0]}, index=labels)
    style.save(charts.class_distribution(spread), tmp_path / "c.png")
    tile = mosaics.Tile(np.zeros((20, 30, 3), np.uint8), (MARKUP, "$\\bad$"))
    style.save(mosaics.photo_grid([tile]), tmp_path / "d.jpg")
    assert matplotlib.rcParams["text.parse_math"], "the style is the report's own"


def test_photos_are_chosen_where_all_is_right_and_where_all_is_wrong():
    truth = np.array([0, 0, 1, 1], np.int32)
    right = Evaluation(("a", "b"), truth, np.eye(2, dtype=np.float32)[truth])
    wrong = Evaluation(("a", "b"), truth, np.array([[0.4, 0.6], [0.1, 0.9], [0.8, 0.2], [0.7, 0.3]], np.float32))
    assert not len(choices.worst_mistakes(right, 5))
    assert choices.confused_pairs(right, 5).empty
    assert sorted(truth[choices.explained(right, 6)]) == [0, 1]
    assert choices.worst_mistakes(wrong, 3).tolist() == [1, 2, 3]
    assert choices.explained(wrong, 6).tolist() == [1, 2]
    (pair,) = choices.confused_pairs(wrong, 5).to_dict("records")
    assert pair == {"first": 0, "second": 1, "first_as_second": 2, "second_as_first": 2, "photos": 4}
    assert choices.photos_of_pair(wrong, 0, 1, 2).tolist() == [1, 2]
    assert choices.samples(truth, 3, 2).size == 2


def test_the_interval_of_f1_holds_it_and_repeats():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 5, 300).astype(np.int32)
    predicted = np.where(rng.random(300) < 0.8, truth, rng.integers(0, 5, 300))
    value = Evaluation(tuple("abcde"), truth, np.eye(5, dtype=np.float32)[predicted]).figures()["f1"]
    low, high = f1_interval(truth, predicted, 5)
    assert low < value < high
    assert 0.05 < high - low < 0.15
    assert f1_interval(truth, predicted, 5) == (low, high)
    assert f1_interval(truth, truth.astype(np.intp), 5) == (1.0, 1.0)
