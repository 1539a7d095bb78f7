"""What a network costs whoever serves it, before anything is trained: measured with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifier.serving.footprint import added_memory
from trainer.export.litert import convert_all
from trainer.export.measuring import latencies
from trainer.networks.backbones import build_backbone
from trainer.networks.gradcam import serving_model
from trainer.networks.heads import build_head
from trainer.run.sections import NetworkConfig

CLASSES = 10
CALIBRATION_PHOTOS = 8
SEED = 7


def costs_of(name: str, image_size: int | None = None) -> dict[str, dict[str, Any]]:
    """Return what each variant of an architecture costs with one CPU, or why it could not be made.

    Args:
        name: of the architecture.
        image_size: pixels of a side; by default the architecture's own.

    Returns:
        By variant ``latency_ms``, ``bytes`` and ``memory_bytes``, which is None where the system does not tell; or
        ``failed``.
    """
    keras.utils.set_random_seed(SEED)
    backbone = build_backbone(NetworkConfig(name, "none", image_size=image_size))
    served = serving_model(backbone, build_head(backbone.output_shape[-1], CLASSES))
    side = backbone.input_shape[1]

    def photos() -> Iterator[NDArray[np.uint8]]:
        random = np.random.default_rng(SEED)
        return (random.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(CALIBRATION_PHOTOS))

    contents, failures = convert_all(served, photos)
    keras.backend.clear_session()
    photo = next(photos())
    rows: dict[str, dict[str, Any]] = {}
    times = latencies(contents, photo, 1)
    for variant, content in contents.items():
        rows[variant] = {
            "latency_ms": round(times[variant], 3),
            "bytes": len(content),
            "memory_bytes": added_memory(content, 1),
        }
    return rows | {variant: {"failed": why} for variant, why in failures.items()}
