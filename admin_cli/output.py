"""How the commands print: tables that fit 80 columns, JSON that programs can read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import typer


def print_json(value: Any) -> None:
    """Print indented JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print a table; the columns named in `right` are flush right, text that is too long wraps."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    # A pipe has no width of its own: nothing is cut short for it, and 80 columns are what a table fits anyway.
    console.print(table, width=None if console.is_terminal else max(console.width, 80))


def day(time: str) -> str:
    """Return the date and minute of an RFC 3339 time."""
    return time[:16].replace("T", " ")


def percent(share: Any) -> str:
    """Return a share as a percentage, or a dash."""
    return f"{share:.1%}" if isinstance(share, int | float) else "-"
