"""`trainer import`: a bundle of a model that was made elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from classifier.errors import InvalidRequest
from classifier.wording import plural
from trainer.commands.screen import console, load_keras, print_figures, publishing

SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def import_model(
    file: Annotated[Path, typer.Argument(help=".tflite, .keras, .h5, a SavedModel, or a folder that holds one.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="A label a line, in the order of the outputs. Default: in the file's metadata, or beside it."
        ),
    ] = None,
    photos: Annotated[
        str | None,
        typer.Option(help="Photos with a folder for each label: the scaling is checked, the model measured."),
    ] = None,
    name: Annotated[str, typer.Option(help="What the network is called. Default: the file's name.")] = "",
    scaling: Annotated[
        str | None,
        typer.Option(
            help="How it wants pixels: 0..1, -1..1, 0..255, torch, caffe, bgr-0..255, pixels or mean:std, such as "
            "127.5:127.5. Default: as the file says, or as --photos show."
        ),
    ] = None,
    size: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="Of images, where the file takes any.")] = "",
    resize: Annotated[
        str, typer.Option(help="How photos get there: stretch or crop. Default: stretch; Teachable Machine: crop.")
    ] = "",
    outputs: Annotated[
        str, typer.Option(help="What it gives: probabilities or logits. Default: by its graph.")
    ] = "auto",
    notice: Annotated[str | None, typer.Option(help="What whoever uses the model should know.")] = None,
    report: Annotated[bool, typer.Option(help="Write a report with photos, where --photos are given.")] = True,
    run: Annotated[Path | None, typer.Option("--run", help="Folder. Default: runs/import-NAME.")] = None,
) -> None:
    """Make a bundle of a model that was made elsewhere.

    It becomes a LiteRT file that takes pixels and gives probabilities and, where it ends in features, pooling and dense
    layers, Grad-CAM. Nothing of the file is executed but its arithmetic. With --photos its probabilities are
    calibrated, and golden cases, figures and a report are made.

    Example: trainer import model.tflite --labels labels.txt --photos photos/test
    """
    from typing import get_args

    from classifier.registry.manifest import RESIZE_RULES
    from trainer.run.folder import RunFolder
    from trainer.run.locks import only_one

    load_keras()
    from trainer.importing.bundle import MARKER, Request
    from trainer.importing.bundle import import_model as make
    from trainer.importing.model import Outputs, Told

    rule = next((each for each in RESIZE_RULES if each == resize), None)
    if resize and rule is None:
        raise InvalidRequest(f"Expected --resize to be one of {', '.join(RESIZE_RULES)}; received {resize!r}.")
    kind = next((each for each in get_args(Outputs) if each == outputs), None)
    if kind is None:
        raise InvalidRequest(f"Expected --outputs to be one of {', '.join(get_args(Outputs))}; received {outputs!r}.")
    sides = SIZE.fullmatch(size)
    if size and sides is None:
        raise InvalidRequest(f"Expected --size WIDTHxHEIGHT such as 224x224; received {size!r}.")
    called = name or re.sub(r"[^A-Za-z0-9._-]+", "-", file.absolute().name.partition(".")[0]).strip("-.") or "model"
    if not NAME.fullmatch(called):
        raise InvalidRequest(f"Expected --name of letters, digits, dots, dashes and underscores; received {called!r}.")
    told = Told(labels, scaling, (int(sides[1]), int(sides[2])) if sides else None, rule, kind)
    folder = RunFolder(run or Path("runs") / f"import-{called}")
    with only_one(folder.path, folder.path / MARKER):
        made = make(Request(file, told, called, photos, notice), folder, console())
        for note in made.foreign.notes:
            typer.echo(f"note: {note}")
        imported = made.manifest.training["imported"]
        by = made.foreign.scaling_from or "--photos"
        typer.echo(f"scaling {imported['scaling']['name']}, by {by}; {plural(len(made.manifest.labels), 'label')}")
        if made.manifest.no_gradcam:
            typer.echo(
                f"it cannot explain by Grad-CAM: {made.manifest.no_gradcam}; gradcam=occlusion explains it, at 64 more "
                "forward passes"
            )
        if made.labelled is None:
            typer.echo("not measured: --photos FOLDER calibrates it, and makes golden cases, figures and a report")
        else:
            print_figures({split: each.figures() for split, each in made.evaluations.items()})
            if report and photos:
                from trainer.importing.report import write_report

                typer.echo(f"report in {write_report(made, folder, photos, console())}")
    typer.echo(f"bundle of the {made.manifest.variant} model in {folder.bundle}; {publishing(folder.path)}")
