"""Figures of a served file: one photo, photo and mirror image, intervals, and the tables that are written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from classifier.registry.manifest import InputSpec
from classifier.serving import views
from classifier.serving.model import Model
from classifier.serving.query import PASSES
from tests.support import tiny_model
from trainer.data.source import PhotoSource
from trainer.evaluation import views as measured
from trainer.evaluation.served import Evaluation, evaluate, run_model
from trainer.metrics.intervals import share_interval
from trainer.report import numbers

LABELS = ("blue", "green", "grey", "red")
COLOURS = {"blue": (40, 60, 220), "green": (30, 200, 50), "grey": (120, 120, 120), "red": (220, 50, 40)}


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    """A real file that tells colours apart and scores them; made by a process of its own."""
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([sys.executable, tiny_model.__file__, folder, "score"], check=True, capture_output=True)
    return (folder / "model.tflite").read_bytes()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> PhotoSource:
    """Photos of each colour; all are lopsided, so that the mirror image is another one."""
    folder, paths = tmp_path_factory.mktemp("photos"), []
    rng = np.random.default_rng(1)
    for label, colour in COLOURS.items():
        for number in range(3):
            light = np.linspace(0.5, 1, 32)[None, :, None]
            pixels = rng.integers(0, 30, (32, 32, 3)) + np.array(colour) * light
            path = folder / label / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
            paths.append(path)
    return PhotoSource(paths, InputSpec(width=32, height=32))


def _evaluation(**more) -> Evaluation:
    """Four photos of which three are right; with the mirror images two."""
    truth = np.array([0, 1, 2, 3], np.int32)
    one = np.array([[0.7, 0.1, 0.1, 0.1], [0.2, 0.5, 0.2, 0.1], [0.1, 0.1, 0.6, 0.2], [0.4, 0.3, 0.2, 0.1]], np.float32)
    return Evaluation(LABELS, truth, one, **more)


BOTH = np.array([[0.6, 0.2, 0.1, 0.1], [0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.4, 0.3, 0.2, 0.1]], np.float32)


def test_figures_with_the_mirror_image_stand_beside_those_of_one_photo():
    plain, both = _evaluation().figures(), _evaluation(tta_probabilities=BOTH).figures()
    assert plain["top_1"] == 0.75
    assert plain["log_loss"] == pytest.approx(-np.log([0.7, 0.5, 0.6, 0.1]).mean(), abs=1e-6)
    assert both["tta_top_1"] == 0.5
    assert both["tta_top_5"] == 1.0
    assert both["tta_log_loss"] == pytest.approx(-np.log([0.6, 0.3, 0.7, 0.1]).mean(), abs=1e-6)
    assert {name: value for name, value in both.items() if not name.startswith("tta_")} == plain
    json.dumps(both, allow_nan=False)


@pytest.mark.parametrize(("right", "photos"), [(8, 12), (372, 500), (3, 3), (0, 3)])
def test_the_interval_of_a_share_is_wilson_s(right, photos):
    z, share = 1.959964, right / photos
    middle = share + z * z / (2 * photos)
    half = z * np.sqrt(share * (1 - share) / photos + z * z / (4 * photos**2))
    expected = ((middle - half) / (1 + z * z / photos), (middle + half) / (1 + z * z / photos))
    assert share_interval(right, photos) == pytest.approx(expected, abs=1e-6)


def test_figures_have_the_interval_of_top_1():
    figures = _evaluation().figures()
    assert (figures["top_1_low"], figures["top_1_high"]) == pytest.approx(share_interval(3, 4), abs=1e-6)


def test_a_row_a_photo():
    scores = np.array([0.9, 0.8, 0.7, 0.25], np.float32)
    paths = ["blue/0.png", "green/1.png", "grey/2.png", "red/3.png"]
    photos = pd.DataFrame({"image_path": paths, "sha256": ["a", "b", "c", "d"]})
    table = _evaluation(tta_probabilities=BOTH, scores=scores).predictions(photos)
    assert list(table) == ["image_path", "label", "predicted", "confidence", "tta_predicted", "score", "sha256"]
    assert table.iloc[1].tolist() == ["green/1.png", "green", "green", 0.5, "blue", pytest.approx(0.8), "b"]
    assert table.iloc[3].tolist() == ["red/3.png", "red", "blue", pytest.approx(0.4), "blue", 0.25, "d"]
    plain = _evaluation().predictions(photos[["image_path"]])
    assert list(plain) == ["image_path", "label", "predicted", "confidence"]


def test_the_tables_are_written_and_say_the_same(tmp_path):
    evaluation = _evaluation(tta_probabilities=BOTH)
    evaluation.write(tmp_path, "test")
    assert not (tmp_path / "test_predictions.csv").exists()
    evaluation.write(tmp_path, "test", pd.DataFrame({"image_path": ["a", "b", "ä, c", "d"]}))
    photos = pd.read_csv(tmp_path / "test_predictions.csv")
    figures = json.loads((tmp_path / "test.json").read_text())
    assert (photos["label"] == photos["predicted"]).mean() == figures["top_1"]
    assert (photos["label"] == photos["tta_predicted"]).mean() == figures["tta_top_1"]
    assert photos["image_path"].tolist() == ["a", "b", "ä, c", "d"]
    assert not list(tmp_path.glob(".partial-*"))


def test_both_views_and_the_score_are_those_of_the_served_file(content, source):
    rows = np.array([7, 0, 11, 4])
    truth = np.array([2, 0, 3, 1], np.int32)
    counted = []
    evaluation = evaluate(content, LABELS, source, rows, truth, lambda: counted.append(1))
    assert len(counted) == len(rows)
    model = Model(content)
    for position, row in enumerate(rows):
        photo = source.array(int(row))
        one, mirrored = model.run(photo), model.run(np.ascontiguousarray(photo[:, ::-1]))
        np.testing.assert_allclose(evaluation.probabilities[position], one.probabilities, atol=1e-6)
        mean = (one.probabilities + mirrored.probabilities) / 2
        np.testing.assert_allclose(evaluation.tta_probabilities[position], mean, atol=1e-6)
        assert evaluation.scores[position] == pytest.approx(one.score, abs=1e-6)
    assert evaluation.figures()["top_1"] == 1.0
    assert evaluation.tta_probabilities.dtype == evaluation.scores.dtype == np.float32
    # The rows of a photo's views stay together whichever thread looked at it.
    again = evaluate(content, LABELS, source, rows, truth)
    np.testing.assert_array_equal(again.tta_probabilities, evaluation.tta_probabilities)


def test_each_choice_of_views_is_measured_as_it_is_served(content, source, monkeypatch):
    rows, truth = np.array([7, 0, 11, 4, 9]), np.array([2, 0, 3, 1, 2], np.int32)
    monkeypatch.setattr(measured, "PHOTOS", 4)
    counted = []
    figures = measured.measure_views(content, source, rows, truth, lambda: counted.append(1))
    chosen = measured.sampled(rows)
    assert (list(figures), len(counted), len(chosen)) == (["none", "mirror", "crops", "all"], 4, 4)
    assert [one["passes"] for one in figures.values()] == [1, 2, 5, 10]
    assert figures["none"]["gain"] == 0
    model = Model(content)
    for tta in PASSES:
        served = [
            views.look(model, views.arrays_of(source.photo(row), source.spec, tta), tta).probabilities[number]
            for row, number in zip(rows[chosen].tolist(), truth[chosen], strict=True)
        ]
        own = figures[tta or "none"]
        assert own["log_loss"] == pytest.approx(-np.log(np.clip(served, 1e-7, 1)).mean(), abs=1e-5)
        assert own["gain"] == pytest.approx(own["top_1"] - figures["none"]["top_1"])
    assert 0 < figures["none"]["ms"] <= figures["mirror"]["ms"] <= figures["all"]["ms"]
    (table,) = numbers.views_table(figures)
    names = ["none", "mirror image", "five crops", "five crops and their mirror images"]
    assert [row[0] for row in table.rows] == names
    assert numbers.views_table({}) == []


def test_a_photo_that_is_gone_stops_the_evaluation(content, source):
    gone = PhotoSource([*source.paths[:2], Path("gone.png")], source.spec)
    with pytest.raises(FileNotFoundError):
        evaluate(content, LABELS, gone, np.arange(3), np.zeros(3, np.int32))


def test_only_the_top_heatmap_of_a_photo_is_kept(content, source):
    (probabilities, heatmap), _ = run_model(content, source, np.array([0, 9]))
    expected = Model(content).run(source.array(0))
    assert heatmap.base is None
    np.testing.assert_allclose(heatmap, expected.heatmaps[int(probabilities.argmax())], atol=1e-6)
