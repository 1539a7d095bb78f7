"""How well a score separates two sets of photos: AUROC and the threshold that accepts a share of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

ACCEPTED = 0.95
"""Share of the validation photos that the threshold lets pass unless another one is asked for."""
TRADES = (0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99)
"""Shares of known photos that may pass, at each of which the share of OOD photos that is told is given."""
DOUBTFUL = 0.2
"""Share of the OOD photos that pass from which on the score cannot be believed."""
FEW_PHOTOS = 10_000
"""Training photos below which a network from scratch knows too little of the world to tell what is strange."""


def threshold(scores: NDArray[np.floating[Any]], accepted: float = ACCEPTED) -> float:
    """Return a score, to six decimals, that a share `accepted` of new photos like these reaches on average, at least.

    Of n photos the k-th lowest score is above k / (n + 1) of new ones on average (split conformal prediction, Vovk et
    al. 2005): a quantile of the scores themselves lets too few pass where they are few.
    """
    below = max(1, int((1 - accepted) * (len(scores) + 1) + 1e-9))
    lowest = float(np.partition(np.ravel(scores), below - 1)[below - 1])
    return float(np.floor(lowest * 1e6) / 1e6)


def trade(known: NDArray[np.floating[Any]], ood: NDArray[np.floating[Any]]) -> tuple[float, ...]:
    """Return the share of OOD photos that is told where each share of `TRADES` of the known photos passes."""
    return tuple(float((ood < threshold(known, share)).mean()) for share in TRADES)


def separation(known: NDArray[np.float64], ood: NDArray[np.float64], limit: float) -> dict[str, float | int]:
    """Return how well scores tell OOD photos from known photos.

    ``auroc`` is the area under the ROC curve, ``rejected`` the share of OOD photos with the status unknown, and
    ``accepted`` the share of known photos without it.
    """
    return {
        "photos": len(ood),
        "auroc": round(auroc(known, ood), 6),
        "rejected": round(float((ood < limit).mean()), 6),
        "accepted": round(float((known >= limit).mean()), 6),
    }


def doubt(unknown: Mapping[str, Any], training: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    """Return why the score cannot be believed, in a sentence or two; None where nothing speaks against it.

    Args:
        unknown: a manifest's ``metrics.unknown``.
        training: its account of the training.
        data: its account of the photos.
    """
    measured = unknown.get("ood") or unknown.get("strangers")  # as manifests of before call it
    if measured:
        accepted = 1 - measured.get("rejected", measured.get("told", 1.0))
        return doubt_of_measured(measured["photos"], accepted) if accepted > DOUBTFUL else None
    photos = (data.get("photos") or {}).get("train", 0)
    if training.get("network", {}).get("weights") == "none" and photos < FEW_PHOTOS:
        return (
            f"The network was trained from scratch on {photos:,} photos: such a one takes most photos of other things "
            "for known ones, with high confidence, and its score cannot be believed. Pretrained weights mend that; "
            "--ood FOLDER measures it."
        )
    return None


def doubt_of_measured(photos: int, accepted: float) -> str:
    """Return what to say of a score that lets too many OOD photos pass."""
    return f"Of {photos:,} photos of other things {accepted:.1%} pass as known: the status unknown cannot be believed."


def auroc(known: NDArray[np.floating[Any]], ood: NDArray[np.floating[Any]]) -> float:
    """Return the chance that a known photo's score is above an OOD photo's (area under the ROC curve)."""
    from sklearn.metrics import roc_auc_score

    truth = np.concatenate([np.ones(len(known)), np.zeros(len(ood))])
    return float(roc_auc_score(truth, np.concatenate([np.ravel(known), np.ravel(ood)])))
