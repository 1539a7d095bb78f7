"""Which corrections help most to look at, and why."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from admin_cli.subjects import Subject, of_pointer
from classifier.errors import Corrupt, NotFound
from classifier.registry.manifest import PHOTOS_FILE
from classifier.registry.rules import Registry
from classifier.traffic.corrections import Case

RARE = 20
"""A class with fewer photos of training is rare."""


@dataclass(frozen=True)
class Ranked:
    """A correction with how much it would help to look at it, and why."""

    case: Case
    score: float
    reasons: tuple[str, ...]


def production(registry: Registry) -> Subject:
    """Return what production serves. Raises `NotFound` where that is nothing."""
    pointer = registry.channels(newest=0).production
    if pointer is None:
        raise NotFound(f"No version of {registry.model} is promoted. `admin_cli promote v1` promotes the first.")
    return of_pointer(registry, pointer)


def ranked_by_use(registry: Registry, cases: Sequence[Case]) -> list[Ranked]:
    """Return corrections, those that help most first."""
    known, counts = known_labels(registry)
    ranked = [_rank(case, known, counts) for case in cases]
    return sorted(ranked, key=lambda each: (-each.score, each.case.correction.time))


def known_labels(registry: Registry) -> tuple[set[str] | None, Counter[str]]:
    """Return the labels of production and how many photos of training each has; None where nothing serves."""
    try:
        subject = production(registry)
    except (NotFound, Corrupt):
        return None, Counter()
    counts: Counter[str] = Counter()
    if PHOTOS_FILE in subject.manifest.files:
        rows = csv.DictReader(io.StringIO(subject.read(PHOTOS_FILE).decode("utf-8")))
        counts = Counter(row["label"] for row in rows if row["split"] == "train")
    return set(subject.manifest.labels), counts


def _rank(case: Case, known: set[str] | None, counts: Counter[str]) -> Ranked:
    seen, label = case.correction.seen, case.label
    score, reasons = 0.0, []
    confidence = seen.confidence if seen.confidence is not None else 0.5
    if case.correction.shadow is not None:
        score += 1.25
        reasons.append("shadow disagrees")
    elif seen.label is not None and seen.label != label:
        score += 1 + confidence
        reasons.append("wrong and sure" if confidence >= 0.8 else "wrong")
    if seen.status == "unknown" or confidence < 0.5:
        score += 0.5
        reasons.append("unsure")
    if seen.channel == "canary":
        score += 0.5
        reasons.append("canary")
    if known is not None and label is not None and label not in known:
        score += 0.5
        reasons.append("new label")
    elif label is not None and counts and counts[label] < RARE:
        score += 0.5
        reasons.append("rare class")
    if not case.correction.photo_bytes:
        score -= 1
        reasons.append("no photo")
    return Ranked(case, score, tuple(reasons))
