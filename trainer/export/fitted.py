"""What is fitted to a trained network and is part of its LiteRT file, kept in the bundle for files of other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from classifier.errors import NotFound
from trainer.networks.ood_score import FeatureSpace, OodScore

FITTED_FILE = "fitted.npz"


def write_fitted(folder: Path, temperature: float, score: OodScore) -> None:
    """Write `FITTED_FILE` into a bundle's folder.

    Arrays are kept in float32, as they are in the LiteRT file: class means [classes, channels], centre [channels] and
    components [channels, components]; temperature and scales in float64.

    Args:
        folder: the bundle's.
        temperature: what the logits are divided by before the softmax.
        score: how the score is computed.
    """
    arrays: dict[str, Any] = {
        name: np.asarray(getattr(score.space, name), np.float32) for name in FeatureSpace.__dataclass_fields__
    }
    np.savez(
        folder / FITTED_FILE,
        temperature=np.float64(temperature),
        method=np.array(score.method),
        signals=np.array(list(score.scales)),
        scales=np.array(list(score.scales.values()), np.float64),
        **arrays,
    )


def read_fitted(folder: Path) -> tuple[float, OodScore]:
    """Return temperature and score, as `write_fitted` wrote them.

    Raises:
        NotFound: the bundle has no such file: it was made before there was one.
    """
    path = folder / FITTED_FILE
    if not path.is_file():
        raise NotFound(
            f"Expected {FITTED_FILE} in the bundle {folder}, which an earlier release made without; "
            "`trainer export` without --format makes the bundle again."
        )
    with np.load(path) as saved:
        space = FeatureSpace(**{name: saved[name] for name in FeatureSpace.__dataclass_fields__})
        scales = {
            str(name): (float(middle), float(width))
            for name, (middle, width) in zip(saved["signals"], saved["scales"], strict=True)
        }
        return float(saved["temperature"]), OodScore(str(saved["method"]), space, scales)
