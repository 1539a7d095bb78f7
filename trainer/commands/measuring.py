"""`trainer evaluate`: the figures of a run's served file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from trainer.commands.options import RunArgument, of
from trainer.commands.screen import console, print_figures, print_ood, print_views


def evaluate(
    run: RunArgument,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    dataset: Annotated[str | None, typer.Option(help="Evaluate on another data set; with --data-dir.")] = None,
    data_dir: Annotated[str | None, of("data_dir")] = None,
    csv: Annotated[Path | None, of("csv")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the JSON and CSV tables.")] = None,
    ood: Annotated[
        list[str] | None,
        typer.Option(
            "--ood",
            "--strangers",
            metavar="[NAME=]FOLDER",
            help="Photos of something else: how many are accepted as known? Several folders: near=FOLDER far=FOLDER.",
        ),
    ] = None,
    views: Annotated[
        bool, typer.Option("--views", help="Measure the gain and cost of each `tta`, on up to 500 of the photos.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure a run's served file on photos.

    The figures are top-1, top-5, log-loss, precision, recall, F1 and the confusion matrix. The column "top-1 tta"
    averages each photo with its mirror image (test-time augmentation). Photos of nearly the right thing are harder to
    tell than others: give each kind a name, --ood near=FOLDER --ood far=FOLDER.

    Example: trainer evaluate runs/food --split validation --out tables
    """
    from trainer.data.ood_photos import named_folders
    from trainer.evaluation.of_run import evaluate_run
    from trainer.evaluation.ood import measure_ood, near_of_export
    from trainer.run.folder import RunFolder

    folders = named_folders(ood or [])
    evaluation = evaluate_run(
        run, split, dataset=dataset, data_dir=data_dir, csv=csv, out=out, console=console(err=as_json), views=views
    )
    told = measure_ood(RunFolder(run), evaluation, folders, console(err=as_json)) if folders else None
    if as_json:
        more = ({"ood": told["ood"] if list(told) == ["ood"] else told} if told else {}) | (
            {"views": evaluation.views} if evaluation.views else {}
        )
        typer.echo(json.dumps(evaluation.figures() | more, indent=2))
        return
    print_figures({split: evaluation.figures()})
    if evaluation.views:
        print_views(evaluation.views)
    if told:
        print_ood(told, split, near_of_export(RunFolder(run)))
