"""How the commands print: text and tables that fit the terminal, JSON that programs can read."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from shlex import quote
from typing import Any

import typer

NARROWEST = 80
"""Columns that a table always has; a narrower terminal breaks its lines."""
WRAPS_FROM = 17
"""A column whose widest cell has fewer characters keeps its width; the others share what is left."""
NOTHING = "-"
_HINT = re.compile(r"`(admin_cli [^`]*?)( --help)?`")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def print_json(value: Any) -> None:
    """Print indented JSON."""
    typer.echo(json_text(value))


def json_text(value: Any) -> str:
    """Return indented JSON in which what a terminal would obey is escaped; it is YAML too."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # JSON escapes what is below a space, and nothing else that a terminal obeys.
    return "\n".join(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", line) for line in text.split("\n"))


def printable(text: str) -> str:
    """Return a text in which what a terminal would obey is written out: names and reasons come from other people."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def with_options(text: str) -> str:
    """Return a text whose `admin_cli …` commands name the model and the store that this command line names."""
    typed = [f" {name} {quote(value)}" for name in ("--model", "--store") if (value := _typed(name))]
    return _HINT.sub(lambda found: found[0] if found[2] else f"`{found[1]}{''.join(typed)}`", text)


def _typed(option: str) -> str | None:
    """Return the value of an option of the command line; None where it has none."""
    arguments = sys.argv[1:]
    for number, argument in enumerate(arguments):
        if argument == option and number + 1 < len(arguments):
            return arguments[number + 1]
        if argument.startswith(f"{option}="):
            return argument.removeprefix(f"{option}=")
    return None


def print_text(text: str) -> None:
    """Print a sentence; what is longer than a line breaks at spaces only, so that a path stays whole."""
    typer.echo(textwrap.fill(printable(with_options(text)), _width(), break_long_words=False, break_on_hyphens=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print a table whose long cells wrap; nothing is cut short.

    Args:
        columns: the headers; "" for all makes a table without a line of headers.
        rows: the cells.
        right: the columns that are flush right.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    rows = [[printable(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for index, column in enumerate(columns):
        widest = max(map(cell_len, [column, *(row[index] for row in rows)]))
        table.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            width=widest if widest < WRAPS_FROM and index < len(columns) - 1 else None,
        )
    for row in rows:
        table.add_row(*row)
    console = Console(width=_width(), highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    # Rich fills every cell with spaces, the last one too.
    typer.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_rows(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = (), notes: Sequence[str] = ()
) -> None:
    """Print a table whose lines break between words alone: the end of what is too long goes on, indented, below.

    Args:
        columns: the headers.
        rows: the cells.
        right: the columns that are flush right.
        notes: a text for each row that stands below it; "" for none.
    """
    from rich.cells import cell_len

    table = [[printable(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(map(cell_len, cells)) for cells in zip(*table, strict=True)]
    for number, row in enumerate(table):
        padded = [
            " " * (width - cell_len(cell)) + cell if column in right else cell + " " * (width - cell_len(cell))
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        line = "  ".join(padded).rstrip()
        if not number:
            typer.secho(line, bold=True)
            continue
        wrapped = [line] if cell_len(line) <= _width() else _wrapped(line, "", "    ")
        if notes and notes[number - 1]:
            wrapped += _wrapped(printable(notes[number - 1]), "    ", "    ")
        typer.echo("\n".join(wrapped))


def _wrapped(text: str, first: str, others: str) -> list[str]:
    """Break a text between words, without touching the blanks inside its lines."""
    return textwrap.wrap(
        text,
        _width(),
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
        replace_whitespace=False,
    )


def sparkline(values: Sequence[float]) -> str:
    """Return a bar for each value, relative to the largest; in ASCII where the output has no blocks."""
    blocks = "▁▂▃▄▅▆▇█"
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        blocks.encode(encoding)
    except UnicodeEncodeError:
        blocks = "_.-=+*#@"
    highest = max(values, default=0)
    return "".join(
        " " if not value else blocks[min(len(blocks) - 1, int(value / highest * len(blocks)))] for value in values
    )


def day(time: str) -> str:
    """Return the date of an RFC 3339 time."""
    return time[:10]


def minute(time: str) -> str:
    """Return the date and minute of an RFC 3339 time."""
    return time[:16].replace("T", " ")


def percent(share: Any) -> str:
    """Return a share as a percentage; `NOTHING` for what is no number."""
    return figure(share, ".1%")


def megabytes(size: Any) -> str:
    """Return a number of bytes in megabytes; `NOTHING` for what is no number."""
    return figure(size / 1e6 if isinstance(size, int) else size, ".1f")


def figure(value: Any, form: str) -> str:
    """Return a number in this format; `NOTHING` for what is no number."""
    return format(value, form) if isinstance(value, int | float) else NOTHING


def _width() -> int:
    """Return the terminal's columns, or 80 in a pipe; COLUMNS goes before both."""
    return max(shutil.get_terminal_size().columns, NARROWEST)
