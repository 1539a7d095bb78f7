"""What the command lines say of arguments that they cannot use, in the words of all other messages."""

from __future__ import annotations

import re
from typing import Any

from classifier.wording import did_you_mean

_CHOICES = re.compile(r" is not one of (.+?)\.?$")
_KINDS = {"int_parsing": "a whole number", "int_from_float": "a whole number", "float_parsing": "a number"}
_LIMITS = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le")}


def usage_line(error: Any, program: str) -> str:
    """Return a line for an error of Typer's: what was expected, what came, and whose help explains.

    Args:
        error: a `TyperException`. What pydantic, which reads the values for Typer, says of them is put into words.
        program: whose help explains where the error names no command.
    """
    context = getattr(error, "ctx", None)
    said = _expected(error) or _unknown_option(error) or error.format_message().rstrip(".")
    return (
        f"{said}{'' if said.endswith('?') else '.'} `{context.command_path if context else program} --help` explains."
    )


def _unknown_option(error: Any) -> str | None:
    """Return what is said of an option that there is not, with those that may be meant; None for any other error."""
    name, command = getattr(error, "option_name", None), getattr(getattr(error, "ctx", None), "command", None)
    if name is None or command is None or not hasattr(error, "possibilities"):
        return None
    known = [option for each in command.params for option in each.opts if option.startswith("--")]
    return f"{error.message}.{did_you_mean(name, known)}".removesuffix(".")


def _expected(error: Any) -> str | None:
    """Return what was expected of a value; None where pydantic found nothing wrong with one."""
    found = getattr(error.__cause__, "errors", None)
    parameter = getattr(error, "param", None)
    if found is None or parameter is None:
        return None
    problem = found()[0]
    limits = problem.get("ctx", {})
    hint = ""
    if choices := _CHOICES.search(problem["msg"]):
        wanted = "one of " + choices[1].replace("'", "")
        hint = did_you_mean(str(problem["input"]), re.split(r", | or ", choices[1].replace("'", "")))
    elif problem["type"] in _KINDS:
        wanted = _KINDS[problem["type"]]
    elif problem["type"] in _LIMITS:
        words, name = _LIMITS[problem["type"]]
        wanted = f"{words} {limits[name]:.10g}"
    else:
        return None
    name = next((each for each in parameter.opts if each.startswith("--")), parameter.opts[0])
    return f"Expected {name} to be {wanted}; received {problem['input']!r}{f'.{hint}' if hint else ''}"
