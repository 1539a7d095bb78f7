"""The shadow over a real function: nobody is answered by it, what it says is reported, photos are kept by consent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.commands import Cli, cli_fixture  # noqa: F401  # fixture
from tests.support.serving import MODEL, Serving, serve


@pytest.fixture(name="two")
def two_fixture(cli: Cli, tiny_bundle: Path, confused_bundle: Path) -> Cli:
    """v1 serves and is right; v2 takes green for blue."""
    for bundle in (tiny_bundle, confused_bundle):
        cli("publish", bundle, "--again").well()
    cli("promote", "v1").well()
    return cli


@pytest.fixture(name="function")
def function_fixture(two: Cli, tmp_path: Path) -> Iterator[Serving]:
    with serve(tmp_path / "store", tmp_path / "serving", POINTER_TTL="0.1", STATS_EVERY="0.3") as serving:
        yield serving


def ask(function: Serving, label: str, seed: int, **options) -> dict:
    photo = colour_photo(label, seed=seed)
    reply = function.post(params=options, data=photo, headers={"Content-Type": "image/png"})
    assert reply.status_code == 200, reply.text
    assert reply.json()["model"]["version"] == "v1"
    assert reply.json()["label"] == label
    return reply.json()


def test_a_shadow_is_reported_keeps_photos_by_consent_and_ends(two: Cli, function: Serving, tmp_path: Path) -> None:
    said = two("shadow", "start", "v2", "--sample", "1", "--keep-photos").well()
    assert " ".join(said.split()).startswith(
        "v2 is the shadow, for 100 % of the photos; photos on which they disagree are kept"
    )
    assert "nothing was changed" in two("shadow", "start", "v2", "--sample", "1", "--keep-photos").well()
    assert "v2 is the canary" in two("canary", "start", "v2").well()
    assert "an instance holds two models" in two("shadow", "start", "v2").failed(4)
    two("canary", "abort").well()
    two("shadow", "start", "v2", "--sample", "1", "--keep-photos").well()

    end, seed = time.monotonic() + 20, 0

    def report() -> dict:
        return two("shadow", "report", "--json").json()

    while time.monotonic() < end:
        for label in TINY_LABELS:
            ask(function, label, seed, consent="1" if label == "green" else "0")
            time.sleep(0.05)
        seed += 1
        versions = report()["versions"]
        if versions and versions[0]["photos"] >= 8:
            break
    (row,) = report()["versions"]
    assert row["version"] == "v2"
    assert row["photos"] == row["agreed"] + row["disagreed"] >= 8
    assert row["failed"] == 0
    assert [(each["production"], each["shadow"]) for each in row["disagreements"]] == [("green", "blue")]
    assert row["disagreements"][0]["photos"] == row["disagreed"] > 0
    assert 0 < row["ms"] < 1000 > row["production_ms"] > 0
    shown = two("shadow", "report").well()
    assert "v2 is the shadow for 100 % of the photos" in shown
    assert "green" in shown
    assert max(map(len, shown.splitlines())) <= 80
    status = two("status").well()
    assert "shadow v2 of 100 %" in status
    assert "v2, the shadow:" in status
    assert max(map(len, status.splitlines())) <= 80
    rows = two("feedback", "list", "--json").json()
    assert rows
    assert {each["label"] for each in rows} == {None}
    assert {(each["seen"]["label"], each["shadow"]["label"]) for each in rows} == {("green", "blue")}
    listed = two("feedback", "list").well()
    assert "shadow disagrees" in " ".join(listed.split())
    assert "blue?" in listed
    identity = rows[0]["id"][:8]
    assert "nobody said what it shows" in two("feedback", "accept", identity).failed(2)
    assert two("feedback", "show", identity, "--html", tmp_path / "page.html").well().count("shadow said") == 1
    assert (tmp_path / "page.html").read_text().count("<img") == 3
    assert two("feedback", "accept", identity, "--label", "green").well() == f"accepted {identity}: green\n"
    exported = two("feedback", "export", tmp_path / "corrections").well()
    assert exported.startswith("1 photo and")
    assert "v2, the shadow: " in two("status").well()
    assert two("shadow", "stop", "--reason", "seen enough").well() == "v2 is no longer the shadow\n"
    assert "the shadow: " not in two("status").well()  # which tells what runs; `shadow report` tells what was
    assert two("shadow", "stop").failed(3)
    assert "there is no shadow" in two("shadow", "report").well()
    assert [each["action"] for each in two("history", "--json").json()[:2]] == ["shadow stop", "shadow start"]
    # Nobody got another version by that.
    (stopped,) = [line.split() for line in two("history").well().splitlines() if "shadow stop" in line][:1]
    assert stopped[2:6] == ["shadow", "stop", "v2", "-"]
    assert "shadow stop v2 to -, by kim" in " ".join(two("status").well().split())


def test_a_share_may_be_a_percentage_and_every_model_is_listed_with_its_shadow(two: Cli) -> None:
    assert "for 10 % of the photos" in two("shadow", "start", "v2").well()
    assert "for 25 % of the photos" in two("shadow", "start", "v2", "--percent", "25").well()
    assert two("models", "--json").json()[0]["shadow"] == "v2"
    assert two("models").well().splitlines()[1].split() == [MODEL, "v1", "-", "v2", "v2", "2"]
    assert "received both" in two("shadow", "start", "v2", "--percent", "25", "--sample", "0.1").failed(2)
    assert "percentage" in two("shadow", "start", "v2", "--percent", "0").failed(2)
