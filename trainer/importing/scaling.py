"""How pixels become what a network takes: the usual rules, by name, and those that a file's metadata tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from classifier.errors import InvalidRequest

Order = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Scaling:
    """(pixel - mean) / std for each channel, in an order of channels; or the pixels as a quantised input takes them."""

    name: str
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    order: Order = "rgb"
    is_pixels: bool = False
    """Whether a quantised input takes the pixels themselves: 0..255 of uint8, 128 less of int8."""

    def affine(
        self, dtype: type[np.generic], quantisation: tuple[float, int] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return factors and offsets [3] from pixels to the real numbers that an input takes.

        Args:
            dtype: of the input.
            quantisation: scale and zero point of an input that is quantised.
        """
        if self.is_pixels and quantisation is not None:
            scale, zero = quantisation
            shift = zero + (128 if dtype is np.int8 else 0)
            return np.full(3, scale, np.float32), np.full(3, -scale * shift, np.float32)
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return (1 / std).astype(np.float32), (-mean / std).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return what a manifest says of it."""
        if self.is_pixels:
            return {"name": self.name}
        return {"name": self.name, "mean": list(self.mean), "std": list(self.std), "order": self.order}


PIXELS = Scaling("pixels", is_pixels=True)
CANDIDATES = {
    each.name: each
    for each in (
        Scaling("0..1", std=(255.0, 255.0, 255.0)),
        Scaling("-1..1", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
        Scaling("0..255"),
        Scaling("torch", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        Scaling("caffe", (103.939, 116.779, 123.68), order="bgr"),
        Scaling("bgr-0..255", order="bgr"),
    )
}
"""What networks are usually trained with, by the name that an option takes."""


def scaling_of(name: str) -> Scaling:
    """Return a rule by its name, or by numbers: ``mean:std``, ``m,m,m:s,s,s``, with ``bgr:`` in front for that order.

    Raises:
        InvalidRequest: it is neither.
    """
    name = name.strip()
    if name == PIXELS.name:
        return PIXELS
    if name in CANDIDATES:
        return CANDIDATES[name]
    order: Order = "bgr" if name.startswith("bgr:") else "rgb"
    try:
        mean, std = (_three(part) for part in name.removeprefix("bgr:").split(":"))
    except ValueError as error:
        raise InvalidRequest(
            f"Expected --scaling to be one of {', '.join((*CANDIDATES, PIXELS.name))}, or mean:std such as "
            f"127.5:127.5; received {name!r}."
        ) from error
    return normalisation(mean, std, order)


def normalisation(mean: tuple[float, ...], std: tuple[float, ...], order: Order = "rgb") -> Scaling:
    """Return the rule (pixel - mean) / std, under its usual name where it has one.

    Raises:
        InvalidRequest: it cannot be computed.
    """
    means, stds = _each(mean), _each(std)
    if not np.isfinite([*means, *stds]).all() or any(abs(value) < 1e-6 or abs(value) > 1e6 for value in stds):
        raise InvalidRequest(f"Expected a mean and a std that is not 0; received {list(mean)} and {list(std)}.")
    for known in CANDIDATES.values():
        if (
            known.order == order
            and np.allclose(known.mean, means, atol=1.0)
            and np.allclose(known.std, stds, rtol=0.01)
        ):
            return known
    text = ":".join(",".join(f"{value:g}" for value in values) for values in (means, stds))
    return Scaling(f"bgr:{text}" if order == "bgr" else text, means, stds, order)


def _three(text: str) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split(","))
    if len(values) not in (1, 3):
        raise ValueError(text)
    return values


def _each(values: tuple[float, ...]) -> tuple[float, float, float]:
    one, two, three = values if len(values) == 3 else (values[0],) * 3
    return float(one), float(two), float(three)
