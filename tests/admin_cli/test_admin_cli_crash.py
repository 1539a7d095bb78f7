"""Every command of `admin_cli` that changes something, killed at any moment: before or after, and it goes on."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# What the killed program would import is here already: each of its many runs is a fork.
import ai_edge_litert.interpreter  # noqa: F401
import pytest
import typer.main

import admin_cli.main
import classifier.photo.preprocessing
import classifier.serving.golden  # noqa: F401
from admin_cli import retrain
from classifier.errors import Corrupt, NotFound, Refused
from classifier.registry.bundle import read_bundle
from classifier.storage.names import LOCK_FILE, TEMPORARY_FOLDER
from tests.support.commands import Cli, cli_fixture  # noqa: F401  # fixture
from tests.support.kill_cases import GREEN, PHOTOS, SAID, enter, make_place, plain, with_canary, with_counts
from tests.support.killpoints import Everywhere, killing

COMMANDS = typer.main.get_command(admin_cli.main.app)
"""Built once: that takes longer than most commands."""
NO_CANARY, NO_SHADOW = "There is no canary", "There is no shadow"


class Case(NamedTuple):
    """A command."""

    arguments: str
    place: str = "plain"
    """Where it is run: see `places`."""
    code: int = 0
    done: str = ""
    """What it says where it has nothing to do any more, with another exit code; "" where it ends as before."""
    several: bool = False
    """Whether it changes several things, one after the other: each is as before or as after."""


A, B = SAID["a"].id, SAID["b"].id
CASES = {
    "promote": Case("promote v5 --reason new"),
    "rollback": Case("rollback --reason old", done="there is none"),
    "canary start": Case("canary start v5 --percent 25"),
    "canary percent": Case("canary start v5 --percent 50", "canary"),
    "canary promote": Case("canary promote --reason good", "canary", done=NO_CANARY),
    "canary abort": Case("canary abort --reason slow", "canary", done=NO_CANARY),
    "watch raises": Case("canary watch --once --for 1m --steps 10,50", "canary"),
    "watch promotes": Case("canary watch --once --for 1m --steps 5,10 --promote", "canary", done=NO_CANARY),
    "watch aborts": Case("canary watch --once --for 1m", "bad canary", 5, NO_CANARY),
    "shadow start": Case("shadow start v5 --sample 0.5"),
    "shadow change": Case("shadow start v5 --sample 0.5 --keep-photos", "shadow"),
    "shadow stop": Case("shadow stop", "shadow", done=NO_SHADOW),
    "shadow to canary": Case("canary start v5", "shadow"),
    "gate set": Case("gate set top_1_drop=0.02 class-drop=0.3 --reason more"),
    "accept": Case(f"feedback accept {A} {B} --label green --reason seen", several=True),
    "reject": Case(f"feedback reject {A} --reason no", "decided"),
    "forget one": Case(f"feedback forget {A}", "decided", done="Expected the id of a correction"),
    "forget a photo": Case(f"feedback forget {GREEN}", "decided", done="Expected the SHA-256", several=True),
    "export": Case("feedback export out", "exported"),
    "retrain": Case("retrain --data-dir photos --feedback --run runs/new --canary 10", "decided", several=True),
    "retrain and promote": Case(
        "retrain --data-dir photos --run runs/new --promote", done="No photo and no label has changed", several=True
    ),
    "prune": Case("prune --keep 1 --reason room", several=True),
    "compact": Case("status --compact", "counted"),
    "pull": Case("pull v5 --out pulled"),
    "pull over another": Case("pull v5 --out pulled", "pulled"),
    "open": Case("open v5 --out opened"),
}
LONG = ("retrain", "retrain and promote")
"""Have many steps: with the tests that take long."""


def program() -> None:
    """The program that is killed: the command line, in a copy of a place."""
    enter(Path(os.environ["MODEL_STORE"]))
    admin_cli.main.app = COMMANDS
    admin_cli.main.main()


@pytest.fixture(name="everywhere", scope="module")
def everywhere_fixture() -> Iterator[Everywhere]:
    with killing(f"{__name__}:program") as everywhere:
        yield everywhere


@pytest.fixture(name="cli")
def quick_cli_fixture(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setattr(admin_cli.main, "app", COMMANDS)
    return cli


@pytest.fixture(name="origin", scope="module")
def origin_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the places are kept of which tests take copies."""
    return tmp_path_factory.mktemp("places")


@pytest.fixture(name="place")
def place_fixture(request: pytest.FixtureRequest, cli: Cli, origin: Path, tiny_bundle_original: Path) -> Path:
    """The place that a case is run in."""
    name = CASES[request.getfixturevalue("name")].place if "name" in request.fixturenames else "plain"
    if not (origin / "plain").is_dir():
        make_place(cli, tiny_bundle_original, origin / "plain")
    if not (origin / name).is_dir():
        shutil.copytree(origin / "plain", origin / name)
        prepare(name, cli, origin / name)
    return origin / name


def prepare(name: str, cli: Cli, place: Path) -> None:
    def do(*arguments: str | Path) -> None:
        cli(*arguments, MODEL_STORE=place / "store").well()

    if name == "counted":
        with_counts(place)
    elif name == "canary":
        with_canary(cli, place)
    elif name == "bad canary":
        with_canary(cli, place, errors=50)
    elif name == "shadow":
        do("shadow", "start", "v5")
    elif name == "pulled":
        do("pull", "v1", "--out", place / "pulled")
    else:
        do("feedback", "accept", A, "--reason", "right")
        if name == "exported":
            do("feedback", "export", place / "out")
        do("feedback", "accept", B, "--label", "green")


class Reader:
    """Asks every reading command what a place is like; places with the same content once."""

    def __init__(self, cli: Cli) -> None:
        self._cli = cli
        self._known: dict[str, dict[str, Any]] = {}

    def __call__(self, place: Path) -> dict[str, Any]:
        """Return everything that can be told apart, by its name; all that is stored has to agree."""
        key = content_of(place)
        if key not in self._known:
            self._known[key] = {**self._of_store(place), **of_folders(place)}
        return self._known[key]

    def _of_store(self, place: Path) -> dict[str, Any]:
        def ask(*arguments: str) -> Any:
            return self._cli(*arguments, "--json", MODEL_STORE=place / "store").json()

        listed = ask("list")
        assert all(each["complete"] and each["problem"] is None for each in listed)
        status = ask("status", "--since", "9w")
        serving = [each["version"] for each in listed if each["production"]]
        assert serving == [status["production"]]
        history = ask("history", "--all")[::-1]
        pruned = {each["to"] for each in history if each["action"] == "prune"}
        assert pruned.isdisjoint(each["version"] for each in listed)
        assert not {each["verdict"] for each in ask("doctor")} & {"wrong"}
        for version in {serving[0], listed[-1]["version"]}:
            assert ask("verify", version)["golden_cases"] == 1
        # A number that was taken in vain is left out, and the next one is published: count what is there.
        names = {each["version"]: f"version {number}" for number, each in enumerate(listed, 1 + len(pruned))}
        seen: dict[str, Any] = {each["version"]: True for each in listed}
        for number, entry in enumerate(history):
            facts = {name: entry.get(name) for name in ("action", "from", "to", "who", "percent", "sample")}
            seen[f"history {number}"] = {**facts, "reason": re.sub(r"\d+", "#", entry["reason"])}
        seen |= {name: status[name] for name in ("production", "canary", "shadow")}
        seen["requests"] = [[row["version"], row["channel"], row["requests"]] for row in status["rows"]]
        seen["gate"] = ask("gate", "show")
        for each in ask("feedback", "list", "--status", "all"):
            decision = each["decision"] and {name: each["decision"][name] for name in ("verdict", "label", "reason")}
            seen[f"correction {each['id']}"] = [each["label"], each["status"], decision]
        return {names.get(name, name): plain(value, names) for name, value in seen.items()}


def content_of(place: Path) -> str:
    """What can be read of a place, but for what writers keep to themselves."""
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*")):
        if path.is_file() and not {TEMPORARY_FOLDER, LOCK_FILE} & set(path.relative_to(place).parts):
            digest.update(f"{path.relative_to(place)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def of_folders(place: Path) -> dict[str, Any]:
    """What commands wrote beside the store: a table of corrections, a version, a report."""
    seen: dict[str, Any] = {}
    table = place / "out/corrections.csv"
    if table.exists():
        with table.open() as file:
            rows = list(csv.DictReader(file))
        assert all((place / "out" / row["image_path"]).read_bytes() in PHOTOS.values() for row in rows)
        seen["table"] = sorted(row["label"] for row in rows)
    if (place / "pulled").exists():
        try:
            seen["pulled"] = read_bundle(place / "pulled").version
        except NotFound:
            pass  # no bundle
        except (Corrupt, Refused):
            seen["pulled"] = "v1"  # nor that of before any more; nobody takes it for one
    report = place / "opened/report/report.html"
    if report.exists():
        seen["report"] = report.read_text()
    return seen


def expect_before_or_after(seen: list[dict[str, Any]], *, several: bool) -> None:
    """Every state is that of before or that of after; of several things, each is."""
    before, after = seen[0], seen[-1]
    for state in seen:
        if not several:
            assert state in (before, after), differences(before, state)
            continue
        for name in state.keys() | before.keys() | after.keys():
            assert state.get(name) in (before.get(name), after.get(name)), (name, state.get(name))


def differences(before: dict[str, Any], state: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = sorted(before.keys() | state.keys())
    return {each: (before.get(each), state.get(each)) for each in names if before.get(each) != state.get(each)}


@pytest.mark.parametrize(
    ("name", "visible"),
    [
        *(pytest.param(name, True, id=name, marks=pytest.mark.long if name in LONG else ()) for name in CASES),
        *(pytest.param(name, False, id=f"{name}, at every step", marks=pytest.mark.long) for name in CASES),
    ],
)
def test_a_command_killed_at_any_moment_leaves_before_or_after_and_goes_on(
    cli: Cli,
    everywhere: Everywhere,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    visible: bool,
) -> None:
    case = CASES[name]
    arguments = case.arguments.split()
    read = Reader(cli)
    left = everywhere(place, tmp_path / "killed", *arguments, visible=visible, code=case.code)
    seen = [read(each) for each in (place, *left)]
    expect_before_or_after(seen, several=case.several)
    assert (seen[0] == seen[-1]) == (name == "compact")  # which changes no figure
    assert content_of(place) != content_of(left[-1])
    again: dict[str, dict[str, Any]] = {}
    for each in left:
        if (key := content_of(each)) in again:
            continue
        monkeypatch.chdir(each)
        monkeypatch.setenv("PATH", str(each / "bin"))
        monkeypatch.setattr(retrain, "trainer", (each / "bin/trainer").__str__)
        done = cli(*arguments, MODEL_STORE=each / "store")
        assert done.code == case.code or (case.done and case.done in done.err + done.out), done
        again[key] = read(each)
        assert again[key] == seen[-1], (each, done)


@pytest.mark.parametrize("visible", [True, pytest.param(False, id="at every step", marks=pytest.mark.long)])
def test_whatever_a_killed_publisher_left_the_next_one_goes_past_it(
    cli: Cli, everywhere: Everywhere, place: Path, tmp_path: Path, visible: bool
) -> None:
    read = Reader(cli)
    left = everywhere(place, tmp_path / "killed", "publish", "new", visible=visible)
    seen = [read(each) for each in (place, *left)]
    expect_before_or_after(seen, several=False)
    unfinished = [each for each, state in zip(left, seen[1:], strict=True) if state == seen[0]]
    assert len(unfinished) >= 4  # between the claim, three files and the manifest
    assert cli("publish", place / "new", MODEL_STORE=unfinished[-1] / "store").well() == "published v7\n"
    listed = cli("list", "--all", "--json", MODEL_STORE=unfinished[-1] / "store").json()
    assert [(each["version"], each["complete"]) for each in listed[-2:]] == [("v6", False), ("v7", True)]
