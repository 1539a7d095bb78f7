"""The command import: a model that was made elsewhere becomes a bundle, and a version where that is asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from admin_cli.options import DEFAULT_MODEL, DEFAULT_STORE, ModelOption, StoreOption, WhoOption, name_of, open_registry
from admin_cli.output import print_text
from admin_cli.recipe import RUNS
from admin_cli.replay import replay
from admin_cli.training_program import run_trainer
from classifier.errors import NotFound


def import_model(
    file: Annotated[Path, typer.Argument(help=".tflite, .keras, .h5, a SavedModel, or a folder that holds one.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="A label a line, in the order of the outputs. Default: in the file's metadata, or beside it.",
        ),
    ] = None,
    photos: Annotated[
        str | None,
        typer.Option(
            "--photos", help="Photos with a folder for each label: the scaling is checked, the model measured."
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What the network is called. Default: the file's name.")] = "",
    scaling: Annotated[
        str | None,
        typer.Option(
            "--scaling",
            help="How it wants pixels: 0..1, -1..1, 0..255, torch, caffe, bgr-0..255, pixels or mean:std. Default: as "
            "the file says, or as --photos show.",
        ),
    ] = None,
    size: Annotated[
        str, typer.Option("--size", metavar="WIDTHxHEIGHT", help="Of images, where the file takes any.")
    ] = "",
    resize: Annotated[
        str,
        typer.Option(
            "--resize", help="How photos get there: stretch or crop. Default: stretch; Teachable Machine: crop."
        ),
    ] = "",
    outputs: Annotated[
        str, typer.Option("--outputs", help="What it gives: probabilities or logits. Default: by its graph.")
    ] = "",
    notice: Annotated[str | None, typer.Option("--notice", help="What whoever uses the model should know.")] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write a report with photos, where --photos are given.")
    ] = True,
    run: Annotated[Path | None, typer.Option("--run", help="Folder of the bundle. Default: runs/import-NAME.")] = None,
    publish: Annotated[bool, typer.Option("--publish", help="Publish it as the next version.")] = False,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
) -> None:
    """Make a bundle of a model made elsewhere.

    By Firebase ML, AutoML, Model Maker, Teachable Machine or Keras. It starts `trainer import`, which reads the
    file, executes nothing of it but its arithmetic, and says what it found: labels, scaling, and whether it can
    explain by Grad-CAM. With --publish the bundle becomes the next version; it serves nobody until it is promoted.

    Example: admin_cli import model.tflite --labels labels.txt --photos photos/test --publish
    """
    if not file.exists():
        raise NotFound(f"Expected a model at {file}; there is none.")
    called = name or re.sub(r"[^A-Za-z0-9._-]+", "-", file.absolute().name.partition(".")[0]).strip("-.") or "model"
    folder = run or RUNS / f"import-{called}"
    given = {
        "--labels": labels, "--photos": photos, "--scaling": scaling, "--size": size, "--resize": resize,
        "--outputs": outputs, "--notice": notice,
    }  # fmt: skip
    command = ["import", str(file), "--name", called, "--run", str(folder)]
    command += [f"{option}={value}" for option, value in given.items() if value]
    command += [] if report else ["--no-report"]
    run_trainer(command, {})
    if publish:
        manifest = open_registry(store, model).publish(folder / "bundle", who=name_of(who), replay=replay)
        print_text(f"published {manifest.version}; next: `admin_cli promote {manifest.version}`")
