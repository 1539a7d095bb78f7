"""How the score is fitted: by substitutes, or by OOD photos of which half at most are learnt from."""

from __future__ import annotations

import io

import keras
import numpy as np
import pytest
from rich.console import Console

from classifier.registry.manifest import InputSpec
from tests.support import photo_sets
from trainer.data.loaders import class_targets
from trainer.data.ood_photos import read_ood_photos
from trainer.data.preparation import check_dataset
from trainer.export.ood_selection import FeatureExtractor, fit_score, training_features
from trainer.metrics.separation import TRADES
from trainer.networks.heads import build_head
from trainer.run.sections import DataConfig
from trainer.training.trained import Trained

COLOURS = {"blue": (40, 60, 220), "green": (30, 200, 50), "red": (220, 50, 40)}
CONSOLE = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    """A network with random weights, whose features tell colours: enough to fit a score to."""
    root = tmp_path_factory.mktemp("photos")
    for number, (label, colour) in enumerate(COLOURS.items()):
        for index in range(16):
            photo_sets.write_photo(root / "train" / label / f"{index}.png", colour, 100 * number + index)
        photo_sets.write_photo(root / "test" / label / "0.png", colour, 100 * number + 50)
    for index in range(10):
        photo_sets.write_photo(root.parent / "others" / f"{index}.png", (220, 200, 40), 900 + index)
    photos, _ = check_dataset(DataConfig("folder", str(root), validation_share=0.25), InputSpec(32, 32), CONSOLE)
    keras.utils.set_random_seed(3)
    image = keras.Input((32, 32, 3), dtype="uint8", name="image")
    values = keras.layers.Rescaling(1 / 255)(image)
    backbone = keras.Model(image, keras.layers.Conv2D(12, 5, strides=4, activation="relu")(values), name="backbone")
    return Trained(backbone, build_head(12, 3), tuple(COLOURS), photos)


def _fitted(trained: Trained, ood):
    frame, look = trained.photos.frame, FeatureExtractor(trained)
    rows = np.flatnonzero(frame["split"] == "validation")
    assert set(class_targets(frame["label"].iloc[rows], trained.labels, one_hot=False)) == {0, 1, 2}
    seen = look(trained.photos.source, rows, CONSOLE, "validation")
    train = training_features(trained, look, CONSOLE)
    return fit_score(trained, look, train, (rows, seen), 1.0, ood, CONSOLE)


def test_without_ood_photos_substitutes_choose_and_the_trade_is_kept(trained):
    scoring = _fitted(trained, None)
    figures = scoring.figures
    assert scoring.score.method == figures["method"] in figures["chosen_by"]["classes_left_out"]
    assert set(figures["trade"]) == {"pass", "classes_left_out", "shuffled_tiles"}
    assert all(len(shares) == len(TRADES) for shares in figures["trade"].values())
    assert figures["near"]["auroc"] == figures["chosen_by"]["classes_left_out"][figures["method"]]
    assert "exposed" not in figures
    assert not len(scoring.unseen)


def test_half_of_the_ood_photos_at_most_are_learnt_from_and_the_rest_judge(trained, tmp_path_factory):
    folder = next(path for path in tmp_path_factory.getbasetemp().rglob("others") if path.is_dir())
    ood = read_ood_photos(folder, InputSpec(32, 32), CONSOLE)
    scoring = _fitted(trained, ood)
    exposed = scoring.figures.get("exposed", 0)
    assert (exposed, scoring.unseen.tolist()) in ((0, list(range(10))), (5, [1, 3, 5, 7, 9]))
    assert set(scoring.figures["chosen_by"]) == {"ood"}
    assert scoring.figures["near"]["auroc"] > 0
    look = FeatureExtractor(trained)
    told = look(ood.select(scoring.unseen), np.arange(len(scoring.unseen)), CONSOLE, "others").tempered(1.0)
    known = look(trained.photos.source, np.arange(12), CONSOLE, "known").tempered(1.0)
    medians = [np.median(np.asarray(scoring.score.scores(*each))) for each in (known, told)]
    assert medians[0] > medians[1]
