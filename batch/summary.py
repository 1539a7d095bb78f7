"""What a labelling says as a whole: photos of each label, unknown ones, and what another version says otherwise."""

from __future__ import annotations

from collections import Counter
from typing import Any

from batch.output import Output
from batch.plan import Plan


def summarise(output: Output, plan: Plan, version: str, against: str) -> dict[str, Any]:
    """Count the rows of the photos that are listed, or of the sample.

    Args:
        output: where the labellings are.
        plan: the photos that count.
        version: whose rows.
        against: another version, whose rows of the same photos are compared; "" for none.
    """
    labels: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    said: dict[tuple[str, int], str] = {}
    for path, generation, label, status in output.rows(version, ("path", "generation", "label", "status")):
        if not plan.has(path, generation):
            continue
        statuses[status] += 1
        if label is not None:
            labels[label] += 1
            unknown[label] += status == "unknown"
            if against:
                said[path, generation] = label
    summary: dict[str, Any] = {
        "version": version,
        "photos": sum(statuses.values()),
        "statuses": dict(statuses),
        "labels": [[label, count, unknown[label]] for label, count in labels.most_common()],
    }
    if against:
        summary["against"] = _compared(output, said, against)
    return summary


def _compared(output: Output, said: dict[tuple[str, int], str], against: str) -> dict[str, Any]:
    """Compare what one version said with what another did of the same bytes."""
    shared = 0
    moved: Counter[tuple[str, str]] = Counter()
    for path, generation, label in output.rows(against, ("path", "generation", "label")):
        now = said.get((path, generation))
        if now is None or label is None:
            continue
        shared += 1
        if now != label:
            moved[label, now] += 1
    return {
        "version": against,
        "shared": shared,
        "differ": sum(moved.values()),
        "moved": [[before, after, count] for (before, after), count in moved.most_common(10)],
    }
