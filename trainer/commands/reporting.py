"""`trainer report`: a page of figures and pictures, and the model card."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.commands.options import EXPORT, RunArgument
from trainer.commands.screen import console, load_keras

if TYPE_CHECKING:
    from trainer.run.folder import RunFolder

ReportOption = Annotated[
    bool,
    typer.Option(
        help="Publish a report with the bundle, photos included; see trainer report --help.", rich_help_panel=EXPORT
    ),
]


def report(
    run: RunArgument,
    layers: Annotated[
        str, typer.Option(help="Backbone layers to look into, such as block_3_add,out_relu. Default: three.")
    ] = "",
    ood: Annotated[
        list[str] | None,
        typer.Option(
            "--ood",
            "--strangers",
            metavar="[NAME=]FOLDER",
            help="Photos of other things, to compare with. Several folders: near=FOLDER far=FOLDER.",
        ),
    ] = None,
    photos: Annotated[bool, typer.Option(help="Show photos of the data set; --no-photos for private ones.")] = True,
    data_licence: Annotated[str | None, typer.Option(help="Terms of the photos, for the model card.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write there instead, and leave the bundle as it is.")] = None,
) -> None:
    """Write a run's report and model card.

    They are report.html and model_card.md, with their figures and tables, and are published with the run's bundle.

    Example: trainer report runs/food --ood photos/other
    """
    from trainer.data.ood_photos import named_folders
    from trainer.run.locks import only_one
    from trainer.run.starting import open_run

    folders = named_folders(ood or []) or None
    folder, _ = open_run(run)
    with nullcontext() if out else only_one(run, folder.config):
        load_keras()
        from trainer.report.making import ReportOptions, make_report

        names = tuple(name.strip() for name in layers.split(",") if name.strip())
        page = make_report(run, console(), ReportOptions(names, folders, photos, data_licence, out))
    typer.echo(f"report in {page}" + ("" if out else "; its files are in the bundle too"))


def write_report(run: RunFolder, ood: Path | None) -> None:
    """Write the report of a new bundle, with the options of the run's last one, and say where it is."""
    from dataclasses import replace

    from trainer.data.ood_photos import UNNAMED
    from trainer.report.making import make_report, remembered
    from trainer.run.folder import remove_report

    # It tells of the former file.
    remove_report(run)
    page = make_report(run.path, console(), replace(remembered(run), ood={UNNAMED: ood} if ood else None))
    console().print(f"report in {page}", highlight=False, markup=False, soft_wrap=True)


def tell_of_former_report(run: RunFolder) -> None:
    """Say that a report that was there before a new bundle was made is there still."""
    page = run.report / "report.html"
    if page.is_file():
        console().print(
            f"{page} tells of the bundle before this one; `trainer report {quote(str(run.path))}` makes it anew",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
