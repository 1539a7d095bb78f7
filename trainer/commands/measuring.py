"""`trainer evaluate`: the figures of a run's served file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from trainer.commands.options import CsvOption, RunArgument
from trainer.commands.screen import console, print_figures


def evaluate(
    run: RunArgument,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    dataset: Annotated[str | None, typer.Option(help="Evaluate on another data set; with --data-dir.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Its folder.")] = None,
    csv: CsvOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the JSON and CSV tables.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure a run's served file on photos: top-1, top-5, log-loss, precision, recall, F1, confusion matrix.

    Example: trainer evaluate runs/food --split validation --out tables
    """
    from trainer.evaluating import evaluate_run

    evaluation = evaluate_run(
        run, split, dataset=dataset, data_dir=data_dir, csv=csv, out=out, console=console(err=as_json)
    )
    if as_json:
        typer.echo(json.dumps(evaluation.figures(), indent=2))
    else:
        print_figures({split: evaluation.figures()})
