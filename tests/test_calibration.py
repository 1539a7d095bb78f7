"""Temperature: found again where it is known, and never worse than leaving the logits as they are."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.calibration import calibrated_log_loss, fit_temperature, log_loss


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

    from trainer.gradcam import serving_model
    from trainer.network import build_head

    image = keras.Input((8, 8, 3), dtype="uint8")
    backbone = keras.Model(image, keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(image)))
    head = build_head(4, 3)
    photo = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    plain, cooler = (serving_model(backbone, head, temperature)(photo) for temperature in (1.0, 2.0))
    logits = np.log(np.asarray(plain["probabilities"], np.float64))
    expected = np.exp(logits / 2) / np.exp(logits / 2).sum()
    np.testing.assert_allclose(np.asarray(cooler["probabilities"]), expected, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(cooler["heatmaps"]), np.asarray(plain["heatmaps"]))
