"""A program: loads a composed file and runs it once, where a crash harms nobody; see `trainer.importing.isolated`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from classifier.errors import InvalidRequest
from trainer.importing.isolated import answer


def main() -> None:
    """Run ``FOLDER FILE``."""
    folder, file = (Path(each) for each in sys.argv[1:3])
    answer(folder, lambda: try_file(file.read_bytes()))


def try_file(content: bytes) -> dict[str, Any]:
    """Return what a file gives of random photos: whether its probabilities sum to 1 and how they vary.

    Raises:
        InvalidRequest: it gives what is no number.
        Corrupt: it cannot be run.
    """
    from classifier.serving.model import Model

    model = Model(content)
    rng = np.random.default_rng(0)
    photos = [np.full((model.height, model.width, 3), 127, np.uint8)]
    photos += [rng.integers(0, 256, (model.height, model.width, 3)).astype(np.uint8) for _ in range(3)]
    given = np.stack([model.run(photo).probabilities for photo in photos])
    if not np.isfinite(given).all():
        raise InvalidRequest("Expected numbers of a grey photo and of noise; the model gives none. Is its file whole?")
    return {"classes": model.classes, "heatmaps": model.has_heatmaps, "varies": float(given.std(axis=0).max())}


if __name__ == "__main__":
    main()
