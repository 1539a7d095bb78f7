"""Temperature: found again where it is known, and never worse than leaving the logits as they are."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.metrics.calibration import (
    at_temperature_one,
    calibrated_log_loss,
    calibration_error,
    calibration_figures,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability,
)


def _logits(seed: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true temperature is known: labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (20_000, 4)).astype(np.float32)
    chances = np.exp(logits / temperature)
    chances /= chances.sum(axis=1, keepdims=True)
    truth = (rng.random((len(logits), 1)) > chances.cumsum(axis=1)).sum(axis=1).astype(np.int32)
    return logits, np.minimum(truth, 3)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature):
    logits, truth = _logits(1, temperature)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.05)
    assert calibrated_log_loss(logits, truth) <= log_loss(logits, truth) + 1e-9
    assert calibrated_log_loss(logits * 7, truth) == pytest.approx(calibrated_log_loss(logits, truth), abs=1e-4)


def test_log_loss_is_that_of_the_definition():
    logits = np.array([[1000.0, 0.0], [0.0, np.log(3)]], np.float32)
    assert log_loss(logits, np.array([0, 1])) == pytest.approx(-np.log(0.75) / 2)


def test_few_photos_that_are_all_right_do_not_make_it_infinitely_sure():
    truth = np.arange(30) % 3
    margins = [0.5, 1.0, 3.0]
    losses = []
    for margin in margins:
        logits = (np.eye(3)[truth] * margin).astype(np.float32)
        assert 0.1 < fit_temperature(logits, truth) < 1
        losses.append(calibrated_log_loss(logits, truth))
    # A wider margin is still better: the losses do not all become nothing.
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] > 1e-7


def test_one_photo_hardly_moves_it():
    assert fit_temperature(np.array([[2.0, 0.0]], np.float32), np.array([0])) == pytest.approx(1, abs=0.15)
    assert fit_temperature(np.array([[2.0, 0.0]], np.float32), np.array([1])) == pytest.approx(1, abs=0.5)


def test_the_temperature_is_part_of_what_is_served():
    import keras

    from trainer.networks.gradcam import serving_model
    from trainer.networks.heads import build_head

    image = keras.Input((8, 8, 3), dtype="uint8")
    backbone = keras.Model(image, keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(image)))
    head = build_head(4, 3)
    photo = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    plain, cooler = (serving_model(backbone, head, temperature)(photo) for temperature in (1.0, 2.0))
    logits = np.log(np.asarray(plain["probabilities"], np.float64))
    expected = np.exp(logits / 2) / np.exp(logits / 2).sum()
    np.testing.assert_allclose(np.asarray(cooler["probabilities"]), expected, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(cooler["heatmaps"]), np.asarray(plain["heatmaps"]))


def test_the_calibration_error_is_that_of_hand_worked_cases():
    def sure(*confidences: float) -> np.ndarray:
        return np.array([[each, 1 - each] for each in confidences])

    # Always 75 % sure and right three times in four: honest.
    assert expected_calibration_error(sure(0.75, 0.75, 0.75, 0.75), np.array([0, 0, 0, 1])) == pytest.approx(0)
    # Always sure and always wrong.
    assert expected_calibration_error(sure(1.0, 1.0), np.array([1, 1])) == pytest.approx(1)
    # Two bins: 0.94 and 0.95 are right once in two, 0.6 is right: (|1 - 1.89| + 0.4) / 3.
    assert expected_calibration_error(sure(0.95, 0.94, 0.6), np.array([0, 1, 0])) == pytest.approx((0.89 + 0.4) / 3)
    # In one bin their errors cancel out in part: |2/3 - 0.83|.
    one = expected_calibration_error(sure(0.95, 0.94, 0.6), np.array([0, 1, 0]), bins=1)
    assert one == pytest.approx(0.83 - 2 / 3)


def test_the_reliability_table_has_every_bin():
    table = reliability(np.array([[0.5, 0.5], [0.2, 0.8], [1.0, 0.0]]), np.array([0, 1, 1]), bins=5)
    assert list(table["low"]) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert list(table["high"]) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    # A bin holds its upper edge: 0.8 is in the fourth, 1 in the last.
    assert list(table["photos"]) == [0, 0, 1, 1, 1]
    assert list(table["confidence"][2:]) == pytest.approx([0.5, 0.8, 1])
    assert list(table["accuracy"][2:]) == pytest.approx([1, 1, 0])
    assert table["accuracy"][:2].isna().all()


def test_what_the_temperature_did_can_be_told_from_the_probabilities():
    logits, truth = _logits(2, 2.0)
    before = np.exp(logits.astype(np.float64))
    before /= before.sum(axis=1, keepdims=True)
    after = before**0.5 / (before**0.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(at_temperature_one(after, 2.0), before, atol=1e-9)
    figures = calibration_figures({"test": (after, truth)}, 2.0)
    assert (figures["temperature"], figures["bins"]) == (2.0, 15)
    assert figures["test"]["ece_before"] == pytest.approx(expected_calibration_error(before, truth), abs=1e-6)
    # The labels were drawn at temperature 2: dividing by it makes the probabilities honest.
    assert figures["test"]["ece_after"] < 0.015 < 0.1 < figures["test"]["ece_before"]


def test_honest_probabilities_have_nothing_beyond_chance_on_few_photos():
    logits, truth = _logits(4, 1.0)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    parts = [slice(start, start + 100) for start in range(0, 20_000, 100)]
    found = [calibration_error(chances[part], truth[part]) for part in parts[:60]]
    assert np.mean([each.error for each in found]) > 0.04
    assert np.mean([each.beyond for each in found]) == pytest.approx(0, abs=0.006)
    # Most intervals hold the truth, which is none.
    assert np.mean([each.low == 0 for each in found]) > 0.9
    assert found[0].error == pytest.approx(expected_calibration_error(chances[parts[0]], truth[parts[0]]))


def test_what_is_beyond_chance_is_found_whatever_the_number_of_photos():
    logits, truth = _logits(5, 2.0)
    sure = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    whole = calibration_error(sure, truth)
    few = calibration_error(sure[:500], truth[:500])
    assert whole.chance < 0.01 < few.chance
    assert few.low < whole.beyond < few.high
    assert whole.low > 0.02
    assert 0 < whole.high - whole.low < few.high - few.low
