"""The command `trainer`: each command parses its options, calls the library and turns its errors into one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from classifier.errors import InvalidSetting, PointerError
from classifier.manifest import Resize

INTERRUPTED = 130
"""What Typer returns after Ctrl-C."""

app = typer.Typer(
    name="trainer",
    help="Train an image classifier on your photos and make a bundle that `admin_cli publish` takes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

RunOption = Annotated[Path, typer.Option("--run", help="Folder of the run; an interrupted run is resumed.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.")]
DatasetOption = Annotated[str, typer.Option(help="food-101, dog-breed, folder or csv.")]
DataDirOption = Annotated[Path, typer.Option(help="Folder of the photos.")]
CsvOption = Annotated[Path | None, typer.Option(help="The table of --dataset csv.")]
ToleranceOption = Annotated[
    float, typer.Option(help="Share of top-1 that the served file may lose against float32.", min=0, max=1)
]


@app.command()
def train(
    dataset: DatasetOption,
    data_dir: DataDirOption,
    run: RunOption,
    csv: CsvOption = None,
    image_column: Annotated[str, typer.Option(help="Column of paths (csv).")] = "image_path",
    label_column: Annotated[str, typer.Option(help="Column of labels (csv).")] = "label",
    split_column: Annotated[str, typer.Option(help="Column of splits, if there is one (csv).")] = "split",
    validation_share: Annotated[float, typer.Option(help="Held back from training.", min=0.01, max=0.5)] = 0.1,
    test_share: Annotated[
        float, typer.Option(help="Held out for the figures where the data has no test photos.", min=0.01, max=0.5)
    ] = 0.2,
    max_rejected: Annotated[float, typer.Option(help="Largest share of unusable photos.", min=0, max=1)] = 0.1,
    architecture: Annotated[
        str, typer.Option(help="base_cnn, mobilenet, mobilenet_v2, resnet50, inception_v3 or xception.")
    ] = "xception",
    weights: Annotated[str, typer.Option(help="imagenet, none (from scratch) or a weights file.")] = "imagenet",
    image_size: Annotated[
        int | None, typer.Option(help="Side of the input in pixels. Default: the architecture's.", min=32, max=1024)
    ] = None,
    resize: Annotated[Resize, typer.Option(help="stretch, or crop around the centre.")] = "stretch",
    alpha: Annotated[float, typer.Option(help="Width multiplier of the MobileNets.", min=0.05, max=4)] = 1.0,
    backbone_layer: Annotated[
        str | None, typer.Option(help="Cut the backbone at this inner layer, such as mixed8.")
    ] = None,
    hidden: Annotated[str, typer.Option(help="Widths of up to two hidden dense layers, such as 256,128.")] = "",
    dropout: Annotated[float, typer.Option(help="Before each dense layer.", min=0, max=0.95)] = 0.2,
    head_epochs: Annotated[int, typer.Option(help="At most, on cached features.", min=1)] = 100,
    head_learning_rate: Annotated[float, typer.Option(help="Of the head alone.", min=1e-8)] = 3e-4,
    head_decay: Annotated[
        float | None,
        typer.Option(help="L2 of the head's kernels. Default: 50 / training photos; 1e-4 from scratch.", min=0),
    ] = None,
    fine_tune_epochs: Annotated[
        int | None, typer.Option(help="At most; 0 trains the head only. Default: the architecture's.", min=0)
    ] = None,
    fine_tune_learning_rate: Annotated[
        float | None, typer.Option(help="At its highest. Default: the architecture's.", min=1e-8)
    ] = None,
    fine_tune_layers: Annotated[
        int | None, typer.Option(help="Last layers to fine-tune, -1 for all. Default: the architecture's.", min=-1)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Photos a batch.", min=1)] = 32,
    patience: Annotated[int, typer.Option(help="Epochs without gain before a phase stops.", min=1)] = 10,
    augment: Annotated[bool, typer.Option(help="Flip, rotate, shift and change contrast while training.")] = True,
    seed: Annotated[int, typer.Option(help="Of splits, weights, order and augmentation.")] = 7,
    tolerance: ToleranceOption = 0.005,
    cache_gb: Annotated[
        float | None, typer.Option(help="Memory for decoded photos. Default: a quarter of the machine's.", min=0)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that decode. Default: one a CPU.", min=1)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again if the run folder is in use.")] = False,
) -> None:
    """Train, export, evaluate, and leave a bundle in the run's folder.

    Example: trainer train --dataset folder --data-dir photos --architecture mobilenet_v2 --run runs/mine
    """
    from trainer.config import DataConfig, NetworkConfig, ScheduleConfig, TrainingConfig
    from trainer.run_folder import start_run

    config = TrainingConfig(
        DataConfig(
            dataset=dataset, data_dir=str(data_dir), csv=str(csv) if csv else None, image_column=image_column,
            label_column=label_column, split_column=split_column, validation_share=validation_share,
            test_share=test_share, seed=seed, max_rejected=max_rejected,
        ),
        NetworkConfig(
            architecture=architecture, weights=weights, image_size=image_size, resize=resize, alpha=alpha,
            backbone_layer=backbone_layer, hidden=_widths(hidden), dropout=dropout,
        ),
        ScheduleConfig(
            head_epochs=head_epochs, head_learning_rate=head_learning_rate, head_decay=head_decay,
            fine_tune_epochs=fine_tune_epochs,
            fine_tune_learning_rate=fine_tune_learning_rate, fine_tune_layers=fine_tune_layers,
            batch_size=batch_size, patience=patience, augment=augment, seed=seed,
        ),
    )  # fmt: skip
    import time

    folder = start_run(run, config, overwrite=overwrite)
    began = time.perf_counter()
    _load_keras()
    from trainer import bundle, training

    cache_bytes = None if cache_gb is None else int(cache_gb * 1e9)
    trained = training.train(config, folder, _console(), cache_bytes=cache_bytes, workers=workers)
    _console().print(f"trained in {time.perf_counter() - began:.0f} s", highlight=False)
    if bundle.backend() != bundle.EXPORTING_BACKEND:
        _console().print(f"next: KERAS_BACKEND=tensorflow trainer export {run}", highlight=False, soft_wrap=True)
        return
    manifest = bundle.make_bundle(trained, config, folder, _console(), tolerance=tolerance)
    _print_result(manifest, folder.bundle)
    _console().print(f"done in {time.perf_counter() - began:.0f} s", highlight=False)


@app.command()
def export(run: RunArgument, tolerance: ToleranceOption = 0.005) -> None:
    """Make a run's bundle again from its best checkpoint.

    Example: trainer export runs/food --tolerance 0.01
    """
    from trainer.run_folder import open_run

    folder, config = open_run(run)
    _load_keras()
    from trainer import bundle, training

    if bundle.backend() != bundle.EXPORTING_BACKEND:
        raise InvalidSetting(f"Expected KERAS_BACKEND=tensorflow for the export; received {bundle.backend()}.")
    trained = training.load_trained(folder, config)
    manifest = bundle.make_bundle(trained, config, folder, _console(), tolerance=tolerance)
    _print_result(manifest, folder.bundle)


@app.command()
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

    console = _console(err=as_json)
    evaluation = evaluate_run(run, split, dataset=dataset, data_dir=data_dir, csv=csv, out=out, console=console)
    if as_json:
        import json

        typer.echo(json.dumps(evaluation.figures(), indent=2))
    else:
        _print_figures({split: evaluation.figures()})


@app.command()
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

        describe_dataset(dataset, data_dir, csv, _console())
        return
    table = Table(box=None, pad_edge=False)
    for column in ("dataset", "layout", "source"):
        table.add_column(column, overflow="fold")
    for loader in LOADERS.values():
        table.add_row(loader.name, loader.layout, loader.source)
    _console().print(table)


@app.command()
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


def main() -> None:
    """Run the command line; an expected error becomes one line on stderr: exit code 1, or 2 for how it is used."""
    arguments = sys.argv[1:] or ["--help"]
    try:
        code = app(arguments, prog_name="trainer", standalone_mode=False)
    except PointerError as error:
        typer.echo(f"trainer: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "trainer"
        typer.echo(f"trainer: {error.format_message().rstrip('.')}. `{path} --help` explains.", err=True)
        sys.exit(error.exit_code)
    if code == INTERRUPTED:
        typer.echo("trainer: interrupted; an interrupted `trainer train` goes on when it is run again.", err=True)
    sys.exit(code)


def _console(*, err: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=err)


def _load_keras() -> None:
    """Import Keras and its backend without the remarks that TensorFlow prints before its log level is read."""
    from classifier.quiet import quiet

    with quiet(tell_on_error=True):
        import keras

        keras.ops.zeros(1)


def _widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        widths = ()
    if any(width < 1 for width in widths) or (text.strip() and not widths):
        raise typer.BadParameter(f"Expected --hidden to be widths such as 256,128; received {text!r}.")
    return widths


def _print_result(manifest: Any, bundle: Path) -> None:
    _print_figures({split: manifest.metrics[split] for split in ("validation", "test")})
    typer.echo(f"bundle of the {manifest.variant} model in {bundle}; next: admin_cli publish {bundle.parent}")


def _print_figures(figures: dict[str, dict[str, float]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("served file on")
    for column in ("photos", "top-1", "top-5", "log-loss", "F1"):
        table.add_column(column, justify="right")
    for split, row in figures.items():
        table.add_row(
            split, str(row["photos"]), f"{row['top_1']:.1%}", f"{row['top_5']:.1%}", f"{row['log_loss']:.3f}",
            f"{row['f1']:.3f}",
        )  # fmt: skip
    _console().print(table)
