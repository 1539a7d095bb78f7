"""What an audit finds: swapped labels, near duplicates, outliers; on made features and on the real photos."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance
from rich.console import Console

from classifier.errors import InvalidRequest
from tests.support.real_data import DATA, needs_photos
from trainer.audit.labels import confident_labels, cross_validated, doubted
from trainer.audit.neighbours import Pair, correlation, groups_of, near_duplicates, nearest, outliers

CLASSES, PHOTOS, CHANNELS = 5, 400, 40


def made(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of five classes that overlap a little, and their class numbers."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, PHOTOS)
    return random.normal(0, 1, (CLASSES, CHANNELS))[labels] * 0.8 + random.normal(0, 1, (PHOTOS, CHANNELS)), labels


def swapped(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels with 5 % of them changed for another one, and the rows of these."""
    random = np.random.default_rng(seed)
    rows = random.choice(len(labels), round(0.05 * len(labels)), replace=False)
    changed, classes = labels.copy(), int(labels.max()) + 1
    changed[rows] = (changed[rows] + random.integers(1, classes, len(rows))) % classes
    return changed, rows


def found_early(features: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """The share of swapped labels among those listed first, as many as a tenth of the photos."""
    changed, rows = swapped(labels, seed)
    probabilities = cross_validated(features, changed, np.arange(len(labels)), 7)
    return float(np.isin(rows, doubted(probabilities, changed)[: len(labels) // 10]).mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_swapped_labels_are_listed_first(seed):
    assert found_early(*made(seed), seed) >= 0.8


@needs_photos
@pytest.mark.long
def test_swapped_labels_of_real_photos_are_listed_first(tmp_path):
    from trainer.audit.material import USUAL_NETWORK, of_dataset
    from trainer.run.sections import DataConfig

    data = DataConfig("food-101", str(DATA / "food-101"))
    console = Console(file=io.StringIO())
    material = of_dataset(data, USUAL_NETWORK, tmp_path, console)
    labels = pd.factorize(material.photos.frame["label"])[0]
    shares = [found_early(material.features, labels, seed) for seed in range(3)]
    assert min(shares) >= 0.8, shares
    # A second audit reads the features that the first one kept.
    kept = of_dataset(data, USUAL_NETWORK, tmp_path, console).features
    np.testing.assert_array_equal(kept, material.features)


def test_confident_labels_are_those_of_cleanlab():
    cleanlab = pytest.importorskip("cleanlab.count", reason="needs cleanlab, of requirements-dev.txt")
    features, labels = made()
    changed, _ = swapped(labels, 0)
    probabilities = cross_validated(features, changed, np.arange(PHOTOS), 7)
    confident = confident_labels(probabilities, changed)
    joint = cleanlab.compute_confident_joint(changed, probabilities, calibrate=False)
    sure = confident >= 0
    ours = np.zeros((CLASSES, CLASSES), int)
    np.add.at(ours, (changed[sure], confident[sure]), 1)
    np.testing.assert_array_equal(ours, joint)


def test_predictions_are_of_models_that_have_not_seen_the_photo():
    features, labels = made()
    twins = np.concatenate([features, features[:20]])
    groups = np.concatenate([np.arange(PHOTOS), np.arange(20)])
    changed = np.concatenate([labels, labels[:20]])
    probabilities = cross_validated(twins, changed, groups, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    # Twins are in the same fold, and so have the same predictions.
    np.testing.assert_allclose(probabilities[:20], probabilities[PHOTOS:])
    np.testing.assert_array_equal(probabilities, cross_validated(twins, changed, groups, 7))


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 0, 0, 0], "received 1, the smallest with 4"), ([0, 0, 0, 1], "received 2, the smallest with 1")],
)
def test_too_few_photos_are_told(labels, message):
    with pytest.raises(InvalidRequest, match=message):
        cross_validated(np.random.default_rng(0).normal(size=(4, 3)), np.array(labels), np.arange(4), 7)


def test_near_duplicates_are_found_by_features_and_pixels():
    random = np.random.default_rng(3)
    features = random.normal(size=(50, 30))
    photos = [Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).resize((32, 32)) for _ in features]
    for copy, row in ((10, 0), (11, 1), (12, 2)):
        features[copy] = features[row] + 0.1 * random.normal(size=30)
    photos[10] = ImageEnhance.Brightness(photos[0]).enhance(0.7)
    photos[11] = photos[1].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # 12 has the features of 2 and is another photo; 20 looks like 21, and their features say that it is not.
    photos[20] = photos[21]
    pairs = near_duplicates(nearest(features), lambda row: np.asarray(photos[row]))
    assert [pair[:2] for pair in sorted(pairs)] == [(0, 10), (1, 11)]
    groups = groups_of([*pairs, Pair(10, 30, 1.0)], 50)
    assert groups[0] == groups[10] == groups[30] != groups[1]
    assert len(set(groups)) == 47
    assert correlation(np.zeros((4, 4), np.uint8), np.asarray(photos[0].resize((4, 4)))) == 0


def test_outliers_are_far_from_all_others():
    random = np.random.default_rng(4)
    features = random.normal(size=(100, 30)) * 0.3 + 1
    features[17] *= np.where(np.arange(30) % 2, -1, 1)
    assert outliers(nearest(features))[0] == 17
    assert len(outliers(nearest(random.normal(size=(60, 10))))) <= 6
