"""Golden cases: a few held-out photos and what the served file answers to them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from classifier.errors import InvalidRequest, TooLarge
from classifier.photo import formats
from classifier.photo.preprocessing import load_array
from classifier.registry.manifest import GoldenCase, InputSpec
from classifier.serving.model import Model
from trainer.data.sampling import spread
from trainer.data.source import PhotoSource

GOLDEN_CASES = 4
GOLDEN_CANDIDATES = 10
"""How many of a class's smallest test photos are looked at."""
JPEG_END = b"\xff\xd9"


def write_golden(
    folder: Path, frame: pd.DataFrame, source: PhotoSource, rows: Any, content: bytes
) -> tuple[GoldenCase, ...]:
    """Copy a few held-out photos of different classes, with the probabilities that the chosen file gives them.

    Raises:
        InvalidRequest: no held-out photo is one that may be sent to the server.
    """
    classes = np.unique(frame.loc[rows, "label"])
    model = Model(content)
    cases: list[GoldenCase] = []
    (folder / "golden").mkdir()
    for label in spread(classes, GOLDEN_CASES):
        of_class = [source.paths[row] for row in rows if frame.at[row, "label"] == label]
        chosen = golden_photo(of_class, source.spec)
        if chosen is None:
            continue
        suffix, photo, pixels = chosen
        name = f"golden/{len(cases)}{suffix}"
        (folder / name).write_bytes(photo)
        probabilities = tuple(round(float(p), 6) for p in model.run(pixels).probabilities)
        cases.append(GoldenCase(file=name, label=str(label), probabilities=probabilities))
    if not cases:
        raise InvalidRequest(
            "Expected test photos within the server's limits, to repeat before each promotion; received none. "
            "Make some of them smaller."
        )
    return tuple(cases)


def golden_photo(paths: list[Path], spec: InputSpec) -> tuple[str, bytes, NDArray[np.uint8]] | None:
    """Choose a photo that is small and may be sent to the server; whatever it was, no metadata travel with it.

    A JPEG or PNG that gives the same pixels without metadata is preferred; where there is none, it is the pixels as the
    network gets them, as PNG.

    Returns:
        Ending, bytes and pixels; None if none of the smallest photos can be used.
    """
    first = None
    for path in sorted(paths, key=lambda path: (path.stat().st_size, path))[:GOLDEN_CANDIDATES]:
        data = path.read_bytes()
        try:
            pixels = load_array(data, spec)
        except TooLarge:
            continue
        bare = formats.read(data)
        if _holds_pixels_only(bare) and np.array_equal(load_array(bare.data, spec), pixels):
            return path.suffix.lower(), bare.data, pixels
        first = pixels if first is None else first
    if first is None:
        return None
    png = io.BytesIO()
    Image.fromarray(first).save(png, "PNG")
    return ".png", png.getvalue(), first


def _holds_pixels_only(photo: formats.PhotoFile) -> bool:
    """Return whether a photo that was read without metadata has nothing else of them left.

    Behind a JPEG's end cameras put films and second photos, which say where they were taken; the other formats keep
    metadata in places that their decoders skip.
    """
    if photo.format == "JPEG":
        return photo.data.find(JPEG_END) == len(photo.data) - len(JPEG_END)
    return photo.format == "PNG"
