"""Where the real photos and weights are, if this machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("POINTER_DATA", ROOT.parent / "shared" / "data"))
WEIGHTS = Path(os.environ.get("POINTER_WEIGHTS", ROOT.parent / "shared" / "weights"))

needs_photos = pytest.mark.skipif(
    not (DATA / "food-101").is_dir() or not (DATA / "dog-breed").is_dir(),
    reason="needs food-101/ and dog-breed/ in POINTER_DATA",
)
needs_weights = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="needs the weights files in POINTER_WEIGHTS")
