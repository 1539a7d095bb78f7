"""What both command lines say of a value that an option cannot have: in the project's words, whatever Typer's are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer
from typer.exceptions import TyperException

from admin_cli.main import app as admin_cli
from classifier.usage import usage_line
from trainer.main import app as trainer

PROGRAMS = {"admin_cli": typer.main.get_command(admin_cli), "trainer": typer.main.get_command(trainer)}


def _options(command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _options(inner, (*path, name))
    if not hasattr(command, "commands"):
        yield from ((path, parameter) for parameter in command.params if parameter.opts[0].startswith("-"))


def _said(program: str, path: tuple[str, ...], *arguments: str) -> str:
    with pytest.raises(TyperException) as raised:
        PROGRAMS[program].main([*path, *arguments], prog_name=program, standalone_mode=False)
    return usage_line(raised.value, program)


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_option_lets_pydantic_speak(program):
    seen = {"one of": 0, "a whole number": 0, "a number": 0}
    for path, option in _options(PROGRAMS[program], ()):
        if getattr(option, "is_flag", False):
            continue
        name = next(each for each in option.opts if each.startswith("--"))
        try:
            said = _said(program, path, name, "no such value")
        except BaseException:  # any text will do, and something else is wrong  # noqa: BLE001
            continue
        assert "Input should" not in said and "Value error" not in said, said
        for kind in seen:
            if said.startswith(f"Expected {name} to be {kind}"):
                assert "; received 'no such value'. `" in said and said.endswith("--help` explains."), said
                seen[kind] += 1
    assert seen["one of"] and seen["a whole number"], seen
    assert seen["a number"] or program == "admin_cli", seen


@pytest.mark.parametrize(
    ("program", "arguments", "expected"),
    [
        (
            "trainer",
            ("export", "runs/a", "--format", "tflite"),
            "Expected --format to be one of litert, saved-model, onnx, coreml; received 'tflite'. "
            "Did you mean litert? `trainer export --help` explains.",
        ),
        (
            "trainer",
            ("samples", "a", "--seed", "-1"),
            "Expected --seed to be at least 0; received '-1'. `trainer samples",
        ),
        (
            "trainer",
            ("export", "a", "--tolerance", "2"),
            "Expected --tolerance to be at most 1; received '2'. `trainer exp",
        ),
        (
            "trainer",
            ("samples", "a", "--seed", "x"),
            "Expected --seed to be a whole number; received 'x'. `trainer sample",
        ),
        (
            "admin_cli",
            ("retrain", "--on", "moon"),
            "Expected --on to be one of here, vertex; received 'moon'. `admin_cli r",
        ),
        (
            "admin_cli",
            ("canary", "start", "v1", "--percent", "x"),
            "Expected --percent to be a number; received 'x'. `adm",
        ),
        (
            "trainer",
            ("train", "--epochs", "3"),
            "No such option: --epochs. Did you mean --head-epochs, --fine-tune-epochs or --full-size-epochs?",
        ),
        ("trainer", ("foo",), "No such command 'foo'. `trainer --help` explains."),
    ],
)
def test_a_value_that_cannot_be_used_is_told_with_what_can(program, arguments, expected):
    assert _said(program, (), *arguments).startswith(expected)
