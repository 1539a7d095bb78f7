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
