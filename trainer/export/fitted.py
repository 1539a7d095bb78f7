"""What is fitted to a trained network and is part of its LiteRT file, kept in the bundle for files of other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from classifier.errors import NotFound
from trainer.networks.kernel_score import KernelBank
from trainer.networks.ood_score import FeatureSpace, OodScore

FITTED_FILE = "fitted.npz"
SPACE, BANK = ("class_means", "centre", "components"), "bank_"
"""Names of the arrays, and how those of the kernel machine begin."""


def write_fitted(folder: Path, temperature: float, score: OodScore) -> None:
    """Write `FITTED_FILE` into a bundle's folder.

    Arrays are kept in float32, as they are in the LiteRT file: class means [classes, channels], centre [channels] and
    components [channels, components], and those of the kernel machine, if it has one; temperature and scales in
    float64.

    Args:
        folder: the bundle's.
        temperature: what the logits are divided by before the softmax.
        score: how the score is computed.
    """
    arrays: dict[str, Any] = {name: np.asarray(getattr(score.space, name), np.float32) for name in SPACE}
    if score.space.bank is not None:
        arrays |= {BANK + name: np.asarray(each, np.float32) for name, each in vars(score.space.bank).items()}
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
        parts = {name.removeprefix(BANK): saved[name] for name in saved.files if name.startswith(BANK)}
        space = FeatureSpace(**{name: saved[name] for name in SPACE}, bank=KernelBank(**parts) if parts else None)
        scales = {
            str(name): (float(middle), float(width))
            for name, (middle, width) in zip(saved["signals"], saved["scales"], strict=True)
        }
        return float(saved["temperature"]), OodScore(str(saved["method"]), space, scales)
