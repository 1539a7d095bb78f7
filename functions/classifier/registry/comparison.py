"""Two versions on the same photos: what differs between their answers, and whether chance alone explains it.

Pure arithmetic on what each said of each photo; who measured it, and when, is the caller's business.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

LEVEL_Z = 1.959964
"""Of a two-sided 95 % interval."""
ALPHA = 0.05
BINS = 15
"""Of the expected calibration error, as usual since Guo et al. 2017."""


class Answer(NamedTuple):
    """What a version said of a photo."""

    label: str
    confidence: float
    unknown: bool | None = None
    """Whether it was told as unknown; None where that is not known."""


class Photo(NamedTuple):
    """A photo that two versions have seen."""

    name: str
    truth: str
    before: Answer
    after: Answer


@dataclass(frozen=True)
class Change:
    """A share of photos under both versions, and the difference between them."""

    photos: int
    before: float
    after: float
    low: float
    """Of `after` - `before`, 95 %."""
    high: float
    p: float
    """Of a difference as large as this by chance alone, two-sided."""
    paired: bool = True
    """False where the versions were measured on different photos."""

    @property
    def difference(self) -> float:
        """How many more of the photos under the second version, as a share."""
        return self.after - self.before


@dataclass(frozen=True)
class ClassChange:
    """One class's recall under both versions."""

    label: str
    change: Change
    worse: bool
    """Beyond chance, with as many classes looked at as there are (Holm 1979)."""


@dataclass(frozen=True)
class LabelChange:
    """How the second version's labels differ from the first's."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renumbered: tuple[str, ...] = ()
    """Labels of both whose number, the reply's ``label_idx``, is another."""


@dataclass(frozen=True)
class Cost:
    """What serving a version takes; None for what was not measured."""

    bytes: int
    """Of the model file."""
    width: int
    """Of the input, in pixels."""
    height: int
    latency_ms: float | None = None
    """One forward pass, median, both versions in turn in the same run."""
    memory_bytes: int | None = None
    """By which loading and running it raises a process's peak."""


@dataclass(frozen=True)
class Comparison:
    """All that a gate decides by, and a person reads."""

    before: str
    after: str
    basis: str
    """Where the answers are from, in words."""
    labels: LabelChange
    costs: tuple[Cost, Cost]
    top_1: Change | None = None
    """None where nothing was measured that both can be compared by."""
    classes: tuple[ClassChange, ...] = ()
    unknown: Change | None = None
    ece: tuple[float, float] | None = None
    """Expected calibration error of each (Naeini et al. 2015)."""
    left_out: int = 0
    """Photos whose label one of them does not know."""
    changed: tuple[Photo, ...] = field(default=(), repr=False)
    """Photos whose label changed."""
    same_file: bool = False
    """Both versions serve the same bytes: no answer can differ."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        plain = asdict(self)
        plain["costs"] = {"before": asdict(self.costs[0]), "after": asdict(self.costs[1])}
        plain["ece"] = self.ece and {"before": self.ece[0], "after": self.ece[1]}
        for change in (plain["top_1"], plain["unknown"], *(each["change"] for each in plain["classes"])):
            if change:
                change["difference"] = change["after"] - change["before"]
                change |= {name: round(value, 6) for name, value in change.items() if isinstance(value, float)}
        plain["changed"] = [
            {"photo": one.name, "label": one.truth, "before": one.before.label, "after": one.after.label}
            for one in self.changed
        ]
        return plain


def labels_changed(before: Sequence[str], after: Sequence[str]) -> LabelChange:
    """Compare two versions' labels, in the order of their outputs."""
    numbers = {label: number for number, label in enumerate(before)}
    return LabelChange(
        added=tuple(label for label in after if label not in numbers),
        removed=tuple(label for label in before if label not in set(after)),
        renumbered=tuple(label for number, label in enumerate(after) if numbers.get(label, number) != number),
    )


def paired(before: Iterable[bool], after: Iterable[bool]) -> Change:
    """Compare a property of the same photos, in the same order, under both versions.

    The interval is Agresti and Min's (2005), half a photo added to each cell, so that few photos do not pretend to be
    sure; the p-value is McNemar's exact one.
    """
    lost = won = photos = had = has = 0
    for one, other in zip(before, after, strict=True):
        photos += 1
        had += one
        has += other
        lost += one and not other
        won += other and not one
    size = photos + 2
    mean = (won - lost) / size
    spread = LEVEL_Z * math.sqrt(max(0.0, (won + lost + 1) / size - mean**2) / size)
    share = max(photos, 1)
    low, high = max(-1.0, mean - spread), min(1.0, mean + spread)
    return Change(photos, had / share, has / share, low, high, _sign_test(lost, won))


def unpaired(before: tuple[float, int], after: tuple[float, int]) -> Change:
    """Compare two shares of different photos, each with how many there were (Agresti and Caffo 2000)."""
    shares = [((share * photos + 1) / (photos + 2), photos + 2) for share, photos in (before, after)]
    mean = shares[1][0] - shares[0][0]
    deviation = math.sqrt(sum(share * (1 - share) / photos for share, photos in shares))
    p = math.erfc(abs(mean) / deviation / math.sqrt(2))
    photos = min(before[1], after[1])
    return Change(photos, before[0], after[0], mean - LEVEL_Z * deviation, mean + LEVEL_Z * deviation, p, paired=False)


def by_class(photos: Sequence[Photo]) -> tuple[ClassChange, ...]:
    """Return each class's recall under both versions, sorted by label."""
    groups: dict[str, list[Photo]] = {}
    for photo in photos:
        groups.setdefault(photo.truth, []).append(photo)
    changes = {label: right(groups[label]) for label in sorted(groups)}
    worse: set[str] = set()
    for place, label in enumerate(sorted(changes, key=lambda each: changes[each].p)):
        if changes[label].p * (len(changes) - place) > ALPHA:
            break
        if changes[label].difference < 0:
            worse.add(label)
    return tuple(ClassChange(label, change, label in worse) for label, change in changes.items())


def right(photos: Sequence[Photo]) -> Change:
    """Compare how many are given their own label."""
    return paired(
        (each.before.label == each.truth for each in photos), (each.after.label == each.truth for each in photos)
    )


def told_unknown(photos: Sequence[Photo]) -> Change | None:
    """Compare how many are told as unknown; None where one of the versions was not asked."""
    if not photos or any(each.before.unknown is None or each.after.unknown is None for each in photos):
        return None
    return paired((bool(each.before.unknown) for each in photos), (bool(each.after.unknown) for each in photos))


def calibration_error(answers: Iterable[tuple[Answer, str]]) -> float:
    """Return the mean distance between confidence and accuracy over bins of equal width."""
    bins: dict[int, list[float]] = {}
    count = 0
    for answer, truth in answers:
        number = min(BINS - 1, max(0, math.ceil(answer.confidence * BINS) - 1))
        bins.setdefault(number, []).append((answer.label == truth) - answer.confidence)
        count += 1
    return sum(abs(sum(gaps)) for gaps in bins.values()) / max(count, 1)


def shared(
    before: Mapping[str, tuple[str, Answer]], after: Mapping[str, tuple[str, Answer]], known: Iterable[str]
) -> tuple[list[Photo], int]:
    """Pair what two versions said of the same photos.

    Args:
        before: the photo's own label and the answer, by what identifies the photo.
        after: the same of the other version.
        known: the labels that both know.

    Returns:
        The photos of these labels, and how many others there are. One whose own label is not the same for both is
        left out with them.
    """
    labels = set(known)
    both = sorted(before.keys() & after.keys())
    photos = [
        Photo(name, before[name][0], before[name][1], after[name][1])
        for name in both
        if before[name][0] == after[name][0] and before[name][0] in labels
    ]
    return photos, len(both) - len(photos)


def _sign_test(lost: int, won: int) -> float:
    """Return the two-sided exact p-value of so many changes for the worse and for the better, both equally likely."""
    changes = lost + won
    if not changes:
        return 1.0
    log_half = changes * math.log(0.5)
    tail = sum(
        math.exp(math.lgamma(changes + 1) - math.lgamma(k + 1) - math.lgamma(changes - k + 1) + log_half)
        for k in range(min(lost, won) + 1)
    )
    return min(1.0, 2 * tail)
