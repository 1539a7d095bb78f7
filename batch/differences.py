"""The command diff: what changed between two labellings, by class, and the photos that changed most."""

from __future__ import annotations

import base64
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from batch.listing import Photo, read
from batch.output import Output
from batch.pairs import Answer, Pairs
from classifier.errors import NotFound, PointerError
from classifier.serving.prediction import UNKNOWN

MOVES = 20
"""Changes from one label to another that are listed."""
SIDE = 320
"""Longer side of a picture, in pixels."""


def difference(values: Mapping[str, Any], tell: Callable[..., None]) -> None:
    """Compare two labellings.

    Args:
        values: "out", "before" and "after" (versions), "photos" (how many that changed most), "pictures" (whether with
            their pictures), "billing_project".
        tell: gets the event "difference".

    Raises:
        NotFound: one of them is not there, or they have no photo in common.
    """
    output, before, after = Output(values["out"]), values["before"], values["after"]
    for version in (before, after):
        output.decided(version)
    with Pairs() as pairs:
        pairs.add("before", output, before)
        pairs.add("after", output, after)
        counts: Counter[str] = Counter()
        classes = _Classes()
        changed = heapq.nlargest(
            values["photos"],
            ((distance(one, other), other.path, one, other) for one, other in _compared(pairs, counts, classes)),
        )
        if not counts["shared"]:
            raise NotFound(f"Expected photos that both {before} and {after} labelled in {output.url}; there are none.")
        only = {"only_before": pairs.count("before"), "only_after": pairs.count("after")}
    both = counts["shared"] + counts["other_bytes"]
    tell(
        "difference",
        before=before, after=after, **counts, **{name: count - both for name, count in only.items()},
        classes=classes.rows(), moves=classes.moves(),
        photos=[
            {
                "path": path, "distance": round(far, 6), "before": _said(one), "after": _said(other),
                "picture": picture(other, values["billing_project"]) if values["pictures"] else "",
            }
            for far, path, one, other in changed if far
        ],
    )  # fmt: skip


def distance(one: Answer, other: Answer) -> float:
    """Return the total variation distance of two answers, 0 to 1, over the labels that either lists."""
    labels = one.top_k.keys() | other.top_k.keys()
    return sum(abs(one.top_k.get(each, 0.0) - other.top_k.get(each, 0.0)) for each in labels) / 2


def picture(answer: Answer, billing_project: str) -> str:
    """Return a photo as a data address; "" of one that is not there any more."""
    from classifier.photo import heatmap, preprocessing

    try:
        content = read(Photo(answer.path, answer.generation, -1), billing_project)
        shown = preprocessing.decode(content, width=SIDE, height=SIDE).display(SIDE)
    except PointerError:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(heatmap.encode(shown, 'image/jpeg')).decode()}"


class _Classes:
    """Counts by label."""

    def __init__(self) -> None:
        self._before: Counter[str] = Counter()
        self._after: Counter[str] = Counter()
        self._moved: Counter[tuple[str, str]] = Counter()

    def add(self, one: str, other: str) -> None:
        self._before[one] += 1
        self._after[other] += 1
        if one != other:
            self._moved[one, other] += 1

    def rows(self) -> list[dict[str, Any]]:
        """Return each label's photos before and after, those that left it and those that came, most moved first."""
        left: Counter[str] = Counter()
        came: Counter[str] = Counter()
        for (one, other), count in self._moved.items():
            left[one] += count
            came[other] += count
        labels = sorted(self._before | self._after, key=lambda each: (-left[each] - came[each], each))
        return [
            {
                "label": each, "before": self._before[each], "after": self._after[each], "left": left[each],
                "came": came[each],
            }
            for each in labels
        ]  # fmt: skip

    def moves(self) -> list[list[Any]]:
        """Return the most frequent changes: from, to, how many."""
        return [[one, other, count] for (one, other), count in self._moved.most_common(MOVES)]


def _compared(pairs: Pairs, counts: Counter[str], classes: _Classes) -> Iterator[tuple[Answer, Answer]]:
    """Count, and yield the pairs of answers to the same bytes."""
    for one, other in pairs.both():
        if one.sha256 != other.sha256:
            counts["other_bytes"] += 1
            continue
        counts["shared"] += 1
        if one.label is None or other.label is None:
            counts["unreadable"] += 1
            continue
        classes.add(one.label, other.label)
        counts["changed"] += one.label != other.label
        counts["became_unknown"] += one.status != UNKNOWN == other.status
        counts["became_known"] += one.status == UNKNOWN != other.status
        counts["unknown_before"] += one.status == UNKNOWN
        counts["unknown_after"] += other.status == UNKNOWN
        yield one, other


def _said(answer: Answer) -> dict[str, Any]:
    return {"label": answer.label, "confidence": answer.confidence, "status": answer.status}
