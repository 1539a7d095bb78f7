"""How well a score separates two sets of photos: AUROC and the threshold that accepts a share of one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PASSING = 0.95
"""Share of the validation photos that the threshold lets pass."""


def threshold(scores: NDArray[np.float64], passing: float = PASSING) -> float:
    """Return a score, to six decimals, that at least a share `passing` of these scores reaches, and hardly more."""
    lowest = float(np.quantile(scores, 1 - passing, method="lower"))
    return float(np.floor(lowest * 1e6) / 1e6)


def separation(known: NDArray[np.float64], strangers: NDArray[np.float64], limit: float) -> dict[str, float | int]:
    """Return how well scores tell strangers from known photos.

    ``auroc`` is the area under the ROC curve, ``told`` the share of strangers with the status unknown, and ``passing``
    the share of known photos without it.
    """
    return {
        "photos": len(strangers),
        "auroc": round(auroc(known, strangers), 6),
        "told": round(float((strangers < limit).mean()), 6),
        "passing": round(float((known >= limit).mean()), 6),
    }


def auroc(known: NDArray[np.floating[Any]], strangers: NDArray[np.floating[Any]]) -> float:
    """Return the chance that a known photo's score is above a stranger's (area under the ROC curve)."""
    from sklearn.metrics import roc_auc_score

    truth = np.concatenate([np.ones(len(known)), np.zeros(len(strangers))])
    return float(roc_auc_score(truth, np.concatenate([np.ravel(known), np.ravel(strangers)])))
