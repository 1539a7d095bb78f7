"""What one file loses against another on the same photos, by their labels and without any."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.metrics.comparison import compare, damage, weights_of_learnt


def test_a_comparison_by_labels_is_paired():
    """600 photos of which 30 change sides, 18 for the worse: unpaired, 2 points would be far within chance."""
    truth = np.zeros(600, np.int32)
    reference, found = np.tile(np.float32([0.6, 0.4]), (600, 1)), np.tile(np.float32([0.6, 0.4]), (600, 1))
    reference[:12], found[:12] = reference[:12, ::-1], (0.55, 0.45)
    found[12:30] = (0.45, 0.55)
    told = compare(reference, found, truth)
    assert told.top_1_loss == pytest.approx(6 / 600)
    # Agresti and Min: (6 - 1.645 * sqrt(31 - 36 / 602)) / 602.
    assert told.top_1_loss_low == pytest.approx(-0.00523, abs=1e-4)
    assert told.log_loss_increase == pytest.approx((12 * np.log(0.4 / 0.55) + 18 * np.log(0.6 / 0.45)) / 600, abs=1e-6)
    assert told.log_loss_increase - 0.005 < told.log_loss_increase_low < told.log_loss_increase


def test_what_a_change_costs_is_expected_of_float32_and_needs_no_label():
    """Of 600 photos 30 get another label, which was 0.1 less probable."""
    reference, found = np.tile(np.float32([0.55, 0.45]), (600, 1)), np.tile(np.float32([0.55, 0.45]), (600, 1))
    found[:30] = (0.48, 0.52)
    told = damage(reference, found)
    assert told.photos == pytest.approx(600)
    assert told.agreement == pytest.approx(570 / 600)
    assert told.agreement_low == pytest.approx(0.9294, abs=1e-3)
    assert told.top_1_loss == pytest.approx(0.1 * 30 / 600)
    assert told.log_loss_increase == pytest.approx(
        (0.55 * np.log(0.55 / 0.48) + 0.45 * np.log(0.45 / 0.52)) * 30 / 600, rel=1e-4
    )
    # Labels drawn as float32 says lose as much, on average over many draws.
    rng = np.random.default_rng(0)
    drawn = [compare(reference, found, (rng.random(600) > 0.55).astype(np.int32)) for _ in range(400)]
    assert np.mean([each.top_1_loss for each in drawn]) == pytest.approx(told.top_1_loss, abs=0.002)
    assert np.mean([each.log_loss_increase for each in drawn]) == pytest.approx(told.log_loss_increase, abs=0.0005)
    # And each draw is far from it, which is what the probabilities spare: by far more than they leave open.
    assert np.std([each.top_1_loss for each in drawn]) * 1.645 > 5 * told.top_1_resolved
    few = damage(reference[::10], found[::10])
    assert few.top_1_resolved > 3 * told.top_1_resolved
    assert 0 < damage(reference[:70], reference[:70]).top_1_loss_high < 0.03


def test_training_photos_count_as_far_as_float32_is_as_unsure_of_them():
    rng = np.random.default_rng(4)

    def photos(margins):
        return np.stack([(1 + margins) / 2, (1 - margins) / 2], axis=1).astype(np.float32)

    unseen = photos(rng.uniform(0, 1, 500))
    learnt = photos(np.concatenate([np.linspace(0.005, 0.19, 20), rng.uniform(0.3, 1, 480)]))
    weights = weights_of_learnt(unseen, learnt)
    unsure = learnt.max(axis=1) < 0.6
    assert weights.max() == 1
    assert weights[unsure] == pytest.approx(1, abs=0.01)
    # A fifth of the whole weight for each fifth of the unseen, of which the first has 20 photos.
    assert weights.sum() == pytest.approx(100, rel=0.15)
    assert weights[unsure].sum() / weights.sum() == pytest.approx(0.2, abs=0.03)
    # None that is as unsure: none counts. As many as of the unseen: all count alike.
    assert not weights_of_learnt(unseen, photos(rng.uniform(0.5, 1, 300))).any()
    assert weights_of_learnt(unseen, unseen) == pytest.approx(1)
    assert weights_of_learnt(unseen, unseen[:0]).shape == (0,)
    # Of a file that spoils the unsure ones alone they then tell what the others tell.
    spoilt = [photos(np.where(each.max(axis=1) < 0.55, -0.05, 2 * each.max(axis=1) - 1)) for each in (unseen, learnt)]
    counted = damage(learnt, spoilt[1], weights)
    assert counted.agreement == pytest.approx(damage(unseen, spoilt[0]).agreement, abs=0.03)
    assert damage(learnt, spoilt[1]).agreement > 0.97 > 0.93 > counted.agreement
