"""Why a photo got its label, in three pictures: the photo, the heatmap of a label, and both together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifier.photo.heatmap import bare, colour_map, overlay
from classifier.photo.preprocessing import Photo
from classifier.registry.manifest import InputSpec

SHOWN_SIDE = 288
"""Pixels of the longer side of a photo in the report."""

Pictures = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]


def triptych(photo: Photo, spec: InputSpec, heatmap: NDArray[np.float32], side: int = SHOWN_SIDE) -> Pictures:
    """Return photo, heatmap and overlay, each uint8 [H, W, 3] of the same size, by the code that serves.

    Args:
        photo: the decoded photo.
        spec: the input by which its heatmap was made: it says which part of the photo that is about.
        heatmap: [h, w], never negative.
        side: pixels of the pictures' longer side.
    """
    image = photo.display(side)
    region = photo.region(spec.width, spec.height, spec.resize)
    left, top, right, bottom = (round(part * length) for part, length in zip(region, image.size * 2, strict=True))
    heat = np.zeros((image.height, image.width), np.uint8)
    grown = bare(heatmap).resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BICUBIC)
    colours = np.asarray(grown)
    heat[top : top + grown.height, left : left + grown.width] = colours[: image.height, : image.width]
    return np.asarray(image), colour_map()[heat], np.asarray(overlay(image, heatmap, region=region))
