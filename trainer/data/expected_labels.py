"""Whether the gate of what serves would let the labels of these photos pass: told before they are trained on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from classifier.errors import NotFound, Refused
from classifier.registry.comparison import labels_changed
from classifier.registry.fields import read_object
from classifier.registry.gate import Gate


def expect_labels(file: Path, labels: Iterable[str]) -> None:
    """Refuse labels that would be refused when everything is done.

    Args:
        file: JSON: ``version``, what serves; its ``labels``; ``gate``, the thresholds that are not the usual ones.
        labels: of the photos.

    Raises:
        NotFound: there is no such file.
        InvalidManifest: it is none.
        Refused: the gate would refuse them; with its reasons.
    """
    if not file.is_file():
        raise NotFound(f"Expected labels and thresholds at --gate {file}; there is no such file.")
    serving = read_object(file.read_bytes(), str(file))
    gate = Gate.read(serving.object_or_none("gate"))
    reasons = gate.refuses_labels(labels_changed(serving.texts("labels"), sorted(set(labels))))
    if reasons:
        raise Refused(
            f"The gate would refuse the labels of these photos, compared with {serving.text('version')}: "
            f"{'; '.join(reasons)}. Nothing was trained. Mend the photos, allow it, or train without a promotion or a "
            "canary."
        )
