"""The commands about what production serves: promote, rollback, history."""

from __future__ import annotations

from typing import Annotated

import typer

from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    NEWEST,
    JsonOption,
    LimitOption,
    ModelOption,
    StoreOption,
    VersionArgument,
    WhoOption,
    name_of,
    open_registry,
    version_of,
)
from admin_cli.output import NOTHING, minute, print_json, print_table, print_text
from admin_cli.replay import replay
from classifier.registry.channels import PRODUCTION, HistoryEntry

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
    """Verify a version and make it what production serves.

    Functions that are busy follow within POINTER_TTL seconds and the time it takes to load. One that nobody has called
    for a minute (or ten times POINTER_TTL) follows with its next request, which waits for it, a second at most.

    Where it serves already, that is said and nothing is written.

    Example: admin_cli promote v7 --reason "more photos of soups"
    """
    registry = open_registry(store, model)
    version = version_of(registry, version)
    expect = expect and version_of(registry, expect)
    entry = registry.promote(version, who=name_of(who), reason=reason, replay=replay, expect=expect)
    if entry:
        _report(entry, as_json)
    elif as_json:
        print_json({"action": "none", "channel": PRODUCTION, "from": version, "to": version})
    else:
        print_text(f"{version} already serves; nothing was changed")


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
    to = to and version_of(registry, to)
    _report(registry.rollback(who=name_of(who), reason=reason, replay=replay, to=to), as_json)


def history(
    everything: Annotated[bool, typer.Option("--all", help="Show all changes.")] = False,
    limit: LimitOption = None,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Show the changes of what production serves, newest first.

    Example: admin_cli history --limit 50
    """
    registry = open_registry(store, model)
    channels = registry.channels(newest=limit or (None if everything else NEWEST))
    if not channels.generation:
        registry.expect_model()
    entries = channels.history[::-1]
    if as_json:
        print_json([entry.to_dict() for entry in entries])
    elif not entries:
        print_text(f"No version of {model} was ever promoted in {store}.")
    else:
        print_table(("time (UTC)", "action", "from", "to", "who", "reason"), map(_line, entries))
        if channels.older:
            typer.echo("")
            print_text(f"the newest {len(entries)} of {len(entries) + channels.older:,}; --all shows all")


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
