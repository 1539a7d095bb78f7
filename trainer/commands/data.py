"""`trainer datasets`, `trainer download` and `trainer samples`: where photos come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classifier.errors import InvalidRequest
from classifier.wording import plural
from trainer.commands.options import PhotosOptions, declared_options, given_flags
from trainer.commands.screen import console
from trainer.run.sections import LARGEST_SEED

SHEET = Path("contact_sheet.jpg")


@declared_options
def datasets(
    context: typer.Context,
    data: PhotosOptions,
    look: Annotated[bool, typer.Option("--look", help="Draw a contact sheet: random photos of each class.")] = False,
    photos: Annotated[int, typer.Option(help="Photos of a class on the sheet.", min=1, max=12)] = 6,
    out: Annotated[Path, typer.Option(help="The sheet, a .jpg or .png; many classes take several.")] = SHEET,
) -> None:
    """List the data-set layouts, or check one data set and look at its photos.

    Photos a class and split are counted, and the unusable ones listed. Subsets are taken as `trainer train` takes
    them: first the classes, then the splits, then at most --max-per-class photos of each class in each split.

    Example: trainer datasets --dataset dog-breed --data-dir data/dog-breed --look
    """
    from rich.table import Table

    from trainer.data.loaders import LOADERS

    if data is not None:
        from trainer.evaluation.of_run import describe_dataset

        checked = describe_dataset(data, console())
        if look:
            from trainer.report.contact_sheet import draw_contact_sheet

            for file in draw_contact_sheet(checked, out, photos, data.seed):
                typer.echo(f"wrote {file}")
        return
    if useless := given_flags(context):
        raise InvalidRequest(f"Expected --dataset with {' and '.join(useless)}; received none.")
    table = Table(box=None, pad_edge=False)
    for column in ("dataset", "layout", "source"):
        table.add_column(column, overflow="fold")
    for loader in LOADERS.values():
        table.add_row(loader.name, loader.layout, loader.source)
    console().print(table)


def download(
    dataset: Annotated[str, typer.Argument(help="food-101 or dog-breed.")],
    folder: Annotated[Path, typer.Argument(help="Where to; kept as it is if already complete.")],
    url: Annotated[str | None, typer.Option(help="A mirror of the official archive (food-101).")] = None,
) -> None:
    """Download an official data set.

    It is verified and unpacked; an interrupted download goes on when the command is run again. Dog Breed comes through
    Kaggle's own command line, `kaggle`, with your account.

    Example: trainer download food-101 data/food-101
    """
    from trainer.download.datasets import download as get

    new = get(dataset, folder, console(), url=url)
    typer.echo(f"{dataset} {'is in' if new else 'was already in'} {folder}")


def samples(
    folder: Annotated[Path, typer.Argument(help="Where to; kept as it is if already complete.")],
    photos_per_class: Annotated[int, typer.Option(help="Training photos a class.", min=3)] = 60,
    test_per_class: Annotated[int, typer.Option(help="Test photos a class.", min=1)] = 20,
    size: Annotated[int, typer.Option(help="Side in pixels.", min=48, max=2048)] = 256,
    seed: Annotated[int, typer.Option(help="The same seed draws the same photos.", min=0, max=LARGEST_SEED)] = 7,
) -> None:
    """Draw sample food photos.

    They lie in the Food-101 layout, with each object's bounding box in boxes.csv.

    Example: trainer samples .samples
    """
    from trainer.samples.dataset import generate

    boxes = generate(folder, photos_per_class=photos_per_class, test_per_class=test_per_class, size=size, seed=seed)
    typer.echo(f"{plural(len(boxes), 'sample photo')} of {plural(boxes['label'].nunique(), 'class')} in {folder}")
