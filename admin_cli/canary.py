"""The commands about the canary: start it, raise its share, promote it, abort it."""

from __future__ import annotations

from typing import Annotated

import typer

from admin_cli.compare import EvalSetOption
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
    version_of,
)
from admin_cli.output import print_json, print_text
from admin_cli.production import ForceOption, ReasonOption, promote_through_gate
from admin_cli.replay import replay

FIRST_PERCENT = 10.0
PercentOption = Annotated[
    float | None,
    typer.Option(
        "--percent",
        help=f"Of the callers, above 0 and up to 100. Default: {FIRST_PERCENT:g}, or what the canary has already.",
    ),
]
canary = typer.Typer(help="Give a version to a share of the callers, beside production.", rich_markup_mode=None)


@canary.command("start")
def start(
    version: VersionArgument,
    percent: PercentOption = None,
    reason: ReasonOption = "",
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """Give a version to a share of the callers, or change the share.

    The version is verified first. Who gets it follows from the signed-in user, else the app, else the address, and
    stays so as the share rises. Functions follow as they follow a promotion, within POINTER_TTL seconds; one that has
    no memory for both serves production alone.

    Example: admin_cli canary start v8 --percent 10
    """
    registry = open_registry(store, model)
    version = version_of(registry, version)
    if percent is None:
        running = registry.channels(newest=0).canary
        percent = running.percent if running and running.version == version else FIRST_PERCENT
    entry = registry.start_canary(version, percent, who=name_of(who), reason=reason, replay=replay)
    if as_json:
        print_json(entry.to_dict() if entry else {"action": "none", "channel": "canary", "to": version})
    elif entry is None:
        print_text(f"{version} is the canary at {percent:g} % already; nothing was changed")
    else:
        before = f" (before: {entry.extra['from_percent']:g} %)" if "from_percent" in entry.extra else ""
        print_text(f"{version} is the canary, for {percent:g} % of the callers{before}")


@canary.command("promote")
def promote(
    reason: ReasonOption = "",
    eval_set: EvalSetOption = None,
    force: ForceOption = False,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make the canary what production serves.

    The gate is asked as by `admin_cli promote`.

    Example: admin_cli canary promote --reason "a day at 50 % without a difference"
    """
    registry = open_registry(store, model)
    version = registry.canary().version
    promote_through_gate(registry, version, who=who, reason=reason, eval_set=eval_set, force=force, as_json=as_json)


@canary.command("abort")
def abort(
    reason: ReasonOption = "",
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """End the canary: its callers get what production serves.

    Example: admin_cli canary abort --reason "slow on old phones"
    """
    registry = open_registry(store, model)
    entry = registry.abort_canary(who=name_of(who), reason=reason)
    if as_json:
        print_json(entry.to_dict())
    else:
        print_text(f"{entry.from_version} is no longer the canary; {entry.to_version} serves everybody")
