"""How good logits are, apart from how boldly they are scaled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TEMPERATURES = (0.05, 20.0)
"""Where the best temperature is looked for."""


def log_loss(logits: NDArray[np.float32], truth: NDArray[np.int32], temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood in nats of softmax(logits / temperature).

    Args:
        logits: [photos, classes].
        truth: class numbers, [photos].
        temperature: what the logits are divided by.
    """
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    of_truth = scaled[np.arange(len(truth)), truth]
    return float((np.log(np.exp(scaled).sum(axis=1)) - of_truth).mean())


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.int32]) -> float:
    """Return the temperature with the lowest log-loss (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    low, high = np.log(TEMPERATURES)
    best = minimize_scalar(lambda x: log_loss(logits, truth, float(np.exp(x))), bounds=(low, high), method="bounded")
    return float(np.exp(best.x))


def calibrated_log_loss(logits: NDArray[np.float32], truth: NDArray[np.int32]) -> float:
    """Return the log-loss at the best temperature: what is left when the logits are scaled as well as can be."""
    return log_loss(logits, truth, fit_temperature(logits, truth))
