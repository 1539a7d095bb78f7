"""`trainer runs`: runs beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.commands.screen import console

if TYPE_CHECKING:
    from trainer.report.runs import RunSummary


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
    from rich.table import Table

    from trainer.report.runs import data_letters, data_lines

    letters = data_letters(found)
    table = Table(box=None, pad_edge=False)
    for column in ("run", "network"):
        table.add_column(column, overflow="fold")
    for column in ("px", "data", "top-1 (95 %)", "ece", "time"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("file", overflow="fold")
    table.add_column("ms", justify="right")
    for each in found:
        top = ""
        if each.top_1 is not None and each.top_1_low is not None and each.top_1_high is not None:
            top = f"{each.top_1:.1%} ({100 * each.top_1_low:.0f}-{100 * each.top_1_high:.0f})"
        table.add_row(
            each.name, each.architecture, str(each.image_size or ""), letters.get(str(each.data), ""), top,
            "" if each.ece is None else f"{each.ece:.1%}", _duration(each.seconds), each.variant or each.state,
            "" if each.latency_ms is None else f"{each.latency_ms:.1f}",
        )  # fmt: skip
    console().print(table, markup=False, highlight=False)
    for line in data_lines(found):
        console().print(line, highlight=False, markup=False)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
