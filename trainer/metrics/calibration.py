"""How good logits are apart from how boldly they are scaled, and how honest the probabilities that they give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BINS = 15
"""Bins of equal width for `expected_calibration_error`, as usual since Guo et al. 2017."""

SAMPLES, SAMPLES_AT_ONCE = 1000, 50
"""By which the part of chance and the interval of a calibration error are found."""

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


class CalibrationError(NamedTuple):
    """The expected calibration error, and how much of it so few photos would show without there being any."""

    error: float
    """As `expected_calibration_error` gives it: never 0 on few photos, however honest the probabilities."""
    chance: float
    """Its mean where each label is right with just the confidence that it was given (Bröcker and Smith 2007)."""
    beyond: float
    """What is left of it: 0 on average for honest probabilities, below it by chance."""
    low: float
    high: float
    """The 95 % interval of what is left, of bootstrap samples of the photos."""

    def figures(self) -> dict[str, float]:
        """Return what the manifest has of it besides the error."""
        names = {"ece_chance": self.chance, "ece_beyond": self.beyond, "ece_low": self.low, "ece_high": self.high}
        return {name: round(value, 6) for name, value in names.items()}


def calibration_error(
    probabilities: NDArray[np.floating[Any]], truth: NDArray[np.int32], bins: int = BINS, seed: int = 0
) -> CalibrationError:
    """Return the expected calibration error with what chance gives and the interval of the rest.

    Args:
        probabilities: [photos, classes].
        truth: class numbers, [photos].
        bins: of equal width.
        seed: of the samples.
    """
    rng, photos = np.random.default_rng(seed), len(truth)
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    number = np.clip(np.digitize(confidence, np.linspace(0, 1, bins + 1), right=True) - 1, 0, bins - 1)
    of_bin = np.eye(bins)[number]

    def errors(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.abs(gaps @ of_bin).sum(axis=1) / photos
        return found

    error = float(errors((right - confidence)[None])[0])
    honest, sampled = [], []
    for _ in range(SAMPLES // SAMPLES_AT_ONCE):
        drawn = rng.random((SAMPLES_AT_ONCE, photos)) < confidence
        honest.append(errors(drawn - confidence))
        rows = rng.integers(0, photos, (SAMPLES_AT_ONCE, photos))
        times = np.stack([np.bincount(each, minlength=photos) for each in rows])
        sampled.append(errors(times * (right - confidence)))
    chance, spread = float(np.mean(honest)), np.concatenate(sampled)
    low, high = np.quantile(spread - spread.mean(), (0.025, 0.975)) + error - chance
    return CalibrationError(error, chance, error - chance, max(float(low), 0.0), max(float(high), 0.0))


def at_temperature_one(probabilities: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """Return what softmax(logits / temperature) was before the logits were divided: p^temperature, made to sum to 1."""
    logarithms = temperature * np.log(np.clip(probabilities.astype(np.float64), 1e-30, 1))
    powers = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    whole: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return whole


def calibration_figures(
    measured: Mapping[str, tuple[NDArray[np.floating[Any]], NDArray[np.int32]]], temperature: float
) -> dict[str, Any]:
    """Return the manifest's account of the calibration: the error before and after, and beyond chance, by split.

    Args:
        measured: the served file's probabilities and the class numbers of each split.
        temperature: what is baked into the file.
    """
    figures: dict[str, Any] = {"temperature": round(temperature, 6), "bins": BINS}
    for split, (probabilities, truth) in measured.items():
        before = expected_calibration_error(at_temperature_one(probabilities, temperature), truth)
        after = calibration_error(probabilities, truth)
        figures[split] = {"ece_before": round(before, 6), "ece_after": round(after.error, 6), **after.figures()}
    return figures
