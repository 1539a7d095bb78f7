"""Photos and targets mixed with those of other photos, while training: mixup and CutMix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Mixes:
    """How each photo of an epoch is mixed, in the epoch's order."""

    partners: NDArray[np.intp]
    """With which other one, by its place in the rows."""
    shares: NDArray[np.float32]
    """How much of it stays, 0..1."""
    cut: NDArray[np.bool_]
    """Whether a part of its area is replaced; otherwise both are blended."""
    middles: NDArray[np.float32]
    """Of that part, [photos, 2], down and right as shares of height and width."""

    def __getitem__(self, numbers: NDArray[np.intp]) -> Mixes:
        return Mixes(self.partners[numbers], self.shares[numbers], self.cut[numbers], self.middles[numbers])


def draw_mixes(rng: np.random.Generator, count: int, mixup: float, cutmix: float) -> Mixes | None:
    """Return how so many photos are mixed; None if neither is asked for.

    Args:
        rng: draws.
        count: photos.
        mixup: alpha of the Beta distribution of shares of blended photos (Zhang et al. 2018); 0 blends none.
        cutmix: alpha of that of the areas that stay (Yun et al. 2019); 0 cuts none. With both, half of the photos are
            cut.
    """
    if not mixup and not cutmix:
        return None
    partners = rng.permutation(count)
    blended = rng.beta(mixup, mixup, count) if mixup else np.ones(count)
    if not cutmix:
        return Mixes(partners, blended.astype(np.float32), np.zeros(count, bool), np.zeros((count, 2), np.float32))
    cut = rng.random(count) < 0.5 if mixup else np.ones(count, bool)
    shares = np.where(cut, rng.beta(cutmix, cutmix, count), blended)
    return Mixes(partners, shares.astype(np.float32), cut, rng.random((count, 2)).astype(np.float32))


def mixed(
    photos: NDArray[np.uint8],
    others: NDArray[np.uint8],
    targets: NDArray[np.float32],
    their_targets: NDArray[np.float32],
    mixes: Mixes,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return photos [n, H, W, 3] mixed with others, and their targets [n, classes] mixed by the same shares.

    Of a photo that is cut, a rectangle of its own shape with the area 1 - share is replaced; what of it lies outside is
    lost, and the targets go by the area that was replaced indeed.
    """
    shares = mixes.shares.copy()
    result = np.empty_like(photos)
    for row in range(len(photos)):
        if mixes.cut[row]:
            top, bottom, left, right = rectangle(photos.shape[1:3], float(shares[row]), mixes.middles[row])
            result[row] = photos[row]
            result[row, top:bottom, left:right] = others[row, top:bottom, left:right]
            shares[row] = 1 - (bottom - top) * (right - left) / (photos.shape[1] * photos.shape[2])
        else:
            # The network takes whole grey levels.
            result[row] = np.rint(_blend(photos[row], others[row], shares[row]))
    return result, _blend(targets, their_targets, shares[:, None])


def rectangle(size: tuple[int, ...], share: float, middle: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right, in whole pixels, of what is replaced of a photo of which `share` stays."""
    edges = []
    for side, centre in zip(size, middle, strict=True):
        half = side * float(np.sqrt(1 - share)) / 2
        at = float(centre) * side
        edges += [round(max(0.0, at - half)), round(min(float(side), at + half))]
    return edges[0], edges[1], edges[2], edges[3]


def _blend(first: NDArray[Any], second: NDArray[Any], share: Any) -> NDArray[np.float32]:
    blended: NDArray[np.float32] = share * first + (1 - share) * second
    return blended
