"""The report's charts, labels, choice of photos and intervals, each by itself."""

from __future__ import annotations

import itertools
from dataclasses import replace

import keras
import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from classifier.errors import InvalidRequest
from classifier.registry.manifest import InputSpec
from tests.support import photo_sets
from trainer.data.checks import CheckedPhotos
from trainer.data.source import PhotoSource
from trainer.evaluation.served import Evaluation
from trainer.metrics.intervals import f1_interval
from trainer.networks import backbones
from trainer.report import charts, choices, contact_sheet, filters, mosaics, style
from trainer.report.contact_sheet import draw_contact_sheet

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


def test_a_contact_sheet_has_a_row_a_class_and_the_same_photos_for_a_seed(tmp_path, monkeypatch):
    root = photo_sets.folder(tmp_path / "photos", photos=5)
    paths = sorted(root.rglob("*.png"))
    frame = pd.DataFrame({"label": [path.parent.name for path in paths]})
    photos = CheckedPhotos(frame, pd.DataFrame(), PhotoSource(paths, InputSpec(64, 64, "stretch")), "")
    (sheet,) = draw_contact_sheet(photos, tmp_path / "sheet.png", 3, seed=1)
    again, other = (draw_contact_sheet(photos, tmp_path / f"{seed}.png", 3, seed)[0] for seed in (1, 2))
    assert sheet.read_bytes() == again.read_bytes() != other.read_bytes()
    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGB"), np.int32)
    thirds = np.array_split(pixels, 3)
    # Apples are red, leaves green, the sky is blue; and the rows stand in this order.
    assert [int(third.mean(axis=(0, 1)).argmax()) for third in thirds] == [0, 1, 2]
    monkeypatch.setattr(contact_sheet, "PAGE_CLASSES", 2)
    pages = draw_contact_sheet(photos, tmp_path / "few.jpg", 1, 0)
    assert [page.name for page in pages] == ["few-1.jpg", "few-2.jpg"]
    with pytest.raises(InvalidRequest, match=r"Expected --out to end in \.jpg or \.png; received .*sheet\.gif"):
        draw_contact_sheet(photos, tmp_path / "sheet.gif", 3, 0)


def test_a_filter_is_dead_that_answers_the_same_to_every_photo():
    core = keras.Sequential([
        keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1, name="taught"), keras.layers.ReLU(6.0, name="relu"),
    ], name="core")  # fmt: skip
    kernel = np.zeros((1, 1, 3, 4), np.float32)
    kernel[0, 0, 0] = 1, 1, 0, 1
    # Follows red; is closed always; is open always; is closed where red is below a half.
    core.get_layer("taught").set_weights([kernel, np.array([0, -2, 1, -0.5], np.float32)])
    image = keras.Input((8, 8, 3), dtype="uint8")
    backbone = keras.Model(image, keras.Model(core.inputs, core.outputs, name="core")(image))
    kind = replace(backbones.architecture("base_cnn"), scaling=lambda pixels: pixels / 255)
    dark, light = (np.zeros((8, 8, 3), np.uint8) for _ in range(2))
    dark[::2], light[::2] = 100, 200
    (found,) = filters.count_dead(backbone, kind, [dark, light])
    assert found == filters.Filters("relu", 4, silent=3, dead=(1, 2))
    assert filters.table([found]).to_dict("records") == [
        {"layer": "relu", "filters": 4, "silent": 3, "dead": 2, "dead_filters": "1 2"}
    ]
    with pytest.raises(ValueError, match="at least one photo"):
        filters.count_dead(backbone, kind, [])


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
