"""The commands about what production serves: promote, rollback, history."""

from __future__ import annotations

from typing import Annotated

import typer

from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    JsonOption,
    ModelOption,
    StoreOption,
    VersionArgument,
    WhoOption,
    name_of,
    open_registry,
)
from admin_cli.output import NOTHING, minute, print_json, print_table, print_text
from admin_cli.replay import replay
from classifier.registry.channels import HistoryEntry

ReasonOption = Annotated[str, typer.Option("--reason", help="Recorded in the history.")]


def promote(
    version: VersionArgument,
    reason: ReasonOption = "",
    expect: Annotated[
        str | None, typer.Option("--expect", help="Only if production serves this version at that moment.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """Verify a version and make it what production serves. Running functions follow within POINTER_TTL seconds.

    Example: admin_cli promote v7 --reason "more photos of soups"
    """
    registry = open_registry(store, model)
    _report(registry.promote(version, who=name_of(who), reason=reason, replay=replay, expect=expect), as_json)


def rollback(
    to: Annotated[str | None, typer.Option("--to", help="An earlier version. Default: the one before.")] = None,
    reason: ReasonOption = "",
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make production serve what it served before.

    Example: admin_cli rollback --reason "calls soups salads"
    """
    registry = open_registry(store, model)
    _report(registry.rollback(who=name_of(who), reason=reason, replay=replay, to=to), as_json)


def history(
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Show every change of what production serves, newest first.

    Example: admin_cli history
    """
    entries = tuple(reversed(open_registry(store, model).channels().history))
    if as_json:
        print_json([entry.to_dict() for entry in entries])
    elif not entries:
        print_text(f"No version of {model} was ever promoted in {store}.")
    else:
        print_table(("time (UTC)", "action", "from", "to", "who", "reason"), map(_line, entries))


def _line(entry: HistoryEntry) -> tuple[str, ...]:
    before = entry.from_version or NOTHING
    return minute(entry.time), entry.action, before, entry.to_version, entry.who, entry.reason


def _report(entry: HistoryEntry, as_json: bool) -> None:
    if as_json:
        print_json(entry.to_dict())
    else:
        verb = {"promote": "promoted", "rollback": "rolled back to"}.get(entry.action, entry.action)
        before = f" (before: {entry.from_version})" if entry.from_version else ""
        print_text(f"{verb} {entry.to_version}{before}")
