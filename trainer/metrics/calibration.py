"""How good logits are apart from how boldly they are scaled, and how honest the probabilities that they give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BINS = 15
"""Bins of equal width for `expected_calibration_error`, as usual since Guo et al. 2017."""

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


def reliability(probabilities: NDArray[np.floating[Any]], truth: NDArray[np.int32], bins: int = BINS) -> pd.DataFrame:
    """Return how often labels given with about the same confidence were right, one row a bin of equal width.

    Args:
        probabilities: [photos, classes].
        truth: class numbers, [photos].
        bins: how many; a bin holds its upper edge, not its lower one.

    Returns:
        ``low``, ``high`` (edges), ``photos``, and the means ``confidence`` and ``accuracy``: NaN in empty bins.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == truth
    edges = np.linspace(0, 1, bins + 1)
    number = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    photos = np.bincount(number, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(number, confidence, bins) / photos
        accuracy = np.bincount(number, right, bins) / photos
    table = {"low": edges[:-1], "high": edges[1:], "photos": photos, "confidence": mean, "accuracy": accuracy}
    return pd.DataFrame(table)


def expected_calibration_error(
    probabilities: NDArray[np.floating[Any]], truth: NDArray[np.int32], bins: int = BINS
) -> float:
    """Return the mean distance between confidence and accuracy over bins of equal width (Naeini et al. 2015)."""
    table = reliability(probabilities, truth, bins)
    gaps = (table["accuracy"] - table["confidence"]).abs() * table["photos"]
    return float(gaps.sum() / len(truth))


def at_temperature_one(probabilities: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """Return what softmax(logits / temperature) was before the logits were divided: p^temperature, made to sum to 1."""
    logarithms = temperature * np.log(np.clip(probabilities.astype(np.float64), 1e-30, 1))
    powers = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    whole: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return whole


def calibration_figures(
    measured: Mapping[str, tuple[NDArray[np.floating[Any]], NDArray[np.int32]]], temperature: float
) -> dict[str, Any]:
    """Return the manifest's account of the calibration: the error before and after, by split.

    Args:
        measured: the served file's probabilities and the class numbers of each split.
        temperature: what is baked into the file.
    """
    figures: dict[str, Any] = {"temperature": round(temperature, 6), "bins": BINS}
    for split, (probabilities, truth) in measured.items():
        before = expected_calibration_error(at_temperature_one(probabilities, temperature), truth)
        after = expected_calibration_error(probabilities, truth)
        figures[split] = {"ece_before": round(before, 6), "ece_after": round(after, 6)}
    return figures
