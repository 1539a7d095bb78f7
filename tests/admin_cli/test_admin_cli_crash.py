"""Every command of `admin_cli` that changes something, killed at any moment: before or after, and it goes on."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import admin_cli.main
from admin_cli import training_program
from classifier.errors import Corrupt, NotFound, Refused
from classifier.registry.bundle import read_bundle
from classifier.storage.names import LOCK_FILE, TEMPORARY_FOLDER
from tests.support.commands import Cli, cli_fixture  # noqa: F401  # fixture
from tests.support.kill_cases import CASES, PHOTOS, PUBLISH, READING, make_place, plain, prepare
from tests.support.killed_program import COMMANDS
from tests.support.killpoints import Everywhere, killing

LONG = ("retrain", "retrain and promote")
"""Have many steps: with the tests that take long."""
STRIDES = {"compact": 6, "prune": 6, "retrain": 6, "retrain and promote": 6}
"""Of those with hundreds of steps every sixth, beside all that are visible; of all others each."""


def every_command(command: Any, before: str = "") -> Iterator[str]:
    """Yield the commands of a program, such as "canary start"."""
    for name, each in command.commands.items():
        if hasattr(each, "commands"):
            yield from every_command(each, f"{name} ")
        else:
            yield f"{before}{name}"


def test_every_command_that_writes_is_killed_here() -> None:
    """A new command is either killed, or told to change nothing that a crash could spoil."""
    words = [case.arguments.split() for case in (*CASES.values(), PUBLISH)]
    killed = {" ".join(each[:2]) for each in words} | {each[0] for each in words}
    every = set(every_command(COMMANDS))
    assert every - killed == set(READING), "list it in CASES or in READING of tests/support/kill_cases.py"
    assert all(reason for reason in READING.values())


@pytest.fixture(name="everywhere", scope="module")
def everywhere_fixture() -> Iterator[Everywhere]:
    with killing("tests.support.killed_program:program") as everywhere:
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
        *(pytest.param(name, False, id=f"{name}, step by step", marks=pytest.mark.long) for name in CASES),
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
    stride = 1 if visible else STRIDES.get(name, 1)
    left = everywhere(place, tmp_path / "killed", *arguments, visible=visible, code=case.code, stride=stride)
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
        monkeypatch.setattr(training_program, "trainer", (each / "bin/trainer").__str__)
        done = cli(*arguments, MODEL_STORE=each / "store")
        assert done.code == case.code or (case.done and case.done in done.err + done.out), done
        again[key] = read(each)
        assert again[key] == seen[-1], (each, done)


@pytest.mark.parametrize("visible", [True, pytest.param(False, id="at every step", marks=pytest.mark.long)])
def test_whatever_a_killed_publisher_left_the_next_one_goes_past_it(
    cli: Cli, everywhere: Everywhere, place: Path, tmp_path: Path, visible: bool
) -> None:
    read = Reader(cli)
    left = everywhere(place, tmp_path / "killed", *PUBLISH.arguments.split(), visible=visible)
    seen = [read(each) for each in (place, *left)]
    expect_before_or_after(seen, several=False)
    unfinished = [each for each, state in zip(left, seen[1:], strict=True) if state == seen[0]]
    assert len(unfinished) >= 4  # between the claim, three files and the manifest
    assert cli("publish", place / "new", MODEL_STORE=unfinished[-1] / "store").well() == "published v7\n"
    listed = cli("list", "--all", "--json", MODEL_STORE=unfinished[-1] / "store").json()
    assert [(each["version"], each["complete"]) for each in listed[-2:]] == [("v6", False), ("v7", True)]
