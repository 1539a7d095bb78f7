"""Every command line of the README and docs/: run, or read by the real command line and run elsewhere, or listed.

Nothing is passed over: a program, command or Make target that these tables do not know fails a test. What `admin_cli`
and `curl` are told is done here on a store with nine versions and a real server; a command in a sentence may leave out
what has to be given, and is then only held against the options that exist.
"""

from __future__ import annotations

import argparse
import base64
import importlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import webbrowser
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests
import typer
from typer.exceptions import TyperException

from admin_cli.main import app as admin_cli
from bench import written
from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.local import LocalStore
from classifier.traffic.corrections import Correction, Decision, Seen
from classifier.traffic.feedback import Feedback
from tests.admin_cli.test_compare import with_predictions
from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.commands import call
from tests.support.documented import Command, commands, commands_of
from tests.support.processes import FUNCTIONS, ROOT
from tests.support.serving import MODEL, Serving, closed_port, photo_bytes, serve
from trainer.commands.options import read_config
from trainer.main import app as trainer
from trainer.run.config import TrainingConfig

APPS = {"admin_cli": typer.main.get_command(admin_cli), "trainer": typer.main.get_command(trainer)}
BIN = Path(sys.executable).parent

CLOUD = {
    "gcloud": "asks or changes a cloud project",
    "firebase": "asks or changes a Firebase project",
    "terraform": "changes a cloud project; tests/project/test_terraform.py reads its files",
    "docker": "needs an engine; tests/project/test_container.py and test_dockerfile.py read what it is given",
    "git": "changes a checkout",
    "pipx": "installs",
    "pre-commit": "installs a hook; tests/project/test_development.py reads the hooks",
}
"""Programs that are not run here, each with the reason."""
SHELL = ("export", "source", "ln", "echo", "printf", "cat", "cd", "sleep", "id", "grep", "bash")
"""What belongs to the shell or to every system."""
INSTALLS = ("pip", "npm", "npx")
DOWNLOADS = ("https://storage.googleapis.com/",)
"""What `curl` fetches from others: no test has a network."""

RUN_ELSEWHERE = {
    "admin_cli doctor --as": "tests/admin_cli/test_permissions.py",
    "admin_cli import": "tests/admin_cli/test_importing.py",
    "admin_cli label": "tests/batch/beam_labelling.py",
    "admin_cli relabel-diff": "tests/batch/beam_differences.py",
    "admin_cli retrain": "tests/admin_cli/test_retrain.py",
    "admin_cli retrain --on": "tests/admin_cli/test_vertex.py",
    "trainer audit": "tests/trainer/audit/test_audit_command.py",
    "trainer download": "tests/trainer/download/test_download.py",
    "trainer evaluate": "tests/trainer/report/test_report.py",
    "trainer explain": "tests/trainer/report/test_report.py",
    "trainer export": "tests/trainer/export/test_portable.py",
    "trainer import": "tests/admin_cli/test_importing.py",
    "trainer network": "tests/trainer/test_trainer_cli.py",
    "trainer report": "tests/trainer/report/test_report.py",
    "trainer runs": "tests/trainer/report/test_runs.py",
    "trainer train": "tests/trainer/training/test_training.py",
    "trainer tune": "tests/trainer/search/test_tuning.py",
    "trainer upload": "tests/trainer/data/test_upload.py",
    "trainer architectures": "tests/trainer/commands/test_architectures.py",
    "trainer datasets": "tests/trainer/data/test_folders.py",
}
"""What takes minutes or another machine: its options are read here as the command line does; this test runs it."""
USUAL = ["--dataset", "folder", "--data-dir", "photos"]
"""What an ellipsis stands for."""
INTERRUPTED = 130
"""What ends by Ctrl-C alone ends so."""


def _distinct(program: str) -> list[Command]:
    found: dict[str, Command] = {}
    for each in commands():
        if each.program == program:
            found.setdefault(each.text, each)
    return list(found.values())


def _parametrized(*programs: str) -> Any:
    found = [each for program in programs for each in _distinct(program)]
    assert found, programs
    return pytest.mark.parametrize(
        "command", found, ids=[f"{each.page}:{each.line}:{each.text[:60]}" for each in found]
    )


def test_no_program_is_passed_over() -> None:
    known = {
        *APPS,
        "make",
        "python",
        ".venv/bin/python",
        "curl",
        "functions-framework",
        ".ci/run",
        *CLOUD,
        *SHELL,
        *INSTALLS,
    }
    assert [str(each) for each in commands() if each.program not in known] == []
    assert sum(each.program == "admin_cli" for each in commands()) > 80  # it finds them


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("    A=1 make run B='x y' | tail   # c\n", [("make", "run", "B=x y"), ("tail",)]),
        ("    $ trainer runs \\\n        a\n    make no\n", [("trainer", "runs", "a")]),
        ("    for x in a b; do make $x; done\n    until make y; do sleep 2; done\n",
         [("make", "$x"), ("make", "y"), ("sleep", "2")]),
        ("    cat > f <<END\n    not a command\n    END\n    make z && make w\n",
         [("cat",), ("make", "z"), ("make", "w")]),
        ("Say `make a` and `make`, or\n`trainer\nruns b`.\n", [("make", "a"), ("trainer", "runs", "b")]),
        ("1. so\n\n    ```sh\n    make c\n    ```\n\n```js\nmake d\n```\n", [("make", "c")]),
        ("    a layout\n    of files\n", []),
    ],
)  # fmt: skip
def test_what_is_found_on_a_page(text: str, found: list[tuple[str, ...]]) -> None:
    assert [each.words for each in commands_of("page", text)] == found


def test_a_line_among_commands_that_is_none_is_told() -> None:
    with pytest.raises(AssertionError, match="page:2: 'what is this' begins with no program"):
        list(commands_of("page", "    make x\n    what is this\n"))


# Programs of this project


@_parametrized("make")
def test_make_knows_the_target(command: Command) -> None:
    done = subprocess.run(["make", "-n", *command.words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@_parametrized("python", ".venv/bin/python")
def test_a_benchmark_knows_its_options(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` runs until it has read them: with the parser that it has, not with a copy."""
    first, *arguments = command.words[1:]
    name = arguments.pop(0) if first == "-m" else first.removesuffix(".py").replace("/", ".")
    module = importlib.import_module(name)
    monkeypatch.setattr(sys, "argv", [first, *arguments])

    class Read(Exception):
        pass

    def read(parser: argparse.ArgumentParser, *given: Any, **more: Any) -> argparse.Namespace:
        parse(parser, *given, **more)
        raise Read

    parse = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", read)
    with pytest.raises(Read):
        written.program(module.main)


def test_the_costs_are_printed() -> None:
    command = [sys.executable, "bench/cost.py", "--seconds", "0.2", "--memory", "1"]
    assert "$50.98" in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout


@_parametrized("pip", "npm", "npx")
def test_what_is_installed_is_declared(command: Command) -> None:
    verb, *names = (word for word in command.words[1:] if not word.startswith("-"))
    if command.program == "npx":
        assert verb == "firebase"  # of package.json
    elif command.program == "pip":
        extras = {file.stem.removeprefix("requirements-") for file in ROOT.glob("requirements-*.txt")}
        for name in names:
            told = re.fullmatch(r"\.(?:\[([a-z,]+)\])?", name)
            assert told is None or set((told[1] or "trainer").split(",")) <= extras | {"trainer", "function"}, name
    else:
        assert verb in ("ci", "install")


# Options


def _parse(command: Command) -> Any:
    """Let the command line read it; returns Click's context.

    Raises:
        TyperException: it cannot be read.
    """
    words = list(command.words[1:])
    if "…" in words:
        at = words.index("…")
        words[at : at + 1] = USUAL if words[0] in ("train", "tune") and "--data-dir" not in words else []
    context = APPS[command.program].make_context(command.program, words)
    while hasattr(context.command, "commands"):
        words = [*context._protected_args, *context.args]
        if not words:
            raise typer.BadParameter("Missing command.", ctx=context)
        name, inner, rest = context.command.resolve_command(context, words)
        assert inner is not None and name is not None
        context = inner.make_context(name, list(rest), parent=context)
    return context


def _named(command: Command) -> str:
    """The program and its command's name, such as ``admin_cli canary start``."""
    words, group = [command.program], APPS[command.program]
    for word in command.words[1:]:
        if word not in getattr(group, "commands", {}):
            break
        words.append(word)
        group = group.commands[word]
    return " ".join(words)


def _elsewhere(command: Command) -> str | None:
    """The test that runs it, by the longest entry that fits."""
    fits = [each for each in RUN_ELSEWHERE if _fits(each, command)]
    return RUN_ELSEWHERE[max(fits, key=len)] if fits else None


def _fits(entry: str, command: Command) -> bool:
    named, _, option = entry.partition(" --")
    said = _named(command)
    return (said == named or said.startswith(f"{named} ")) and (not option or f"--{option}" in command.words)


def _complete(command: Command) -> bool:
    """Tell whether nothing is left out: a command in a sentence, or with an ellipsis, may name less than it needs."""
    try:
        _parse(command)
    except TyperException as error:
        assert "Missing" in str(error) or "requires" in str(error), f"{command}: {error}"
        assert command.spoken or "…" in command.words, f"{command}: {error}"
        return False
    return True


@_parametrized("admin_cli", "trainer")
def test_the_command_line_reads_it(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if command.words[1] not in APPS[command.program].commands:
        assert command.spoken and command.words[1] == "COMMAND", str(command)
        return
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "runs/mine", "tunings/mine"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "tunings/mine/best.json").write_text('{"data": {"dataset": "folder", "data_dir": "photos"}}')
    if not _complete(command):
        return
    context = _parse(command)
    if _named(command) in ("trainer train", "trainer tune"):
        sources = {name: context.get_parameter_source(name) for name in context.params}
        given = {name: context.params[name] for name, source in sources.items() if source and source.name != "DEFAULT"}
        try:
            assert isinstance(read_config(context.params["config"], given), TrainingConfig)
        except typer.BadParameter as error:
            assert command.spoken and "--data-dir; received none" in str(error), str(command)


def test_what_runs_elsewhere_is_run_there() -> None:
    for entry, file in RUN_ELSEWHERE.items():
        name = entry.split()[1]
        assert re.search(rf"[\"' ]{name}[\"' ]", (ROOT / file).read_text()), (entry, file)
        assert any(_fits(entry, each) for program in APPS for each in _distinct(program)), f"no page has {entry}"


# admin_cli on a store, and curl to a server


@pytest.fixture(name="world", scope="module")
def world_fixture(tiny_bundle_original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a store of nine versions, of which v7 serves, and what the pages name besides."""
    world = tmp_path_factory.mktemp("world")
    store = LocalStore(world / ".model-store")
    bundle = shutil.copytree(tiny_bundle_original, world / "runs/food/bundle")
    (bundle / "report/report.html").write_text("<!doctype html><title>A report</title>")
    with_predictions(bundle, 0)
    for run in ("new", "sample", "import-flowers"):
        shutil.copytree(bundle, world / f"runs/{run}/bundle")
    for number in range(9):
        _publish(store, bundle, promote=number in (0, 5, 6))
    _publish(store, bundle, "dogs", promote=True)
    for name in ("photo.jpg", "dish.jpg", "apple_pie.jpg", "borzoi.jpg", "chow.jpg"):
        (world / name).write_bytes(photo_bytes())
    (world / "notes.txt").write_text("no photo")
    for label in TINY_LABELS:
        (world / f"photos/{label}").mkdir(parents=True)
        for seed in range(3):
            (world / f"photos/{label}/{seed}.png").write_bytes(colour_photo(label, seed=seed))
    shutil.copytree(world / "photos/red", world / "dog-breed/test")
    return world


def _publish(store: LocalStore, bundle: Path, model: str = MODEL, *, promote: bool = False) -> None:
    registry = Registry(store, model)
    version = registry.publish(bundle, who="kim", replay=golden.replay).version
    if promote:
        assert version is not None
        registry.promote(version, who="kim", reason="", replay=golden.replay)


@cache
def _ids() -> tuple[str, str, str]:
    """The ids of three corrections, which the pages call otherwise."""
    return tuple(each.id for each in _corrections())  # type: ignore[return-value]


def _corrections() -> list[Correction]:
    seen = Seen("v7", "production", "blue", 0.9, "ok")
    return [
        Correction.make("green", request_id=f"r-{number}", photo=colour_photo("green", seed=number), seen=seen)
        for number in range(3)
    ]


def _prepare(folder: Path, command: Command) -> None:
    """Bring the store into the state that the command is about."""
    store = LocalStore(folder / ".model-store")
    options: dict[str, Any] = {"who": "kim", "reason": "", "replay": golden.replay}
    named = _named(command)
    if named in ("admin_cli canary abort", "admin_cli canary watch", "admin_cli canary promote"):
        Registry(store, MODEL).start_canary("v8", 10, **options)
    if named in ("admin_cli shadow report", "admin_cli shadow stop"):
        Registry(store, MODEL).start_shadow("v8", 0.1, **options)
    if named.startswith("admin_cli feedback"):
        desk = Feedback(store, MODEL)
        for number, each in enumerate(_corrections()):
            desk.add(each, colour_photo("green", seed=number))
        if named == "admin_cli feedback export":
            (case, *_) = desk.cases()
            desk.decide(case, Decision("accepted", "kim", "2026-01-31T12:00:00Z"))


def _words(command: Command, url: str) -> list[str]:
    """What is said with what is here: addresses, ids, labels."""
    ids = dict(zip(("6c1f9a3b", "0a41c2", "77e0"), _ids(), strict=True)) | {"ID": _ids()[0], "paella": "red"}
    words = [ids.get(word, word) for word in command.words[1:]]
    return [re.sub(r"https?://[^/\s]+(?:/predict|/api)?/?|^URL$", url, word, count=1) for word in words]


@pytest.fixture(name="server", scope="module")
def server_fixture(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("serving")
    store = shutil.copytree(world / ".model-store", folder / "store")
    with serve(store, folder, MODEL_NAMES="dogs", FEEDBACK_LIMIT="1000/day", RESULT_CACHE_BYTES="1000000") as serving:
        yield serving


RUN_HERE = [each for each in _distinct("admin_cli") if _elsewhere(each) is None and _complete(each)]


@pytest.mark.parametrize("command", RUN_HERE, ids=[f"{each.page}:{each.line}:{each.text[:60]}" for each in RUN_HERE])
def test_admin_cli_does_it(
    command: Command,
    world: Path,
    server: Serving,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(world, tmp_path / "world")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(webbrowser, "open", lambda address: True)
    monkeypatch.setattr(time, "sleep", _interrupt)  # of --watch and `canary watch`, which go on for hours
    _prepare(folder, command)
    words = _words(command, server.url)
    if "--store" in words:
        words[words.index("--store") + 1] = str(folder / ".model-store")
    if "--model" in words and words[words.index("--model") + 1] == "flowers":
        _publish(LocalStore(folder / ".model-store"), folder / "runs/food/bundle", "flowers")
    done = call(capfd, *words, MODEL_STORE=folder / ".model-store", MODEL_NAME=MODEL, POINTER_WHO="kim")
    goes_on = "--watch" in words or (words[:2] == ["canary", "watch"] and "--once" not in words)
    assert done.code == (INTERRUPTED if goes_on else 0), (words, done)
    assert done.out, words


def _interrupt(seconds: float) -> None:
    raise KeyboardInterrupt


@_parametrized("curl")
def test_curl_gets_an_answer(command: Command, world: Path, server: Serving) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    if any(word.startswith(DOWNLOADS) for word in command.words):
        return
    if command.spoken and len(command.words) < 3:
        return  # `curl --data-binary`: the option of which a sentence speaks
    photo = base64.b64encode(photo_bytes()).decode()
    words = [
        word.replace("/9j/4AAQ…", photo).replace("5f2b8c1e…", "5f2b8c1e") for word in _words(command, f"{server.url}/")
    ]
    words = ["@photo.jpg" if word == "@20-megabytes" else word.replace("Beef Tartare", "RED") for word in words]
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "30", "-w", "\n%{http_code}", *words], cwd=world, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *_, status = done.stdout.splitlines()
    assert status == ("201" if "feedback" in command.text else "200"), done.stdout


@_parametrized("functions-framework")
def test_the_framework_serves_it(command: Command, world: Path) -> None:
    port = closed_port()
    words = [str(FUNCTIONS / "main.py") if word == "functions/main.py" else word for word in command.words[1:]]
    environment = {**os.environ, **dict(command.environment), "PORT": str(port), "STATS_EVERY": "0"}
    process = subprocess.Popen(
        [BIN / "functions-framework", *words, "--host", "127.0.0.1"], cwd=world, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 30
        while True:
            try:
                assert requests.get(f"http://127.0.0.1:{port}/model", timeout=10).json()["version"] == "v7"
                break
            except requests.ConnectionError:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.05)
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def test_the_version_of_the_package_is_not_repeated_in_the_pages() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert not [str(each) for each in commands() if f"pointer=={version}" in each.text]
