"""Which of a version's files callers may have, besides its model: what `Manifest.public` may name."""

from __future__ import annotations

from pathlib import PurePosixPath

from classifier.errors import NotFound, Refused
from classifier.registry.manifest import GoldenCase, Manifest

CARD_FILE = "report/model_card.md"
MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
"""Of the photos that any browser shows, by the ending of their name."""


def media_type_of(case: GoldenCase) -> str:
    """Return a golden photo's media type; "" where not every browser shows it."""
    return MEDIA_TYPES.get(PurePosixPath(case.file).suffix, "")


def samples_of(manifest: Manifest) -> list[GoldenCase]:
    """Return the golden cases whose photos are public and can be shown."""
    return [case for case in manifest.golden if case.file in manifest.public and media_type_of(case)]


def choose(manifest: Manifest, samples: int, *, card: bool) -> tuple[str, ...]:
    """Return what `Manifest.public` has to name: golden photos, of as many labels as can be, and the model card.

    Raises:
        Refused: there are fewer photos that browsers show.
        NotFound: there is no model card.
    """
    cases = [case for case in manifest.golden if media_type_of(case)]
    if samples > len(cases):
        raise Refused(f"Expected at most {len(cases)} samples, the golden photos of this bundle; received {samples}.")
    if card and CARD_FILE not in manifest.files:
        raise NotFound(f"Expected {CARD_FILE} in the bundle; there is none.")
    # The first of each label, then the second of each.
    turns = [sum(other.label == case.label for other in cases[:number]) for number, case in enumerate(cases)]
    chosen = sorted(range(len(cases)), key=lambda number: (turns[number], number))[:samples]
    return (*(cases[number].file for number in chosen), *([CARD_FILE] if card else []))
