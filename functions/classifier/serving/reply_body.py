"""A prediction as the members of a JSON reply."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from classifier.serving.prediction import Prediction
from classifier.serving.query import PASSES

if TYPE_CHECKING:  # numpy and Pillow come with the first prediction, beside the model
    from classifier.serving.loader import Chosen


def body_of(prediction: Prediction, chosen: Chosen, model_name: str) -> dict[str, Any]:
    """Return a prediction as the JSON object that a caller gets, but for what only its request knows."""
    return {**members_of(prediction), "model": model_of(chosen, model_name)}


def members_of(prediction: Prediction) -> dict[str, Any]:
    """Return the members that are about the photo."""
    label, confidence = prediction.ranked[0]
    members: dict[str, Any] = {
        "label": label,
        "confidence": confidence,
        "label_idx": prediction.label_idx,
        "status": prediction.status,
        "score": prediction.score,
        "tta": bool(prediction.tta),
        "predictions": [{"label": name, "confidence": value} for name, value in prediction.ranked],
    }
    if prediction.tta:
        members["views"] = PASSES[prediction.tta]
    if prediction.overlay is not None:
        members["gradcam"] = {
            "label": prediction.overlay.label,
            "media_type": prediction.overlay.media_type,
            "image": base64.b64encode(prediction.overlay.content).decode(),
        }
    return members


def model_of(chosen: Chosen, model_name: str) -> dict[str, Any]:
    """Return the member that names the version that answers."""
    return {
        "name": model_name,
        "version": chosen.pointer.version,
        "channel": chosen.channel,
        "task": chosen.manifest.task,
        **fallback_of(chosen),
    }


def fallback_of(chosen: Chosen) -> dict[str, Any]:
    """Return the field that says that another version answers than the pointer names, where that is so."""
    if chosen.fallback is None:
        return {}
    return {"fallback": {"pointed": chosen.fallback.pointed, "reason": chosen.fallback.reason}}
