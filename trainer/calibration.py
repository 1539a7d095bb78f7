"""How good logits are, apart from how boldly they are scaled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PRIOR_SPREAD = 0.5
"""Standard deviation of the logarithm of the temperature, before any photo has been looked at."""


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
    """Return the temperature that makes probabilities as honest as can be (Guo et al. 2017).

    It is the most probable one under a log-normal prior around 1: thousands of photos decide it by themselves, while
    thirty that happen to be all right do not make the network infinitely sure.
    """
    from scipy.optimize import minimize_scalar

    def negative_log_posterior(log_temperature: float) -> float:
        loss = log_loss(logits, truth, float(np.exp(log_temperature)))
        return len(truth) * loss + (log_temperature / PRIOR_SPREAD) ** 2 / 2

    best = minimize_scalar(negative_log_posterior, bounds=(-3.0, 3.0), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(best.x))


def calibrated_log_loss(logits: NDArray[np.float32], truth: NDArray[np.int32]) -> float:
    """Return the log-loss at the fitted temperature: that of the probabilities that would be served."""
    return log_loss(logits, truth, fit_temperature(logits, truth))
