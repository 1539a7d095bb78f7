"""How corrections are printed: cells, notes and JSON values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import typer

from admin_cli.feedback_ranking import Ranked
from admin_cli.output import NOTHING, day, percent, printable, with_options
from classifier.traffic.corrections import Case, Found, Seen

SHOWN_ID = 8


def line(ranked: Ranked) -> tuple[str, ...]:
    """Return a correction's cells in the list."""
    case = ranked.case
    seen = case.correction.seen
    sure = f" {percent(seen.confidence)}" if seen.confidence is not None else ""
    return (
        case.correction.id[:SHOWN_ID],
        day(case.correction.time),
        "yes" if case.correction.photo_bytes else "",
        f"{seen.label or NOTHING}{sure} -> {_right(case)}",
    )


def note(ranked: Ranked) -> str:
    """Return why a correction is where it is in the list, and what was decided."""
    decided = decision(ranked.case) if ranked.case.decision or ranked.case.damage else ""
    return "; ".join(filter(None, (", ".join(ranked.reasons), decided)))


def _right(case: Case) -> str:
    shadow = case.correction.shadow
    return f"{shadow.label}?" if shadow and case.is_open else case.label or "none of these"


def shadow_said(shadow: Seen) -> str:
    """Return what a shadow said of a photo."""
    return f"{shadow.label} {percent(shadow.confidence)}, {shadow.version}"


def decision(case: Case) -> str:
    """Return what was decided, by whom and why."""
    if case.damage:
        return "what was decided cannot be read"
    if case.decision is None:
        return "pending"
    return f"{case.status} by {case.decision.who}" + (f": {case.decision.reason}" if case.decision.reason else "")


class Damage(NamedTuple):
    """An object of the store that cannot be read: which and why, what comes of it, and what to do about it."""

    problem: str
    effect: str
    remedy: str


def damage_of(found: Found) -> Iterator[Damage]:
    """Yield the corrections, then the decisions, that cannot be read."""
    for each in found.damaged:
        remedy = f"`admin_cli feedback forget {each.id[:SHOWN_ID]}` deletes it, with its photo."
        yield Damage(str(each.error), "It is left out", remedy)
    for case in found.cases:
        if case.damage:
            short = case.correction.id[:SHOWN_ID]
            remedy = (
                f"`admin_cli feedback accept {short}` or `admin_cli feedback reject {short}` decides anew, "
                f"`admin_cli feedback forget {short}` deletes the correction."
            )
            yield Damage(case.damage, "It counts as not decided", remedy)


def tell_damage(found: Found) -> None:
    """Name what cannot be read, each with the remedy, on the standard error output."""
    for each in damage_of(found):
        typer.echo(printable(with_options(f"{each.problem} {each.effect}: {each.remedy}")), err=True)


def plain(ranked: Ranked) -> dict[str, Any]:
    """Return a correction as JSON values."""
    case = ranked.case
    correction = case.correction
    return {
        "id": correction.id,
        "time": correction.time,
        "label": case.label,
        "request_id": correction.request_id,
        "photo_sha256": correction.photo_sha256,
        "photo_bytes": correction.photo_bytes,
        "seen": correction.seen.to_dict(),
        "shadow": correction.shadow.to_dict() if correction.shadow else None,
        "status": case.status,
        "decision": vars(case.decision) if case.decision else None,
        "score": round(ranked.score, 3),
        "reasons": list(ranked.reasons),
    }
