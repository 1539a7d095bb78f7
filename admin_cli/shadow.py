"""The commands about the shadow: start it, look at what it says, stop it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    NEWEST,
    JsonOption,
    ModelOption,
    StoreOption,
    VersionArgument,
    WhoOption,
    name_of,
    open_registry,
    version_of,
)
from admin_cli.output import figure, percent, print_json, print_table, print_text
from admin_cli.production import ReasonOption
from admin_cli.replay import replay
from admin_cli.traffic import duration
from classifier.errors import InvalidRequest
from classifier.registry.canary import check_percent
from classifier.registry.channels import SHADOW
from classifier.traffic.counts import Row, quantile
from classifier.traffic.reading import read
from classifier.wording import plural

FIRST_SAMPLE = 0.1
SampleOption = Annotated[
    float | None,
    typer.Option("--sample", help=f"Share of production's photos, above 0 and up to 1. Default: {FIRST_SAMPLE:g}."),
]
PercentOption = Annotated[
    float | None, typer.Option("--percent", help="The same in percent, as `admin_cli canary start` has it.")
]
KeepOption = Annotated[
    bool,
    typer.Option(
        "--keep-photos", help="Keep photos on which the two disagree, where the caller sent consent=1, as feedback."
    ),
]
OUTCOMES = ("agreed", "disagreed", "failed", "dropped")
shadow = typer.Typer(help="Let a version classify photos beside production.", rich_markup_mode=None)


@shadow.command("start")
def start(
    version: VersionArgument,
    sample: SampleOption = None,
    percent_: PercentOption = None,
    keep_photos: KeepOption = False,
    reason: ReasonOption = "",
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let a version classify a sample of the photos, or change it.

    Nobody is answered by it: how often it agrees, and how long it takes, is counted. A request never waits for it; a
    photo that would make one wait is dropped, and so is a version that is slow, broken or too large here.

    Example: admin_cli shadow start v8 --percent 10
    """
    if sample is not None and percent_ is not None:
        raise InvalidRequest("Expected --sample or --percent; received both.")
    if percent_ is not None:
        check_percent(percent_)
        sample = percent_ / 100
    sample = FIRST_SAMPLE if sample is None else sample
    registry = open_registry(store, model)
    version = version_of(registry, version)
    entry = registry.start_shadow(
        version, sample, who=name_of(who), reason=reason, replay=replay, keep_photos=keep_photos
    )
    kept = "; photos on which they disagree are kept where callers consent" if keep_photos else ""
    if as_json:
        print_json(entry.to_dict() if entry else {"action": "none", "channel": SHADOW, "to": version})
    elif entry is None:
        print_text(f"{version} is the shadow for {sample * 100:g} % of the photos already; nothing was changed")
    else:
        print_text(
            f"{version} is the shadow, for {sample * 100:g} % of the photos{kept}; next: `admin_cli shadow report`"
        )


@shadow.command("report")
def report(
    since: Annotated[str, typer.Option("--since", help="How far back: 30m, 24h, 7d or 2w.")] = "24h",
    limit: Annotated[int, typer.Option("--limit", help="How many pairs of labels.", min=1)] = NEWEST,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Show how often shadows agree with production.

    Also on which labels they do not, and what they cost. Milliseconds are of decoding and classifying a photo, on the
    same photos: the shadow's processor time, and what production took.

    Example: admin_cli shadow report --since 7d
    """
    registry = open_registry(store, model)
    current = registry.known_channels(newest=0).shadow
    now = datetime.now(UTC)
    counts = read(registry.store, model, now - duration(since), now).total
    rows = {kind.version: row for kind, row in sorted(counts.rows.items()) if kind.channel == SHADOW}
    problems = {
        reason: times
        for problem, times in counts.problems.items()
        for version, _, reason in [problem.partition(" ")]
        if current and version == current.version
    }
    if as_json:
        print_json(
            {
                "shadow": {
                    "version": current.version,
                    "sample": current.sample,
                    "keep_photos": current.keep_photos,
                    "since": current.since,
                }
                if current
                else None,
                "problems": problems,
                "versions": [{"version": version, **_plain(row)} for version, row in rows.items()],
            }
        )
        return
    if current:
        print_text(f"{current.version} is the shadow for {current.sample * 100:g} % of the photos")
    else:
        print_text("there is no shadow; `admin_cli shadow start VERSION` starts one")
    for reason, times in problems.items():
        print_text(f"it does not run beside production ({reason}): told {times:,} times")
    if not rows:
        print_text(f"no photo was classified by a shadow in the last {since}")
        return
    typer.echo("")
    print_table(
        ("version", "photos", "agreed", "failed", "dropped", "unknown", "ms", "p95", "production ms"),
        (_line(version, row) for version, row in rows.items()),
        right=("photos", "agreed", "failed", "dropped", "unknown", "ms", "p95", "production ms"),
    )
    for version, row in rows.items():
        pairs = row.disagreements()
        if pairs:
            typer.echo("")
            print_table(
                ("production", version, "photos"),
                ((said or "others", label, f"{count:,}") for said, label, count in pairs[:limit]),
                right=("photos",),
            )
            if len(pairs) > limit:
                print_text(f"the first {limit} of {plural(len(pairs), 'pair')}; --limit shows more")


@shadow.command("stop")
def stop(
    reason: ReasonOption = "",
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """End the shadow. What was counted stays.

    Example: admin_cli shadow stop
    """
    entry = open_registry(store, model).stop_shadow(who=name_of(who), reason=reason)
    if as_json:
        print_json(entry.to_dict())
    else:
        print_text(f"{entry.from_version} is no longer the shadow")


def _plain(row: Row) -> dict[str, Any]:
    milliseconds, production = _means(row)
    return {
        "photos": row.photos,
        **{name: row.shadow[name] for name in OUTCOMES},
        "agreement": row.shadow["agreed"] / row.photos if row.photos else None,
        "unknown_share": row.unknown_share,
        "ms": milliseconds,
        "p95_ms": quantile(row.latency, 0.95),
        "production_ms": production,
        "disagreements": [
            {"production": said, "shadow": label, "photos": count} for said, label, count in row.disagreements()
        ],
    }


def _line(version: str, row: Row) -> tuple[str, ...]:
    milliseconds, production = _means(row)
    return (
        version,
        f"{row.photos:,}",
        percent(row.shadow["agreed"] / row.photos) if row.photos else "-",
        f"{row.shadow['failed']:,}",
        f"{row.shadow['dropped']:,}",
        percent(row.unknown_share) if row.photos else "-",
        figure(milliseconds, ".1f"),
        figure(quantile(row.latency, 0.95), ".0f"),
        figure(production, ".1f"),
    )


def _means(row: Row) -> tuple[float | None, float | None]:
    """Return the mean milliseconds of the shadow and of production, of the photos that both classified."""
    if not row.photos:
        return None, None
    return row.shadow[SHADOW] / row.photos / 1000, row.shadow["production"] / row.photos / 1000
