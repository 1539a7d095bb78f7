"""The command `canary watch`: raises the canary's share step by step, or aborts it by what instances counted."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple

import typer

from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    JsonOption,
    ModelOption,
    StoreOption,
    WhoOption,
    name_of,
    open_registry,
)
from admin_cli.output import figure, percent, print_json, print_table, print_text
from admin_cli.production import promote_through_gate
from admin_cli.replay import replay
from admin_cli.traffic import duration
from classifier.errors import InvalidRequest, Refused
from classifier.registry.canary import check_percent
from classifier.registry.canary import expect as expect_canary
from classifier.registry.channels import CANARY, PRODUCTION, Canary
from classifier.registry.rules import Registry
from classifier.traffic import watching
from classifier.traffic.counts import Counts, Row
from classifier.traffic.reading import read_since
from classifier.wording import plural

FIGURES = {"p95_ms": "latency", "unknown": "unknown photos", "confidence": "confidence", "labels": "labels"}
"""That are compared once there are enough requests."""
CLOCKS_DIFFER = 60.0
"""Seconds by which two machines' clocks may."""


class _Look(NamedTuple):
    """What one look saw."""

    canary: Canary
    seconds: float
    """Since its share was set."""
    counts: Counts
    production: Row
    row: Row
    findings: list[watching.Finding]
    problems: list[str]
    """Why instances could not load it."""

    @property
    def reasons(self) -> list[str]:
        """Return why it is to be aborted."""
        return [f"instances could not load it: {each}" for each in self.problems] + [
            each.text for each in self.findings if each.beyond
        ]

    def figures(self) -> dict[str, object]:
        """Return what the history records."""
        return {
            "percent": self.canary.percent,
            "seconds": round(self.seconds),
            "requests": {"production": self.production.requests, "canary": self.row.requests},
            "findings": [each.to_dict() for each in self.findings],
            **({"problems": self.problems} if self.problems else {}),
        }


def watch(
    for_: Annotated[str, typer.Option("--for", help="How long each share is watched: 30m, 6h or 1d.")] = "30m",
    steps: Annotated[str, typer.Option("--steps", help="The shares, in percent, rising.")] = "10,25,50",
    promote: Annotated[
        bool, typer.Option("--promote", help="Promote it after the last step, if the gate lets it pass.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Look once and exit, as a scheduler wants it.")] = False,
    every: Annotated[float, typer.Option("--every", help="Seconds between two looks.", min=0.1)] = watching.LOOK_EVERY,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """Raise the canary's share step by step, or abort it.

    It is aborted (exit 5) when its errors, latency, unknown photos, labels or mean confidence differ beyond chance and
    beyond what is tolerated, or when instances report that they cannot load it. The tests are Fisher's exact one,
    Welch's and chi-squared, with the error that looking again and again adds taken out. Each share is kept until it
    was watched so long and got 30 requests. What has been reached is in the store: watching can stop and go on
    anywhere.

    Example: admin_cli canary watch --for 30m --steps 10,25,50 --promote
    """
    length = duration(for_).total_seconds()
    shares = _shares(steps)
    registry = open_registry(store, model)
    while True:
        look = _look(registry)
        if not as_json:
            _show(look)
        if look.reasons:
            _abort(registry, look, who, as_json)
        done = _go_on(registry, look, shares, length, promote=promote, who=who, as_json=as_json)
        if done or once:
            return
        time.sleep(every)


def _look(registry: Registry) -> _Look:
    """Read what both did since the share was set.

    Raises:
        Refused: by this machine's clock that is still to come.
    """
    channels = registry.known_channels(newest=0)
    current = expect_canary(channels)
    now = datetime.now(UTC)
    since = datetime.fromisoformat(current.step_since or current.since)
    seconds = (now - since).total_seconds()
    if seconds < -CLOCKS_DIFFER:
        raise Refused(
            f"Expected a clock past {since:%Y-%m-%d %H:%M} UTC, when the share of {current.version} was set; this one "
            f"says {now:%Y-%m-%d %H:%M}. Set whichever is wrong: until then nothing can be said of the canary, which "
            "stays as it is."
        )
    seconds = max(0.0, seconds)
    counts = read_since(registry.store, registry.model, since, now)
    production = Row()
    for kind, row in counts.rows.items():
        if kind.channel == PRODUCTION:
            production.add(row)
    row = counts.rows.get((current.version, CANARY), Row())  # type: ignore[call-overload]
    findings = watching.compare(production, row, channels.gate, watching.look_number(seconds))
    problems = [each.partition(" ")[2] for each in counts.problems if each.partition(" ")[0] == current.version]
    return _Look(current, seconds, counts, production, row, findings, problems)


def _show(look: _Look) -> None:
    print_text(
        f"{look.canary.version} at {look.canary.percent:g} % for {_minutes(look.seconds)}: "
        f"{plural(look.row.requests, 'request')}, production {look.production.requests:,}"
    )
    if look.row.requests:
        print_table(
            ("", PRODUCTION, CANARY, "p", ""),
            (
                (
                    each.what,
                    _value(each.what, each.production),
                    _value(each.what, each.canary),
                    f"{each.p:.2g}",
                    "beyond" if each.beyond else "",
                )
                for each in look.findings
            ),
            right=(PRODUCTION, CANARY),
        )


def _abort(registry: Registry, look: _Look, who: str, as_json: bool) -> None:
    """End the canary, with the figures in the history.

    Raises:
        Refused: always, with the reasons.
    """
    reason = "; ".join(look.reasons)
    entry = registry.abort_canary(who=name_of(who), reason=reason, version=look.canary.version, figures=look.figures())
    if as_json:
        print_json(entry.to_dict())
    raise Refused(f"The canary {look.canary.version} was aborted: {reason}.")


def _go_on(
    registry: Registry, look: _Look, shares: list[float], length: float, *, promote: bool, who: str, as_json: bool
) -> bool:
    """Raise the share or promote, if it is time; return whether the watch is over."""
    current = look.canary
    if look.seconds < length or look.row.requests < watching.LEAST_REQUESTS:
        if as_json:
            print_json({"action": "none", "version": current.version, **look.figures()})
        else:
            print_text(_waits_for(look, length))
        return False
    following = next((share for share in shares if share > current.percent), None)
    reason = (
        f"no difference in {_minutes(look.seconds)} at {current.percent:g} % ({plural(look.row.requests, 'request')})"
    )
    if following is not None:
        entry = registry.start_canary(current.version, following, who=name_of(who), reason=reason, replay=replay)
        if as_json and entry:
            print_json(entry.to_dict())
        elif entry:
            print_text(f"{current.version} is the canary for {following:g} % of the callers now")
        return False
    if not promote:
        if as_json:
            print_json({"action": "watched", "version": current.version, **look.figures()})
        else:
            print_text(f"{reason}; next: `admin_cli canary promote`")
        return True
    promote_through_gate(registry, current.version, who=who, reason=reason, eval_set=None, force=False, as_json=as_json)
    return True


def _waits_for(look: _Look, length: float) -> str:
    """Say until when the share is kept, and for what."""
    waits = []
    if (left := length - look.seconds) > 0:
        waits.append(f"until {datetime.now(UTC) + timedelta(seconds=left):%H:%M} UTC ({_minutes(left)} more)")
    if (missing := watching.LEAST_REQUESTS - look.row.requests) > 0:
        waits.append(f"for {plural(missing, 'more request')} of the canary")
    known = {each.what for each in look.findings}
    later = [name for what, name in FIGURES.items() if what not in known]
    told = f"; once both have {watching.LEAST_REQUESTS}, also compared: {', '.join(later)}" if later else ""
    return f"{look.canary.version} stays at {look.canary.percent:g} % {' and '.join(waits)}{told}"


def _shares(text: str) -> list[float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if not shares or shares != sorted(set(shares)):
        raise InvalidRequest(f"Expected --steps to be rising percentages such as 10,25,50; received {text!r}.")
    for share in shares:
        check_percent(share)
    return shares


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _value(what: str, value: float) -> str:
    if what == "p95_ms":
        return f"{value:.0f}"
    return figure(value, ".2f") if what == "labels" else percent(value)
