"""Compares an exported file with the network that it was made of, and with the LiteRT file that is served."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifier.errors import Corrupt
from classifier.photo.preprocessing import load_array
from classifier.registry.bundle import read_bundle_file
from classifier.serving.model import Model
from trainer.evaluation.served_bundle import ServedBundle
from trainer.export.litert import FLOAT32
from trainer.networks.gradcam import relative_error

Runner = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[Any]]]
"""Photos [n, H, W, 3] -> outputs by name."""
TOLERANCE = 1e-3
"""Largest difference allowed of a probability, of a score and, relative to the largest value, of a heatmap."""


@dataclass(frozen=True)
class Agreement:
    """How far a file's answers are from others', at most, on a bundle's golden photos."""

    photos: int
    network: float | None
    """From the network's, over all outputs; heatmaps relative to the largest value. None: nothing runs the file."""
    served: float
    """From the served LiteRT file's, over probabilities and score: of the file, or else of the network."""
    variant: str = ""
    """Of the served file, such as int8."""


def compare_golden(run: Runner | None, network: keras.Model, bundle: ServedBundle) -> Agreement:
    """Run a file on all golden photos at once, and compare what it gives.

    Args:
        run: the file; None where nothing here runs it: then the network is compared with the served file.
        network: what it was made of; see `trainer.export.portable.portable_network`.
        bundle: has the golden photos and the served file.

    Raises:
        Corrupt: it differs from the network by more than `TOLERANCE`, or from the served file where that is float32
            too. Quantised files differ by what their quantisation costs.
    """
    manifest = bundle.manifest
    photos = np.stack(
        [load_array(read_bundle_file(bundle.folder, case.file), manifest.input) for case in manifest.golden]
    )
    expected = {name: np.asarray(output) for name, output in network(photos, training=False).items()}
    found = run(photos) if run else expected
    model = Model(bundle.content)
    answers = [model.run(photo) for photo in photos]
    served = {
        "probabilities": np.stack([answer.probabilities for answer in answers]),
        "score": np.array([answer.score for answer in answers]),
    }
    agreement = Agreement(
        len(photos),
        _largest(found, expected) if run else None,
        _largest(found, served),
        str(manifest.variant),
    )
    for what, difference, counts in (
        ("the network that it was made of", agreement.network, run is not None),
        ("the served file", agreement.served, manifest.variant == FLOAT32),
    ):
        # A difference that is no number is not within it either.
        if counts and not (difference is not None and difference <= TOLERANCE):
            raise Corrupt(
                f"Expected the exported file to agree with {what} within {TOLERANCE:g} on the golden photos; received "
                f"{difference:.2e}, and it was not kept. Install the versions in requirements.txt and export again."
            )
    return agreement


def _largest(found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]) -> float:
    # Not Python's max, which passes over what is no number.
    return float(np.max([_difference(name, found[name], expected[name]) for name in expected]))


def _difference(name: str, found: NDArray[Any], expected: NDArray[Any]) -> float:
    if found.shape != expected.shape:
        raise Corrupt(f"Expected the exported file's {name} in the shape {expected.shape}; received {found.shape}.")
    return relative_error(found, expected) if name == "heatmaps" else float(np.abs(found - expected).max())
