"""Writes what the documents repeat of the code: docs/cli.md, and the README's table of settings (`make docs`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

from admin_cli.main import app as admin_cli
from classifier.settings import declarations
from trainer.main import app as trainer

ROOT = Path(__file__).resolve().parent.parent
TARGET, README = ROOT / "docs" / "cli.md", ROOT / "README.md"
SETTINGS_HEAD = "| variable | meaning | default |\n| --- | --- | --- |\n"
HEAD = """# The command lines

Every command of `admin_cli` and `trainer` with its options, as `--help` has them. This page is generated (`make docs`).
[training.md](training.md) and the [README](../README.md) say what they are for.
"""


def reference() -> str:
    """Return the page."""
    parts = [HEAD]
    for name, app in (("admin_cli", admin_cli), ("trainer", trainer)):
        parts.append(f"## {name}\n\n{_paragraphs(app.info.help or '')}\n")
        for command, what in sorted(typer.main.get_command(app).commands.items()):  # type: ignore[attr-defined]
            if inner := getattr(what, "commands", None):
                parts.append(f"### {name} {command}\n\n{_paragraphs(what.help or '')}\n")
                parts += [_command(f"{name} {command} {each}", inner[each]) for each in sorted(inner)]
            else:
                parts.append(_command(f"{name} {command}", what))
    return "\n".join(parts)


def with_settings(text: str) -> str:
    """Return the README with its table of settings as they are declared."""
    rows = "".join(
        f"| `{each.variable}` | {each.meaning} | {_default(each.unset)}|\n" for each in declarations().values()
    )
    return re.sub(re.escape(SETTINGS_HEAD) + r"(\|.*\n)*", lambda _: SETTINGS_HEAD + rows, text)


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        value = ",".join(value)
    if value == "":
        return ""
    return f"`{value}` " if isinstance(value, str) else f"{value:g} " if isinstance(value, float) else f"{int(value)} "


def _command(name: str, command: Any) -> str:
    shown = [each for each in command.params if not getattr(each, "hidden", False)]
    arguments = [each for each in shown if each.param_type_name == "argument"]
    names = [_names(each) if each.required else f"[{_names(each)}]" for each in arguments]
    usage = " ".join([name, *names])
    rows = [f"| `{_names(each)}` | {_cell(each.help or '')} |" for each in shown]
    table = "\n".join(["| | |", "| --- | --- |", *rows]) + "\n" if rows else ""
    return f"### {usage}\n\n{_paragraphs(command.help or '')}\n\n{table}"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {parameter.name.upper()}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "\\<")


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n|\f", text.strip()) if part.strip())


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
    README.write_text(with_settings(README.read_text(encoding="utf-8")), encoding="utf-8")
