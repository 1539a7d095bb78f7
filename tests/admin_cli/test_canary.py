"""Canary and status over a real function: callers are answered by it, counts, watching, aborting, promoting."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from admin_cli import traffic
from classifier.registry.gate import Gate
from classifier.registry.rules import Registry
from classifier.storage.local import LocalStore
from classifier.traffic import watching
from classifier.traffic.counts import Counts, Row
from classifier.traffic.spans import Span
from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.commands import Cli, cli_fixture  # noqa: F401  # fixture
from tests.support.serving import MODEL, Serving, serve

CALLERS = [f"10.1.{number // 250}.{number % 250 + 1}" for number in range(40)]


@pytest.fixture(name="two")
def two_fixture(cli: Cli, tiny_bundle: Path, confused_bundle: Path) -> Cli:
    """v1 serves and is right; v2 takes green for blue; v3 serves the same file as v1."""
    for bundle in (tiny_bundle, confused_bundle, tiny_bundle):
        cli("publish", bundle, "--again").well()
    cli("promote", "v1").well()
    return cli


@pytest.fixture(name="function")
def function_fixture(two: Cli, tmp_path: Path) -> Iterator[Serving]:
    """A real function that writes its counts every half a second and believes X-Forwarded-For."""
    with serve(
        tmp_path / "store", tmp_path / "serving", POINTER_TTL="0.1", STATS_EVERY="0.5", TRUSTED_PROXIES="1"
    ) as serving:
        yield serving


def ask(function: Serving, caller: str, label: str = "green") -> dict:
    reply = function.post(data=colour_photo(label), headers={"Content-Type": "image/png", "X-Forwarded-For": caller})
    assert reply.status_code == 200, reply.text
    return reply.json()


def until(condition, what: str, within: float = 20.0) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def put(store: Path, rows: dict[tuple[str, str], Row], began: datetime, problems: dict[str, int] | None = None) -> None:
    """Write counts as an instance would have."""
    counts = Counts()
    for (version, channel), row in rows.items():
        counts.row(version, channel).add(row)
    counts.problems.update(problems or {})
    text = began.isoformat().replace("+00:00", "Z")
    name = f"{MODEL}/stats/{began:%Y-%m-%d}/{began:%H}/{began:%H%M%S}-{time.monotonic_ns():x}.json"
    LocalStore(store).write(name, Span(name, text, text, counts).to_json(), if_generation=0)


def row(
    requests_: int, *, errors: int = 0, milliseconds: float = 20.0, confidence: float = 0.9, unknown: int = 0
) -> Row:
    made = Row()
    for number in range(requests_):
        failed = number < errors
        made.add_request(503 if failed else 200, milliseconds)
        if not failed:
            made.add_photo(TINY_LABELS[number % 4], confidence, unknown=number < errors + unknown, cached=False)
    return made


def test_a_canary_is_started_answers_its_callers_and_is_counted(two: Cli, function: Serving) -> None:
    ask(function, CALLERS[0])
    assert two("canary", "start", "v2", "--percent", "50").well() == "v2 is the canary, for 50 % of the callers\n"
    listed = two("list").well()
    marks = [(line[0], line[2:4]) for line in listed.splitlines()[1:4]]
    assert marks == [("*", "v1"), ("+", "v2"), (" ", "v3")]
    assert listed.endswith("\n+ v2 is the canary, for 50 % of the callers\n")
    assert [each["version"] for each in two("list", "--json").json() if each["canary"]] == ["v2"]
    assert "nothing was changed" in two("canary", "start", "v2", "--percent", "50").well()
    until(lambda: any(ask(function, each)["model"]["channel"] == "canary" for each in CALLERS), "no canary answers")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda caller: ask(function, caller), CALLERS))
    by_channel = {answer["model"]["channel"]: answer["label"] for answer in answers}
    assert by_channel == {"production": "green", "canary": "blue"}
    again = [ask(function, caller)["model"]["channel"] for caller in CALLERS]
    assert again == [answer["model"]["channel"] for answer in answers]
    time.sleep(0.6)
    ask(function, CALLERS[0])

    def counted() -> dict[str, int]:
        rows = two("status", "--json").json()["rows"]
        return {each["channel"]: each["photos"] for each in rows}

    until(lambda: sum(counted().values()) >= 80 and len(counted()) == 2, "the counts do not arrive")
    said = two("status", "--url", function.url).well()
    assert "production v1, canary v2 at 50 %" in said
    assert f"{function.url} serves v" in " ".join(said.split())
    assert "requests an hour" in said
    assert max(map(len, said.splitlines())) <= 80
    assert "v2 50 %" in two("history").well()
    aborted = two("canary", "abort", "--reason", "a trial").well()
    assert aborted == "v2 is no longer the canary; v1 serves everybody\n"
    until(lambda: {ask(function, each)["model"]["channel"] for each in CALLERS} == {"production"}, "it goes on")
    newest = two("history", "--json").json()[0]
    assert (newest["action"], newest["from"], newest["to"], newest["reason"]) == ("canary abort", "v2", "v1", "a trial")


def test_what_a_killed_or_ended_function_counted_is_there(two: Cli, tmp_path: Path) -> None:
    with serve(tmp_path / "store", tmp_path / "ends", STATS_EVERY="3600") as function:
        for _ in range(3):
            ask(function, CALLERS[0])
        assert function.post(data=b"no photo", headers={"Content-Type": "image/png"}).status_code == 422
        assert two("status", "--json").json()["rows"] == []
    rows = two("status", "--json").json()["rows"]
    by_version = {each["version"]: each for each in rows}
    assert by_version["v1"]["statuses"] == {"200": 3, "422": 1}
    assert (by_version["v1"]["photos"], by_version["v1"]["labels"]) == (3, {"green": 3})
    stored = "".join(path.read_text() for path in (tmp_path / "store" / MODEL / "stats").rglob("*.json"))
    assert "127.0.0.1" not in stored and CALLERS[0] not in stored


def test_requests_of_a_function_that_serves_nothing_count_too(cli: Cli, tmp_path: Path, tiny_bundle: Path) -> None:
    cli("publish", tiny_bundle, "--again").well()
    with serve(tmp_path / "store", tmp_path / "empty", STATS_EVERY="3600") as function:
        assert function.post(data=colour_photo("red"), headers={"Content-Type": "image/png"}).status_code == 503
    (only,) = cli("status", "--json").json()["rows"]
    assert (only["version"], only["channel"], only["statuses"]) == ("", "", {"503": 1})
    said = cli("status").well()
    assert [line.split()[:3] for line in said.splitlines() if line.startswith("(none) ")] == [["(none)", "-", "1"]]
    assert "(none): requests that no version answered" in said


def test_a_few_photos_are_no_drift(two: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny bundle keeps no answers to test photos: a hundred of them stand in for what it would say."""
    monkeypatch.setattr(traffic, "_profile", lambda *_: row(100))

    def said(photos: int) -> str:
        put(tmp_path / "store", {("v1", "production"): row(photos)}, datetime.now(UTC) - timedelta(minutes=5))
        shown = two("status").well()
        (line,) = [line for line in shown.splitlines() if line.startswith("v1  ")]
        assert "told from 30 photos on" in " ".join(shown.split())
        return line

    assert said(3).split()[-2:] == ["-", "-"]
    (few,) = two("status", "--json").json()["rows"]
    assert few["drift"] == {"labels": None, "confidence": None}
    assert said(27).split()[-2:] == ["0.00", "0.00"]
    other = row(100, confidence=0.2)
    other.labels = {"red": 100}
    put(tmp_path / "store", {("v1", "production"): other}, datetime.now(UTC) - timedelta(minutes=4))
    put(tmp_path / "store", {("v2", "canary"): row(123456 // 1000)}, datetime.now(UTC) - timedelta(minutes=4))
    told = two("status", COLUMNS="80").well()
    (line,) = [line for line in told.splitlines() if line.startswith("v1  ")]
    assert all(float(index) > 0.25 for index in line.split()[-2:])
    assert "\nv1 (production): labels drifted, confidence drifted\n" in told and "v2 (canary)" not in told


def watch(two: Cli, *options: str) -> list:
    return ["canary", "watch", "--once", "--for", "1m", "--steps", "10,50", *options]


def since_a_while(store: Path, minutes: float) -> datetime:
    """Let the canary's share have been set so long ago."""
    path = store / MODEL / "channels.json"
    plain = json.loads(path.read_text())
    then = datetime.now(UTC) - timedelta(minutes=minutes)
    plain["canary"]["step_since"] = then.isoformat(timespec="seconds").replace("+00:00", "Z")
    path.write_text(json.dumps(plain))
    return then


def test_a_clock_that_was_set_back_is_told_and_changes_nothing(two: Cli, tmp_path: Path) -> None:
    two("canary", "start", "v3", "--percent", "10").well()
    since_a_while(tmp_path / "store", -0.5)  # as far as two machines' clocks may differ
    assert "v3 at 10 % for 0 s" in two(*watch(two)).well()
    since_a_while(tmp_path / "store", -180)
    assert "Expected a clock past" in two(*watch(two)).failed(5)
    assert two("status", "--json").json()["canary"] == {"version": "v3", "percent": 10}


def test_watching_raises_step_by_step_and_promotes(two: Cli, tmp_path: Path) -> None:
    store = tmp_path / "store"
    two("canary", "start", "v3", "--percent", "10").well()
    assert "v3 at 10 %" in two(*watch(two)).well()  # too early, and nothing was counted
    then = since_a_while(store, 5)
    two(*watch(two)).well()
    assert two("status", "--json").json()["canary"]["percent"] == 10  # still nothing was counted
    rows = {("v1", "production"): row(400), ("v3", "canary"): row(40)}
    put(store, rows, then + timedelta(minutes=2))
    assert "v3 is the canary for 50 % of the callers now" in two(*watch(two)).well()
    then = since_a_while(store, 5)
    put(store, rows, then + timedelta(minutes=1))
    assert "next: `admin_cli canary promote`" in " ".join(two(*watch(two)).well().split())
    assert "promoted v3 (before: v1)" in two(*watch(two, "--promote")).well()
    status = two("status", "--json").json()
    assert (status["production"], status["canary"]) == ("v3", None)
    assert "no difference in" in two("history", "--json").json()[0]["reason"]


@pytest.mark.parametrize(
    ("canary", "reason"),
    [
        (row(100, errors=30), "of its requests fail"),
        (row(300, milliseconds=400.0), "its p95 is"),
        (row(300, unknown=150), "of its photos are unknown"),
        (row(300, confidence=0.4), "its mean confidence is"),
    ],
)
def test_a_canary_that_behaves_otherwise_is_aborted_with_its_figures(
    two: Cli, tmp_path: Path, canary: Row, reason: str
):
    two("canary", "start", "v3", "--percent", "10").well()
    then = since_a_while(tmp_path / "store", 3)
    rows = {("v1", "production"): row(1000), ("v3", "canary"): canary}
    put(tmp_path / "store", rows, then + timedelta(minutes=1))
    done = two(*watch(two))
    assert done.code == 5
    assert reason in done.err
    newest = two("history", "--json").json()[0]
    assert newest["action"] == "canary abort"
    assert reason in newest["reason"]
    assert newest["figures"]["requests"] == {"production": 1000, "canary": canary.requests}
    assert any(each["beyond"] for each in newest["figures"]["findings"])
    assert "There is no canary" in two(*watch(two)).failed(3)


def test_a_canary_that_instances_cannot_load_is_aborted(two: Cli, tmp_path: Path) -> None:
    two("canary", "start", "v3").well()
    then = since_a_while(tmp_path / "store", 3)
    put(tmp_path / "store", {("v1", "production"): row(10)}, then + timedelta(minutes=1), {"v3 memory": 4})
    done = two(*watch(two))
    assert done.code == 5
    assert "instances could not load it: memory" in done.err


def test_a_good_canary_is_hardly_ever_aborted_however_often_one_looks() -> None:
    import numpy as np

    rng = np.random.default_rng(2)
    aborted = 0
    for _ in range(150):
        production, canary = Row(), Row()
        for look in range(1, 31):
            for side, count in ((production, 90), (canary, 10)):
                for _ in range(count):
                    side.add_request(503 if rng.random() < 0.01 else 200, float(rng.lognormal(3, 0.6)))
                    label = TINY_LABELS[int(rng.integers(4))]
                    side.add_photo(label, float(rng.beta(8, 2)), unknown=rng.random() < 0.05, cached=False)
            if any(each.beyond for each in watching.compare(production, canary, Gate(), look)):
                aborted += 1
                break
    assert aborted / 150 <= 0.03


def test_the_tests_give_the_p_values_of_others() -> None:
    from scipy.stats import chi2, fisher_exact

    for first, second in (((3, 100), (9, 90)), ((0, 50), (4, 20)), ((10, 40), (2, 40))):
        table = [[second[0], second[1] - second[0]], [first[0], first[1] - first[0]]]
        expected = fisher_exact(table, alternative="greater").pvalue
        assert watching.more_often(first, second) == pytest.approx(expected, rel=1e-6)
    for statistic, freedom in ((3.0, 2), (20.0, 5), (60.0, 10)):
        expected = float(chi2.sf(statistic, freedom))
        assert abs(math.log(watching.chi_squared_tail(statistic, freedom) / expected)) < 1
    assert watching.more_often((0, 0), (0, 0)) == 1.0
    assert sum(watching.allowed(look) * watching.TESTS for look in range(1, 100_000)) <= watching.ALPHA


def test_mistakes_are_told(two: Cli) -> None:
    assert "rising percentages" in two("canary", "watch", "--steps", "50,10").failed(2)
    assert "rising percentages" in two("canary", "watch", "--steps", "ten").failed(2)
    assert "such as 30m" in two("status", "--since", "yesterday").failed(2)
    assert "above 0 and up to 100" in two("canary", "start", "v2", "--percent", "0").failed(2)
    assert "no request was counted" in two("status").well()
    assert "http:// or https://" in two("status", "--url", "example.com").failed(2)


def test_status_says_what_does_not_answer_and_folds(two: Cli, tmp_path: Path) -> None:
    said = two("status", "--url", "http://127.0.0.1:9").well()
    assert "serves nothing" in " ".join(said.split())
    old = datetime.now(UTC) - timedelta(hours=3)
    for minute in range(3):
        put(tmp_path / "store", {("v1", "production"): row(5)}, old.replace(minute=minute))
    assert "folded 3 spans into hours" in two("status", "--compact").well()
    assert two("status", "--json").json()["objects"] == 1
    assert two("status", "--json").json()["rows"][0]["requests"] == 15


def test_a_year_of_ten_busy_instances_is_read_from_a_few_objects(two: Cli, tmp_path: Path) -> None:
    """The time that this takes is bench/status.py's to print; here only how much is read."""
    for days in range(3, 60):
        when = datetime.now(UTC) - timedelta(days=days)
        for hour in (1, 2):
            put(tmp_path / "store", {("v1", "production"): row(3)}, when.replace(hour=hour, minute=1))
    two("status", "--compact").well()
    status = two("status", "--since", "52w", "--json").json()
    assert status["rows"][0]["requests"] == 57 * 2 * 3
    assert status["objects"] <= 60


def test_a_watch_says_what_it_waits_for(two: Cli, tmp_path: Path) -> None:
    two("canary", "start", "v2", "--percent", "5").well()
    said = " ".join(two("canary", "watch", "--once", "--for", "2h").well().split())
    assert re.search(r"v2 stays at 5 % until \d\d:\d\d UTC \((119|120) min more\) and for 30 more requests", said)
    assert said.endswith("once both have 30, also compared: latency, unknown photos, confidence, labels")
    put(tmp_path / "store", {("v1", "production"): row(40), ("v2", "canary"): row(40)}, datetime.now(UTC))
    said = " ".join(two("canary", "watch", "--once", "--for", "2h").well().split())
    assert said.endswith("min more)")


def test_an_overlapping_rollout_is_one_state(two: Cli, tmp_path: Path) -> None:
    """Promoting another version leaves the canary; promoting the canary's version ends it."""
    two("canary", "start", "v2", "--percent", "5").well()
    two("promote", "v3").well()
    assert Registry(LocalStore(tmp_path / "store"), MODEL).channels().canary.version == "v2"
    refused = two("canary", "promote")
    assert refused.code == 5  # the gate: nothing tells whether v2 is as good
    assert two("canary", "promote", "--force", "--reason", "known").well().startswith("promoted v2 (before: v3)")
    assert Registry(LocalStore(tmp_path / "store"), MODEL).channels().canary is None
