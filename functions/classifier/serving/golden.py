"""Golden cases: photos that travel in a bundle, and whether its model still says of them what it said at export."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from classifier.errors import PointerError, Refused
from classifier.registry.manifest import MODEL_FILE, GoldenCase, Manifest

if TYPE_CHECKING:
    from classifier.serving.model import Model


def replay(manifest: Manifest, read_file: Callable[[str], bytes]) -> None:
    """Load the model and compare what it says of each golden photo with what the manifest expects.

    Args:
        manifest: the version's manifest.
        read_file: returns the bytes of one of the version's files.

    Raises:
        Refused: a case does not repeat within the manifest's tolerance; names the case, expected and found.
        Corrupt: the model is not the one that the manifest describes.
    """
    from classifier.serving.model import Model

    model = Model(read_file(MODEL_FILE))
    manifest.expect_fit(width=model.width, height=model.height, classes=model.classes, gradcam=model.has_heatmaps)
    for case in manifest.golden:
        _replay_case(manifest, case, model, read_file(case.file))


def _replay_case(manifest: Manifest, case: GoldenCase, model: Model, photo: bytes) -> None:
    from classifier.photo.preprocessing import load_array

    try:
        image = load_array(photo, manifest.input)
    except PointerError as error:
        raise Refused(f"The golden case {case.file} cannot be read: {error}") from error
    found = model.run(image).probabilities
    distance = np.abs(found - np.asarray(case.probabilities, np.float32))
    # Not "any above": a probability that is not a number must not pass.
    if not np.all(distance <= manifest.golden_tolerance):
        worst = int(np.argmax(np.nan_to_num(distance, nan=np.inf)))
        raise Refused(
            f"The golden case {case.file} does not repeat: expected {manifest.labels[worst]!r} with probability "
            f"{case.probabilities[worst]:.4f} ± {manifest.golden_tolerance:g}; found {found[worst]:.4f}. "
            "This machine runs the model differently from the one that exported it, or the photo or the model "
            "is another: export the run again."
        )
