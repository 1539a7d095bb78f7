"""The temperature: cross-validation tells what validation photos alone leave to chance, and is told apart from them."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.export.temperature import CROSS_VALIDATION, VALIDATION, cross_validated, of_frozen_features, of_validation
from trainer.metrics.calibration import fit_temperature
from trainer.networks.ood_score import regressed


def _photos(seed: int, each: int, classes: int = 3, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Features of overlapping classes, [photos, 12], in one order for all seeds' class means."""
    means = np.random.default_rng(99).normal(0, apart, (classes, 12))
    truth = np.repeat(np.arange(classes), each).astype(np.int32)
    noise = np.random.default_rng(seed).normal(0, 1.6, (len(truth), 12))
    return (means[truth] + noise).astype(np.float32), truth


def test_it_is_nearer_to_the_truth_than_that_of_few_validation_photos():
    train, new = _photos(1, 150), _photos(2, 3000)
    factor = np.float32(2.5)  # a head whose logits are bolder than a regression's
    wanted = fit_temperature(regressed(*train, new[0]) * factor, new[1])
    far = {CROSS_VALIDATION: [], VALIDATION: []}
    for seed in range(10, 18):
        validation = _photos(seed, 8)
        logits = regressed(*train, validation[0]) * factor
        for found in (of_frozen_features(train, validation, logits), of_validation(logits, validation[1])):
            far[found.fitted_on].append(abs(np.log(found.value / wanted)))
    assert {name: len(each) for name, each in far.items()} == {CROSS_VALIDATION: 8, VALIDATION: 8}
    assert np.mean(far[CROSS_VALIDATION]) < 0.5 * np.mean(far[VALIDATION])
    assert np.max(far[CROSS_VALIDATION]) < 0.15


def test_it_says_what_it_was_fitted_on():
    train, validation = _photos(1, 30), _photos(2, 10)
    logits = regressed(*train, validation[0])
    found = of_frozen_features(train, validation, logits)
    assert found.figures() == {"fitted_on": "cross-validation", "fitted_on_photos": 120}
    alone = of_validation(logits, validation[1])
    assert alone.figures() == {"fitted_on": "validation", "fitted_on_photos": 30}
    assert alone.value == fit_temperature(logits, validation[1])


@pytest.mark.parametrize("case", ["one photo of a class", "a head of another kind"])
def test_where_the_regression_is_of_no_use_validation_photos_decide(case):
    train, validation = _photos(1, 30), _photos(2, 10)
    logits = regressed(*train, validation[0])
    if case == "one photo of a class":
        kept = np.flatnonzero((train[1] > 0) | (np.arange(len(train[1])) == 0))
        train = train[0][kept], train[1][kept]
    else:
        logits = -logits
    found = of_frozen_features(train, validation, logits)
    assert (found.fitted_on, found.value) == (VALIDATION, fit_temperature(logits, validation[1]))


def test_no_photo_has_seen_itself():
    """Labels drawn by lot: whoever has seen them is right more often than chance, who has not is not."""
    features = _photos(3, 40, classes=2)[0]
    truth = np.random.default_rng(5).permutation(np.repeat(np.arange(2), 40)).astype(np.int32)
    seen = (regressed(features, truth, features).argmax(axis=1) == truth).mean()
    unseen = (cross_validated(features, truth).argmax(axis=1) == truth).mean()
    assert unseen < 0.62 < seen
