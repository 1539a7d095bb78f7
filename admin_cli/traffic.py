"""The command status: what is pointed at, what serves, and what production has been doing."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    JsonOption,
    ModelOption,
    StoreOption,
    model_for_url,
    open_registry,
)
from admin_cli.output import NOTHING, figure, minute, percent, print_json, print_rows, print_text, sparkline
from admin_cli.production import what_came
from admin_cli.subjects import of_version
from classifier.errors import Corrupt, InvalidRequest, NotFound, PointerError
from classifier.registry.channels import SHADOW, Channels
from classifier.registry.rules import Registry
from classifier.traffic import drift
from classifier.traffic.compaction import compact
from classifier.traffic.counts import CONFIDENCE_BUCKETS, Kind, Row, quantile
from classifier.traffic.reading import Statistics, read
from classifier.wording import plural

SPANS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST = timedelta(days=3660)
TIMEOUT_SECONDS = 10
WATCH_EVERY = 5.0
UNANSWERED = "(none)"
"""In the place of a version."""
PARALLEL = 16
"""Versions whose test photos are looked up at once."""


def duration(text: str) -> timedelta:
    """Return what somebody writes as 30m, 24h, 7d or 2w.

    Raises:
        InvalidRequest: it is something else.
    """
    found = re.fullmatch(r"(\d{1,4})([mhdw])", text.strip())
    if not found or not int(found[1]) > 0:
        raise InvalidRequest(f"Expected a time such as 30m, 24h, 7d or 2w; received {text!r}.")
    return timedelta(**{SPANS[found[2]]: int(found[1])})


def status(
    context: typer.Context,
    since: Annotated[str, typer.Option("--since", help="How far back: 30m, 24h, 7d or 2w.")] = "24h",
    url: Annotated[str | None, typer.Option("--url", help="Also ask this function what it serves.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help=f"Again every {WATCH_EVERY:g} seconds, until Ctrl-C.")] = False,
    fold: Annotated[
        bool,
        typer.Option("--compact", help="Fold the counts of hours and days that are over, pack the others, and exit."),
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Show what serves, and what production has been doing.

    By version: requests, errors, speed, unknown photos and drift, besides what is pointed at and the last change. Drift
    is the population stability index of labels and of confidence against the version's own test photos: above 0.1 they
    have moved, above 0.25 it is another population.

    Example: admin_cli status --since 7d --url https://REGION-PROJECT.cloudfunctions.net/predict
    """
    registry = open_registry(store, model)
    stretch = duration(since)
    if fold:
        registry.expect_model()
        done = compact(registry.store, model, datetime.now(UTC))
        if as_json:
            print_json(vars(done))
        else:
            print_text(
                f"folded {plural(done.spans, 'span')} into hours and {plural(done.hours, 'hour')} into days, and "
                f"packed {plural(done.packed, 'object')}"
            )
        return
    while True:
        shown = _Status(registry, stretch, url, model_for_url(context, model))
        if watch:
            typer.echo("\033[2J\033[H", nl=False)
        if as_json:
            print_json(shown.to_dict())
        else:
            shown.show(since)
        if not watch:
            return
        time.sleep(WATCH_EVERY)


class _Status:
    """What is known at a moment."""

    def __init__(self, registry: Registry, stretch: timedelta, url: str | None, named: str | None) -> None:
        self.model = registry.model
        self.channels: Channels = registry.known_channels(newest=1)
        self.now = now = datetime.now(UTC)
        self.statistics: Statistics = read(registry.store, registry.model, now - stretch, now)
        versions = sorted({kind.version for kind in self.rows if kind.version})
        with ThreadPoolExecutor(PARALLEL) as pool:
            profiles = pool.map(lambda version: _profile(registry, version), versions)
            self.profiles = dict(zip(versions, profiles, strict=True))
        self.url = url
        self.serving = ask_model(url, named) if url else None

    @property
    def rows(self) -> dict[Kind, Row]:
        return dict(sorted(self.statistics.total.rows.items(), key=lambda item: (item[0].channel, item[0].version)))

    def drifts(self, kind: Kind) -> tuple[float | None, float | None]:
        """Return the index of labels and of confidence against the version's test photos; None of too few photos."""
        profile, row = self.profiles.get(kind.version), self.rows[kind]
        if profile is None or row.photos < drift.LEAST:
            return None, None
        return (
            drift.of_labels(profile.labels, row.labels),
            drift.stability_index(_coarse(profile.confidence), _coarse(row.confidence)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        channels = self.channels
        return {
            "model": self.model,
            "production": channels.production.version if channels.production else None,
            "canary": {"version": channels.canary.version, "percent": channels.canary.percent}
            if channels.canary
            else None,
            "shadow": {"version": channels.shadow.version, "sample": channels.shadow.sample}
            if channels.shadow
            else None,
            "last_change": channels.history[-1].to_dict() if channels.history else None,
            "serving": self.serving,
            "rows": [
                {
                    **kind._asdict(),
                    **row.to_dict(),
                    "errors": row.errors,
                    "p50_ms": quantile(row.latency, 0.5),
                    "p95_ms": quantile(row.latency, 0.95),
                    "unknown_share": row.unknown_share,
                    "drift": dict(zip(("labels", "confidence"), self.drifts(kind), strict=True)),
                }
                for kind, row in self.rows.items()
            ],
            "problems": dict(self.statistics.total.problems),
            "hours": [
                {"start": start.isoformat().replace("+00:00", "Z"), "requests": _requests(counts.rows.values())}
                for start, counts in self.statistics.hours
            ],
            "objects": self.statistics.objects,
        }

    def show(self, since: str) -> None:
        """Print it."""
        channels = self.channels
        pointed = channels.production.version if channels.production else NOTHING
        canary = f", canary {channels.canary.version} at {channels.canary.percent:g} %" if channels.canary else ""
        shadow = f", shadow {channels.shadow.version} of {channels.shadow.sample * 100:g} %" if channels.shadow else ""
        print_text(f"{self.model}: production {pointed}{canary}{shadow}")
        if self.serving is not None:
            print_text(f"{self.url} serves {_told(self.serving)}")
        if channels.history:
            last = channels.history[-1]
            change = f"{last.action} {last.from_version or NOTHING} to {what_came(last)}"
            print_text(
                f"last change: {minute(last.time)} UTC, {change}, by {last.who}"
                + (f": {last.reason}" if last.reason else "")
            )
        typer.echo("")
        if not self.rows:
            print_text(
                f"no request was counted in the last {since}; instances write their counts once a minute, in a request"
            )
            return
        print_rows(
            ("version", "channel", "requests", "5xx", "p50", "p95", "unknown", "labels", "conf."),
            (self._line(kind, row) for kind, row in self.rows.items() if kind.channel != SHADOW),
            right=("requests", "5xx", "p50", "p95", "unknown", "labels", "conf."),
        )
        print_text(
            "p50, p95: milliseconds; labels, conf.: how far from the version's test photos, told from "
            f"{drift.LEAST} photos on"
        )
        for kind in self.rows:
            if moved := self._moved(kind):
                print_text(f"{kind.version} ({kind.channel}): {moved}")
        if any(not kind.version for kind in self.rows):
            print_text(f"{UNANSWERED}: requests that no version answered, because they were refused or nothing serves")
        hours = {start: _requests(counts.rows.values()) for start, counts in self.statistics.hours}
        last_hour = self.now.replace(minute=0, second=0, microsecond=0)
        day = [hours.get(last_hour - timedelta(hours=23 - number), 0) for number in range(24)]
        if any(day):
            typer.echo("")
            print_text(f"requests an hour, last 24: {sparkline(day)}  most {max(day):,}")
        for kind, row in self.rows.items():
            if kind.channel == SHADOW and row.photos and channels.shadow and kind.version == channels.shadow.version:
                agreed = percent(row.shadow["agreed"] / row.photos)
                print_text(f"{kind.version}, the shadow: {plural(row.photos, 'photo')}, {agreed} as production says")
        for problem, times in self.statistics.total.problems.items():
            version, _, reason = problem.partition(" ")
            if version in {each.version for each in (channels.canary, channels.shadow) if each}:
                print_text(f"{version} does not run beside production ({reason}): told {plural(times, 'time')}")

    def _line(self, kind: Kind, row: Row) -> tuple[str, ...]:
        labels, confidence = self.drifts(kind)
        return (
            kind.version or UNANSWERED,
            kind.channel or NOTHING,
            f"{row.requests:,}",
            f"{row.errors:,}",
            figure(quantile(row.latency, 0.5), ".0f"),
            figure(quantile(row.latency, 0.95), ".0f"),
            percent(row.unknown_share) if row.photos else NOTHING,
            figure(labels, ".2f"),
            figure(confidence, ".2f"),
        )

    def _moved(self, kind: Kind) -> str:
        """Return what has drifted, in words: "labels drifted, confidence moved"; "" where nothing has."""
        found = zip(("labels", "confidence"), map(drift.verdict, self.drifts(kind)), strict=True)
        return ", ".join(f"{name} {verdict}" for name, verdict in found if verdict in ("moved", "drifted"))


def _requests(rows: Any) -> int:
    return sum(row.requests for row in rows)


def _coarse(histogram: list[int]) -> list[int]:
    """Return ten buckets of the twenty: the index needs photos in each."""
    return [sum(histogram[number : number + 2]) for number in range(0, CONFIDENCE_BUCKETS, 2)]


def _profile(registry: Registry, version: str) -> Row | None:
    """Return what a version said of its own test photos; None where that was not kept, or it is gone."""
    try:
        answers = of_version(registry, version).stored_answers()
    except (NotFound, Corrupt):
        return None
    if not answers:
        return None
    row = Row()
    for _, answer in answers.values():
        row.add_photo(answer.label, answer.confidence, unknown=bool(answer.unknown), cached=False)
    return row


def ask_model(url: str, model: str | None = None) -> dict[str, Any]:
    """Return what a running function says of a model, by default of its own default."""
    import urllib.error
    import urllib.parse
    import urllib.request

    from admin_cli.calling import token_headers

    tokens = token_headers(url)
    query = f"?{urllib.parse.urlencode({'model': model})}" if model else ""
    request = urllib.request.Request(f"{url.rstrip('/')}/model{query}")  # noqa: S310 - checked by `token_headers`
    for header, token in tokens.items():
        request.add_unredirected_header(header, token)
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - as above
            body = json.loads(response.read())
    except urllib.error.HTTPError as error:
        return {"error": f"status {error.code}"}
    except (OSError, ValueError, PointerError) as error:
        return {"error": str(getattr(error, "reason", error))}
    milliseconds = round((time.perf_counter() - began) * 1000)
    return {
        **{name: body.get(name) for name in ("version", "channel", "fallback", "variant", "created_at")},
        "ms": milliseconds,
    }


def _told(serving: dict[str, Any]) -> str:
    if "error" in serving:
        return f"nothing: {serving['error']}"
    fallback = serving.get("fallback")
    instead = f" in place of {fallback['pointed']}, which is {fallback['reason']}" if fallback else ""
    return f"{serving['version']} ({serving['channel']}){instead}, answered in {serving['ms']} ms"
