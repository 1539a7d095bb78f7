"""What the command line prints for people: help for everything, and tables that fit 80 columns with nothing cut."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer

from admin_cli.main import app
from classifier.registry.rules import Registry
from classifier.storage.local import LocalStore
from tests.support.bundles import TINY_LABELS, replay_bytes, write_bundle
from tests.support.commands import PROGRAM, Cli, cli_fixture, environment_of, photo_fixture  # noqa: F401  # fixtures

COMMANDS = [
    "import", "retrain", "publish", "list", "show", "verify", "compare", "promote", "rollback", "history", "predict",
    "status", "doctor",
    "models", "pull", "open", "prune",
    "label", "relabel-diff", "gate show", "gate set", "canary start", "canary promote", "canary abort", "canary watch",
    "shadow start", "shadow report", "shadow stop",
    "feedback list", "feedback show", "feedback accept", "feedback reject", "feedback export", "feedback forget",
]  # fmt: skip
COLUMNS = 80
LABELS = tuple(f"{number:03}_a_label_that_goes_on_for_{'very_' * (number % 15)}long" for number in range(101))
REASON = "It calls soups salads, " + "and salads soups, " * 20 + "https://example.com/" + "a-long-path/" * 12
METRICS = {"photos": 25_250, "top_1": 0.8123, "top_5": 1.0, "log_loss": 10.123456, "f1": 0.8123}
VARIANT = {
    "top_1": 0.8, "agreement": 1.0, "heatmap_correlation": 0.99, "latency_ms": 1234.5, "bytes": 123_456_789,
    "memory_bytes": 234_567_890,
}  # fmt: skip
REALISTIC: dict[str, Any] = {
    "variant": "int8-dynamic",
    "variants": {
        **dict.fromkeys(["float32", "float16"], VARIANT),
        "int8-dynamic": VARIANT | {"overridden": True},
        "int8": {"failed": "a training photo is missing"},
    },
    "metrics": {"validation": METRICS, "test": METRICS, "unknown": {"accepted": 0.95}, "heatmap_error": 3e-06},
    "training": {
        "network": {"architecture": "inception_v3"},
        "best_epoch": {"phase": "fine-tuning", "epoch": 17},
    },
    "data": {
        "dataset": "food-101",
        "photos": {"train": 68175, "validation": 7575, "test": 25250},
        "fingerprint": "f" * 64,
    },
    "tools": {"python": "3.11.7", "keras": "3.15.1", "tensorflow-cpu": "2.21.0", "ai-edge-litert": "2.3.0"},
    "parent_version": "v1",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten versions with 101 long labels, as of real runs, many changes with long reasons, and one unfinished."""
    folder = tmp_path_factory.mktemp("long")
    bundle = write_bundle(folder / "bundle", {"model.tflite": bytes(1000)}, labels=LABELS, golden=(), **REALISTIC)
    registry = Registry(LocalStore(folder / "store"), "food")
    for number in range(1, 11):
        who = "alice" if number % 2 else "a.rather.long.name@a-rather-long-domain.example.com"
        registry.publish(bundle, who=who, replay=replay_bytes)
        registry.promote(f"v{number}", who=who, reason=REASON, replay=replay_bytes)
    versions = folder / "store/food/versions"
    (versions / "v5/model.tflite").unlink()
    (versions / "v8/manifest.json").unlink()
    return folder / "store"


def fits(printed: str) -> bool:
    """Whether no line is too long, and nothing was cut short to make it so."""
    return max(map(len, printed.splitlines())) <= COLUMNS and "…" not in printed and "..." not in printed


def without_breaks(text: str) -> str:
    return "".join(text.split())


def test_every_command_and_option_has_help() -> None:
    group = typer.main.get_command(app)
    assert group.help
    commands = {}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert command.help
        commands |= {f"{name} {each}": inner for each, inner in getattr(command, "commands", {}).items()} or {
            name: command
        }
    assert list(commands) == COMMANDS
    for name, command in commands.items():
        *described, example = command.help.split("\n\n")
        assert all(described)
        words = shlex.split(example.removeprefix("Example: admin_cli "))
        arguments = words[len(name.split()) :]
        assert words[: -len(arguments) or None] == name.split()
        command.make_context(name, arguments)  # raises on what the command would not take
        for parameter in command.params:
            assert parameter.help, f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("command", ["", "gate", "canary", "shadow", "feedback", *COMMANDS])
def test_help_fits(cli: Cli, command: str) -> None:
    printed = cli(*command.split(), "--help").well()
    assert fits(printed.replace("[ARGS]...", "").replace("}...", ""))
    if command in COMMANDS:
        assert f"  Example: admin_cli {command}" in printed
    else:
        assert ("Exit codes" in printed) == (not command)


def test_no_arguments_are_a_call_for_help(cli: Cli) -> None:
    assert cli().well() == cli("--help").well()


@pytest.mark.parametrize("columns", [{}, {"COLUMNS": "80"}, {"COLUMNS": "40"}])
def test_reading_commands_fit_with_long_content(cli: Cli, store: Path, columns: dict[str, str]) -> None:
    def ask(*arguments: str) -> str:
        printed = cli(*arguments, MODEL_STORE=store, **columns).well()
        assert fits(printed), printed
        return printed

    listed = ask("list", "--all")
    assert "\n* v10    2026-01-31  inception_v3  int8-dynamic     101  81.2%  0.0\n    " in listed
    assert without_breaks(
        "v8       claimed by a.rather.long.name@a-rather-long-domain.example.com at "
    ) in without_breaks(listed)
    shown = ask("show", "v7")
    assert without_breaks(f"labels101: {', '.join(LABELS)}") in without_breaks(shown)
    assert "best epoch   17 (phase fine-tuning)\n" in shown
    assert "data         food-101: train 68,175, validation 7,575, test 25,250\n" in shown
    assert "test            25,250  81.2%  100.0%    10.123  0.812\n" in shown
    assert "\nunknown " not in shown
    assert "* int8-dynamic  80.0%     100.0%     0.990  1234.5  123.5         234.6\n" in shown
    assert "\nint8-dynamic was asked for by name; it was not chosen for its figures\n" in shown
    assert "\nint8 could not be made: a training photo is missing\n" in shown
    assert ask("history").count("promote  ") == 10


def test_a_long_reason_is_there_word_by_word(cli: Cli, tiny_bundle: Path) -> None:
    cli("publish", tiny_bundle, "--again").well()
    cli("promote", "v1", "--reason", REASON).well()
    printed = cli("history").well()
    assert fits(printed)
    assert without_breaks(printed).endswith(without_breaks(REASON))
    assert re.search(r"\n\d{4}-\d\d-\d\d \d\d:\d\d  promote  -     v1  kim\n    It calls", printed)


def test_nothing_reaches_the_terminal_that_it_would_obey(cli: Cli, tiny_bundle: Path) -> None:
    who, reason = "\x1b]0;pwn\x07kim", "one\ntwo\x9b2J\u202e"
    cli("publish", tiny_bundle, "--who", who).well()
    cli("promote", "v1", "--who", who, "--reason", reason).well()
    shown = [cli("history").well(), cli("show").well(), cli("list").well(), cli("show", "v\x1b[2J").failed(3)]
    for printed in shown:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", printed)
    assert r"\x1b]0;pwn\x07kim" in without_breaks(shown[0])
    assert r"one\ntwo\x9b2J\u202e" in without_breaks(shown[0])
    found = cli("history", "--json")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", found.out)
    assert (found.json()[0]["who"], found.json()[0]["reason"]) == (who, reason)


def test_a_prediction_with_long_labels_fits(cli: Cli, tiny_bundle: Path, photo: Path) -> None:
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    renamed = {label: f"{label}_{'rather_' * 20}long" for label in TINY_LABELS}
    manifest["labels"] = list(renamed.values())
    for case in manifest["golden"]:
        case["label"] = renamed[case["label"]]
    (tiny_bundle / "manifest.json").write_text(json.dumps(manifest))
    cli("publish", tiny_bundle, "--again").well()
    cli("promote", "v1").well()
    table, said = cli("predict", photo).well().split("\n\n")
    assert fits(table)
    assert table.splitlines()[0].endswith(" confidence")
    assert re.search(r" (9\d\.\d|100\.0)%$", table.splitlines()[1])
    for label in renamed.values():
        assert label[70:] in without_breaks(table)
    # A name without spaces stays whole in the text.
    assert said == f"{renamed['red']},\nsays v1 of food\n"


def test_a_long_name_of_a_file_fits(cli: Cli, tiny_bundle: Path) -> None:
    name = "report/" + "a_long_name_" * 10 + ".csv"
    (tiny_bundle / name).write_bytes(bytes(1_234_567))
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(bytes(1_234_567)).hexdigest(), "bytes": 1_234_567}
    (tiny_bundle / "manifest.json").write_text(json.dumps(manifest))
    cli("publish", tiny_bundle, "--again").well()
    printed = cli("verify", "v1").well()
    assert fits(printed)
    assert "1,234,567  " + manifest["files"][name]["sha256"][:16] in printed


@pytest.mark.parametrize("columns", [80, 200])
def test_in_a_terminal(store: Path, columns: int) -> None:
    """A terminal has bold headers, and its own width."""
    for command in (["--help"], ["list", "--all"], ["show"], ["history"]):
        plain, styled = in_a_terminal(command, store, columns)
        lines = plain.splitlines()
        assert max(map(len, lines)) <= columns
        assert (max(map(len, lines)) > 80) == (columns > 80 and command != ["--help"])
        assert ("\x1b[1m" in styled) == (command != ["--help"])


def in_a_terminal(arguments: list[str], store: Path, columns: int) -> tuple[str, str]:
    """Run the command line in a terminal of that width; return what it printed, without and with styles."""
    environment = environment_of(MODEL_STORE=store, TERM="xterm-256color")
    environment.pop("NO_COLOR", None)
    ours, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    printed = b""
    # Linux ends the reading with an error when the other end is closed.
    with suppress(OSError):
        while block := os.read(ours, 65536):
            printed += block
    os.close(ours)
    assert process.wait(60) == 0
    styled = printed.decode().replace("\r\n", "\n")
    return re.sub(r"\x1b\[[0-9;]*m", "", styled), styled
