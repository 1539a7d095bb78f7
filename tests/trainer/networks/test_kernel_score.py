"""The kernel machine of the score: its outputs by the textbook, few photos kept, and photos that it learns to tell."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.export.fitted import read_fitted, write_fitted
from trainer.metrics.separation import TRADES, auroc, threshold, trade
from trainer.networks import kernel_score
from trainer.networks.kernel_score import RIDGE, fit_bank
from trainer.networks.ood_score import METHODS, feature_space, fit

CHANNELS = 24


def _photos(seed: int, classes: tuple[int, ...], each: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Features around a direction of each class's own, and the class numbers."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(classes, each)
    return np.abs(np.eye(8, CHANNELS)[truth] * 3 + rng.normal(0.5, 0.4, (len(truth), CHANNELS))), truth


@pytest.fixture(scope="module")
def train() -> tuple[np.ndarray, np.ndarray]:
    return _photos(1, (0, 1, 2))


def test_the_outputs_are_those_of_kernel_ridge_regression(train):
    from sklearn.kernel_ridge import KernelRidge

    pooled, truth = train
    tested = np.concatenate([_photos(2, (0, 1, 2))[0], _photos(3, (5,))[0], -_photos(4, (1,))[0]])

    def prepared(features: np.ndarray) -> np.ndarray:
        roots = np.sign(features) * np.sqrt(np.abs(features))
        return roots / np.linalg.norm(roots, axis=1, keepdims=True)

    centre = prepared(pooled).mean(axis=0)
    scale = np.sqrt(((prepared(pooled) - centre) ** 2).sum(axis=1).mean())
    reference = KernelRidge(alpha=RIDGE, kernel="rbf", gamma=1.0)
    reference.fit((prepared(pooled) - centre) / scale, np.eye(3)[truth])
    expected = reference.predict((prepared(tested) - centre) / scale)
    np.testing.assert_allclose(np.asarray(fit_bank(pooled, truth).outputs(tested)), expected, atol=2e-3)


def test_photos_between_and_beside_the_classes_have_low_outputs(train):
    bank = fit_bank(*train)
    known, near = _photos(2, (0, 1, 2))[0], _photos(3, (5,))[0]
    between = (np.eye(8, CHANNELS)[0] + np.eye(8, CHANNELS)[1]) * 1.5 + np.abs(near)
    ours = np.asarray(bank.outputs(known))
    assert (ours.argmax(axis=1) == np.repeat((0, 1, 2), 40)).mean() > 0.95
    for others in (near, between):
        assert auroc(ours.max(axis=1), np.asarray(bank.outputs(others)).max(axis=1)) > 0.9


def test_few_components_and_few_kept_photos_tell_nearly_as_well(train, monkeypatch):
    known, near = _photos(2, (0, 1, 2))[0], _photos(3, (5,))[0]
    whole = fit_bank(*train)
    monkeypatch.setattr(kernel_score, "BANK", 60)
    small = fit_bank(*train, components=8)
    assert (small.photos.shape, small.weights.shape) == ((60, 8), (60, 3))
    aurocs = [auroc(*(np.asarray(bank.outputs(each)).max(axis=1) for each in (known, near))) for bank in (whole, small)]
    assert aurocs[1] > aurocs[0] - 0.05


def test_what_it_learns_from_is_told_better_and_the_classes_stay(train):
    hard = np.concatenate([_photos(5, (0,))[0] + _photos(6, (6,))[0], _photos(7, (1,))[0] + _photos(8, (6,))[0]])
    known = _photos(2, (0, 1, 2))[0]
    plain, exposed = fit_bank(*train), fit_bank(*train, hard[::2])
    before, after = (
        auroc(*(np.asarray(bank.outputs(each)).max(axis=1) for each in (known, hard[1::2])))
        for bank in (plain, exposed)
    )
    assert after > max(before, 0.95)
    assert exposed.weights.shape[1] == 3
    assert (np.asarray(exposed.outputs(known)).argmax(axis=1) == np.repeat((0, 1, 2), 40)).mean() > 0.95


def test_the_file_beside_the_bundle_has_the_kernel_machine_and_one_of_before_has_none(train, tmp_path):
    pooled, truth = train
    logits = pooled[:, :3].astype(np.float32)
    for with_bank in (True, False):
        score = fit(feature_space(pooled, truth, with_bank=with_bank), pooled, logits)
        assert score.method == ("kernel" if with_bank else "energy+similarity")
        assert ("kernel" in score.space.methods) == with_bank
        write_fitted(tmp_path, 1.5, score)
        temperature, read = read_fitted(tmp_path)
        assert temperature == 1.5
        expected = np.asarray(score.scores(pooled, logits))
        np.testing.assert_allclose(np.asarray(read.scores(pooled, logits)), expected, atol=1e-5)
    assert set(METHODS) - set(read.space.methods) == {"kernel"}


def test_the_trade_says_what_is_told_at_each_price():
    known, ood = np.arange(1000) / 1000, np.arange(100) / 500
    told = trade(known, ood)
    assert len(told) == len(TRADES)
    assert list(told) == sorted(told, reverse=True)
    assert told[TRADES.index(0.95)] == (ood < threshold(known, 0.95)).mean() == 0.25
