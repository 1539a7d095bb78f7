"""`trainer runs`: runs beside each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.commands.screen import console

if TYPE_CHECKING:
    from trainer.report.runs import RunSummary

HEAD = ("run", "network", "px", "data", "top-1 (95 %)", "ece", "time", "ms", "file")


def runs(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs, such as runs/*; others are passed over.")],
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with the table and the learning curves.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Compare runs: networks, photos, accuracy, calibration, time, and the file that is served.

    Figures are those of the test photos, with the 95 % interval of top-1, the best run first. Runs with the same letter
    under data have the same photos in the same splits.

    Example: trainer runs runs/* --html runs.html
    """
    from trainer.report.runs import read_runs

    found, others = read_runs(folders)
    if html is not None:
        from trainer.report.runs_page import write_page

        write_page(found, html)
    if as_json:
        typer.echo(json.dumps([each.to_json() for each in found], indent=2, ensure_ascii=False))
    else:
        _print(found)
    if others:
        console(err=True).print(f"passed over, no runs: {', '.join(others)}", highlight=False, markup=False)
    if html is not None:
        console(err=as_json).print(f"wrote {html}", highlight=False, markup=False)


def _print(found: list[RunSummary]) -> None:
    from rich.cells import cell_len

    from trainer.report.runs import data_letters, data_lines

    letters = data_letters(found)
    rows = [(each.name, *_cells(each, letters)) for each in found]
    lines = _lines([HEAD, *rows])
    if max(map(cell_len, lines)) > console().width:  # the names get lines of their own, so that no cell is broken
        lines = _lines([HEAD[1:], *(row[1:] for row in rows)], indent=2)
        lines = [lines[0], *(line for row, figures in zip(rows, lines[1:], strict=True) for line in (row[0], figures))]
    console().print(lines[0], style="bold", highlight=False, markup=False, soft_wrap=True)
    for line in (*lines[1:], *data_lines(found)):
        console().print(line, highlight=False, markup=False, soft_wrap=True)
    for each in found:
        if each.problem:
            console().print(f"{each.name} {each.state}: {each.problem}", highlight=False, markup=False)


def _cells(run: RunSummary, letters: dict[str, str]) -> tuple[str, ...]:
    top = ""
    if run.top_1 is not None and run.top_1_low is not None and run.top_1_high is not None:
        top = f"{run.top_1:.1%} ({100 * run.top_1_low:.0f}-{100 * run.top_1_high:.0f})"
    return (
        run.architecture, str(run.image_size or ""), letters.get(str(run.data), ""), top,
        "" if run.ece is None else f"{run.ece:.1%}", _duration(run.seconds),
        "" if run.latency_ms is None else f"{run.latency_ms:.1f}", run.variant or run.state,
    )  # fmt: skip


def _lines(rows: Sequence[tuple[str, ...]], indent: int = 0) -> list[str]:
    """Return rows as lines with columns under each other; names are flush left, figures flush right."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
    left = [column in ("run", "network", "file") for column in rows[0]]
    return [
        " " * indent
        + "  ".join(
            cell + " " * (width - cell_len(cell)) if flush else " " * (width - cell_len(cell)) + cell
            for cell, width, flush in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in rows
    ]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
