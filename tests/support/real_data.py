"""Where the real photos and weights are, if this machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.processes import ROOT

DATA = Path(os.environ.get("POINTER_DATA", ROOT.parent / "shared" / "data"))
WEIGHTS = Path(os.environ.get("POINTER_WEIGHTS", ROOT.parent / "shared" / "weights"))

needs_photos = pytest.mark.skipif(
    not (DATA / "food-101").is_dir() or not (DATA / "dog-breed").is_dir(),
    reason="needs food-101/ and dog-breed/ in POINTER_DATA",
)
WEIGHTS_FILES = (
    "efficientnet_lite0_no_top.weights.h5",
    "efficientnet_lite2_no_top.weights.h5",
    "mobilenet_v2_1.0_224_no_top.weights.h5",
    "mobilenet_0.75_224_no_top.weights.h5",
    "inception_v3_through_mixed8_no_top_float.weights.h5",
)
needs_weights = pytest.mark.skipif(
    not all((WEIGHTS / name).is_file() for name in WEIGHTS_FILES),
    reason=f"needs {', '.join(WEIGHTS_FILES)} in POINTER_WEIGHTS",
)
