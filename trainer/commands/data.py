"""`trainer datasets` and `trainer samples`: where photos come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainer.commands.options import CsvOption
from trainer.commands.screen import console


def datasets(
    dataset: Annotated[str | None, typer.Option(help="Look at one data set; with --data-dir.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Its folder.")] = None,
    csv: CsvOption = None,
) -> None:
    """List the data-set layouts that can be loaded, or check one: its photos a class and split, and the unusable ones.

    Example: trainer datasets --dataset dog-breed --data-dir data/dog-breed
    """
    from rich.table import Table

    from trainer.datasets import LOADERS

    if dataset is not None:
        from trainer.evaluating import describe_dataset

        describe_dataset(dataset, data_dir, csv, console())
        return
    table = Table(box=None, pad_edge=False)
    for column in ("dataset", "layout", "source"):
        table.add_column(column, overflow="fold")
    for loader in LOADERS.values():
        table.add_row(loader.name, loader.layout, loader.source)
    console().print(table)


def samples(
    folder: Annotated[Path, typer.Argument(help="Where to; kept as it is if already complete.")],
    photos_per_class: Annotated[int, typer.Option(help="Training photos a class.", min=3)] = 60,
    test_per_class: Annotated[int, typer.Option(help="Test photos a class.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="The same seed draws the same photos.")] = 7,
) -> None:
    """Draw sample food photos in the Food-101 layout, with each object's bounding box in boxes.csv.

    Example: trainer samples .samples
    """
    from trainer.samples import generate

    boxes = generate(folder, photos_per_class=photos_per_class, test_per_class=test_per_class, seed=seed)
    typer.echo(f"{len(boxes)} sample photos of {boxes['label'].nunique()} classes in {folder}")
