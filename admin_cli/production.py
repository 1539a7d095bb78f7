"""The commands about what production serves: promote, rollback, history."""

from __future__ import annotations

from typing import Annotated

import typer

from admin_cli.compare import EvalSetOption, Gatekeeper, print_comparison, print_verdict
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
from admin_cli.output import NOTHING, minute, print_json, print_rows, print_text
from admin_cli.replay import replay
from classifier.errors import InvalidRequest, Refused
from classifier.registry.channels import CANARY_ABORT, PRODUCTION, SHADOW_STOP, HistoryEntry
from classifier.registry.rules import Registry

ReasonOption = Annotated[str, typer.Option("--reason", help="Recorded in the history.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Promote it whatever the gate says; needs --reason, and is recorded.")
]


def promote(
    version: VersionArgument,
    reason: ReasonOption = "",
    expect: Annotated[
        str | None, typer.Option("--expect", help="Only if production serves this version at that moment.")
    ] = None,
    eval_set: EvalSetOption = None,
    force: ForceOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what the gate says and change nothing.")] = False,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """Compare a version with what serves, then let it serve.

    Every file is verified and the golden cases are replayed first. The gate refuses a version that loses labels, is
    worse beyond chance, slower or larger than its thresholds allow (`admin_cli gate show`). A first promotion is not
    held up, nor is a rollback.

    Functions that are busy follow within POINTER_TTL seconds and the time it takes to load. One that nobody has called
    for ten times POINTER_TTL, at least a minute, follows with its next request, which waits for it, a second at most.
    In between, the first request after the change may still be answered by the version before.

    Where it serves already, that is said and nothing is written.

    Example: admin_cli promote v7 --reason "more photos of soups"
    """
    registry = open_registry(store, model)
    version = version_of(registry, version)
    expect = expect and version_of(registry, expect)
    if dry_run:
        _try(registry, Gatekeeper(registry, version, eval_set), as_json, force=force)
        return
    promote_through_gate(
        registry, version, who=who, reason=reason, eval_set=eval_set, force=force, as_json=as_json, expect=expect
    )


def promote_through_gate(
    registry: Registry,
    version: str,
    *,
    who: str,
    reason: str,
    eval_set: str | None,
    force: bool,
    as_json: bool,
    expect: str | None = None,
) -> None:
    """Promote a version if the gate lets it pass, and print what was done or why not.

    Raises:
        InvalidRequest: force without a reason.
        Also what `Registry.promote` raises.
    """
    if force and not reason.strip():
        raise InvalidRequest("Expected --reason TEXT with --force: the history records why; received none.")
    gatekeeper = Gatekeeper(registry, version, eval_set)
    try:
        entry = registry.promote(
            version, who=name_of(who), reason=reason, replay=replay, expect=expect, judge=gatekeeper, force=force
        )
    except Refused:
        if gatekeeper.reasons and as_json:
            print_json({**gatekeeper.comparison.to_dict(), "refused": gatekeeper.reasons})
        elif gatekeeper.reasons:
            print_comparison(gatekeeper.comparison)
        raise
    if entry:
        _report(entry, as_json)
    elif as_json:
        print_json({"action": "none", "channel": PRODUCTION, "from": version, "to": version})
    else:
        print_text(f"{version} already serves; nothing was changed")


def _try(registry: Registry, gatekeeper: Gatekeeper, as_json: bool, *, force: bool) -> None:
    """Say what a promotion would do.

    Raises:
        Refused: the gate would refuse it.
    """
    channels = registry.channels(newest=0)
    if channels.production is None:
        registry.manifest(gatekeeper.version)
        print_text(f"{gatekeeper.version} would be the first in production; nothing was changed")
        return
    reasons = gatekeeper(channels.production, channels.gate)
    if as_json:
        print_json({**gatekeeper.comparison.to_dict(), "refused": reasons})
    else:
        print_comparison(gatekeeper.comparison)
        typer.echo("")
        print_verdict(gatekeeper.comparison, reasons)
    if reasons and force:
        if not as_json:
            print_text(f"{gatekeeper.version} would be promoted all the same, by --force; nothing was changed")
    elif reasons:
        raise Refused(f"{gatekeeper.version} would not be promoted; nothing was changed.")


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
    channels = registry.known_channels(newest=limit or (None if everything else NEWEST))
    entries = channels.history[::-1]
    if as_json:
        print_json([entry.to_dict() for entry in entries])
    elif not entries:
        print_text(f"No version of {model} was ever promoted in {store}.")
    else:
        print_rows(
            ("time (UTC)", "action", "from", "to", "who"),
            map(_line, entries),
            notes=[entry.reason for entry in entries],
        )
        if channels.older:
            typer.echo("")
            print_text(f"the newest {len(entries)} of {len(entries) + channels.older:,}; --all shows all")


def what_came(entry: HistoryEntry) -> str:
    """Return what took a version's place: nothing where a shadow was stopped, which had answered nobody."""
    return NOTHING if entry.action == SHADOW_STOP else entry.to_version


def _line(entry: HistoryEntry) -> tuple[str, ...]:
    before, after = entry.from_version or NOTHING, what_came(entry)
    if isinstance(percent := entry.extra.get("percent"), int | float) and entry.action != CANARY_ABORT:
        after = f"{after} {percent:g} %"
    return minute(entry.time), entry.action, before, after, entry.who


def _report(entry: HistoryEntry, as_json: bool) -> None:
    if as_json:
        print_json(entry.to_dict())
    else:
        verb = {"promote": "promoted", "rollback": "rolled back to"}.get(entry.action, entry.action)
        before = f" (before: {entry.from_version})" if entry.from_version else ""
        print_text(f"{verb} {entry.to_version}{before}")
        for passed_over in entry.extra.get("forced", ()):
            print_text(f"- although {passed_over}")
