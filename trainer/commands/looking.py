"""`trainer network` and `trainer explain`: what a network is made of, and what it does with a photo of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classifier.wording import plural
from trainer.commands.options import declared_options
from trainer.commands.screen import console, load_keras
from trainer.run.sections import NetworkConfig

if TYPE_CHECKING:
    from trainer.report.explaining import Explanation

WORST = 3
"""Layers that are named with their dead filters; filters.csv has all."""
EXPLAINED = Path("explained")


@declared_options
def network(
    config: NetworkConfig,
    classes: Annotated[int, typer.Option("--labels", help="How many labels it is to tell apart.", min=1)] = 10,
    run: Annotated[
        Path | None, typer.Option("--run", help="Show that of a run instead, as its config.json says.")
    ] = None,
) -> None:
    """List a network's layers, their names and sizes.

    The last column is the smallest --fine-tune-layers by which a layer is trained; the head always is. The names are
    those for --backbone-layer and for --layers of `trainer report` and `trainer explain`. Nothing is downloaded.

    Example: trainer network --architecture mobilenet_v2 --hidden 256
    """
    if run is not None:
        config, classes = _of_run(run, config, classes)
    load_keras()
    from trainer.networks.description import describe

    rows = describe(config, classes)
    lines = [("layer", "kind", "output", "weights", "fine-tune")]
    for row in rows:
        size = " x ".join(map(str, row.shape))
        lines.append((row.name, row.kind, size, f"{row.weights:,}", "" if row.depth is None else str(row.depth)))
    # Not a table of rich, which would cut the names that are to be copied.
    name, kind, *numbers = (max(map(len, column)) for column in zip(*lines, strict=True))
    for line in lines:
        right = "  ".join(f"{text:>{width}}" for text, width in zip(line[2:], numbers, strict=True))
        typer.echo(f"{line[0]:<{name}}  {line[1]:<{kind}}  {right}".rstrip())
    typer.echo(f"{len(rows)} layers, {sum(row.weights for row in rows):,} weights")


def explain(
    photos: Annotated[list[Path], typer.Argument(help="Photos of your own.")],
    run: Annotated[Path, typer.Option("--run", help="Folder of a run.")],
    layers: Annotated[
        str, typer.Option(help="Backbone layers to look into, such as block_3_add,out_relu. Default: three.")
    ] = "",
    label: Annotated[str | None, typer.Option(help="Explain this label. Default: each photo's most probable.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = EXPLAINED,
) -> None:
    """Show what a run's network sees in photos of your own.

    For each photo its label by the served file, the triptych (photo, Grad-CAM, both) and the activations of some
    layers; then the patterns that filters answer to, and how many filters are dead: those that answer the same at every
    place of your photos and of up to 64 validation photos of the run. filters.csv lists them layer by layer.

    Example: trainer explain lunch.jpg --run runs/food
    """
    load_keras()
    from trainer.report.explaining import explain as explain_photos

    names = tuple(name.strip() for name in layers.split(",") if name.strip())
    found = explain_photos(run, photos, out, console(), layers=names, label=label)
    for each in found.photos:
        said = ", ".join(f"{name} {confidence:.1%}" for name, confidence in each.ranked)
        typer.echo(f"{each.path}: {said}" + ("" if each.known else "; unknown: like nothing that it was trained on"))
        typer.echo(f"  why {each.label}: {each.files[0]}; layers: {each.files[1]}")
    typer.echo(
        f"filter patterns: {found.patterns}" if found.patterns else "filter patterns need KERAS_BACKEND=tensorflow"
    )
    _print_filters(found)


def _of_run(run: Path, asked: NetworkConfig, classes: int) -> tuple[NetworkConfig, int]:
    """Return a run's network and how many labels it has.

    Raises:
        InvalidRequest: an option of a network was given too.
    """
    from classifier.errors import InvalidRequest
    from trainer.run.files import read_json
    from trainer.run.starting import open_run

    if asked != NetworkConfig():
        raise InvalidRequest("Expected --run alone: the run says which network it is. Leave the other options out.")
    folder, config = open_run(run)
    return config.network, read_json(folder.summary)["classes"] if folder.summary.is_file() else classes


def _print_filters(found: Explanation) -> None:
    total, dead = sum(each.count for each in found.filters), sum(len(each.dead) for each in found.filters)
    silent = sum(each.silent for each in found.filters)
    typer.echo(
        f"{total:,} filters in {len(found.filters)} layers: {silent:,} silent on {found.photos[0].path.name}, {dead:,} "
        f"dead on all of {plural(len(found.photos) + found.compared, 'photo')} ({found.compared} of the run); "
        f"{found.table}"
    )
    worst = sorted((each for each in found.filters if each.dead), key=lambda each: -len(each.dead) / each.count)
    for each in worst[:WORST]:
        typer.echo(f"  {each.layer}: {len(each.dead)} of {each.count} dead")
