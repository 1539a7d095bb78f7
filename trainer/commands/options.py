"""The options that several commands share, and how they become a `TrainingConfig`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from classifier.errors import InvalidSetting, NotFound
from classifier.registry.manifest import Resize
from trainer.run.config import (
    LARGEST_SEED,
    SECTIONS,
    DataConfig,
    Distribution,
    LearningRateSchedule,
    Optimizer,
    Precision,
    ScheduleConfig,
    TrainingConfig,
    VariantName,
)

RunOption = Annotated[Path, typer.Option("--run", help="Folder of the run; an interrupted run is resumed.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.")]
DataDirOption = Annotated[str | None, typer.Option(help="Folder of the photos, or gs://bucket/folder.")]
DatasetOption = Annotated[str | None, typer.Option(help="food-101, dog-breed, folder or csv.")]
ClassesOption = Annotated[str, typer.Option(help="Only these labels, such as pizza,ramen.")]
FirstClassesOption = Annotated[int | None, typer.Option(help="Only the first labels, sorted.", min=2)]
RandomClassesOption = Annotated[int | None, typer.Option(help="Only so many labels, by --seed.", min=2)]
MaxPerClassOption = Annotated[int | None, typer.Option(help="Most photos a class and split, by --seed.", min=1)]
CsvOption = Annotated[Path | None, typer.Option(help="The table of --dataset csv.")]
ToleranceOption = Annotated[
    float, typer.Option(help="Share of top-1 that the served file may lose against float32.", min=0, max=1)
]
VariantOption = Annotated[
    VariantName | None,
    typer.Option(
        help="Serve this file: float32, float16, int8-dynamic or int8. Default: the fastest within the tolerance."
    ),
]
ServingCpusOption = Annotated[
    int, typer.Option(help="CPUs of the function that will serve: the fastest file is chosen for so many.", min=1)
]
StrangersOption = Annotated[
    Path | None, typer.Option(help="Folder of photos of something else, by which the unknown are told best.")
]
CacheOption = Annotated[
    float | None, typer.Option(help="Memory for decoded photos. Default: a quarter of the machine's.", min=0)
]
WorkersOption = Annotated[int | None, typer.Option(help="Threads that decode. Default: one a CPU.", min=1)]


def _training_options(
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    csv: CsvOption = None,
    image_column: Annotated[str, typer.Option(help="Column of paths (csv).")] = "image_path",
    label_column: Annotated[str, typer.Option(help="Column of labels (csv).")] = "label",
    split_column: Annotated[str, typer.Option(help="Column of splits, if there is one (csv).")] = "split",
    classes: ClassesOption = "",
    first_classes: FirstClassesOption = None,
    random_classes: RandomClassesOption = None,
    max_per_class: MaxPerClassOption = None,
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
    head_learning_rate: Annotated[
        float | None, typer.Option(help="Of the head alone. Default: 3e-4; sgd 0.03.", min=1e-8)
    ] = None,
    head_decay: Annotated[
        float | None,
        typer.Option(help="L2 of the head's kernels. Default: one that suits the features.", min=0),
    ] = None,
    head_views: Annotated[
        int, typer.Option(help="Views of each photo that the head sees: itself and augmented ones.", min=1, max=32)
    ] = ScheduleConfig.head_views,
    fine_tune_epochs: Annotated[
        int | None, typer.Option(help="At most; 0 trains the head only. Default: the architecture's.", min=0)
    ] = None,
    fine_tune_learning_rate: Annotated[
        float | None, typer.Option(help="At its highest. Default: the architecture's; sgd 100 times it.", min=1e-8)
    ] = None,
    fine_tune_layers: Annotated[
        int | None, typer.Option(help="Last layers to fine-tune, -1 for all. Default: the architecture's.", min=-1)
    ] = None,
    learning_rate_schedule: Annotated[
        LearningRateSchedule, typer.Option(help="Of fine-tuning: cosine or constant.")
    ] = "cosine",
    layer_decay: Annotated[
        float, typer.Option(help="Rate of a stage of layers relative to the next one's.", min=0.01, max=1)
    ] = 1.0,
    optimizer: Annotated[Optimizer, typer.Option(help="adam, adamw or sgd.")] = "adam",
    label_smoothing: Annotated[float, typer.Option(help="Share of the target given to all.", min=0, max=0.5)] = 0.0,
    mixup: Annotated[float, typer.Option(help="Alpha of mixup while fine-tuning; 0: none.", min=0, max=2)] = 0.0,
    average_epochs: Annotated[
        float,
        typer.Option(help="Average the weights over about so many epochs while fine-tuning; 0: no.", min=0, max=100),
    ] = 0.0,
    batch_size: Annotated[int, typer.Option(help="Photos a batch.", min=1)] = 32,
    patience: Annotated[int, typer.Option(help="Epochs without gain before a phase stops.", min=1)] = 10,
    augment: Annotated[bool, typer.Option(help="Flip, rotate, shift and change contrast while training.")] = True,
    augmentation_strength: Annotated[float, typer.Option(help="Multiplies how much.", min=0, max=3)] = 1.0,
    seed: Annotated[int, typer.Option(help="Of splits, weights, order and augmentation.", min=0, max=LARGEST_SEED)] = 7,
    precision: Annotated[
        Precision, typer.Option(help="Of the arithmetic: float32, mixed_float16 or mixed_bfloat16.")
    ] = "float32",
    jit_compile: Annotated[bool, typer.Option(help="Compile the training step with XLA.")] = False,
    distribution: Annotated[
        Distribution,
        typer.Option(help="Share batches out: none, mirrored (TensorFlow), data-parallel or multi-worker (JAX)."),
    ] = "none",
    config: Annotated[
        Path | None, typer.Option(help="JSON with options, such as tune's best.json; the command line goes first.")
    ] = None,
) -> None:
    """Carry the options; `training_options` gives them to a command."""


def training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a training besides its own; it gets them as ``config: TrainingConfig``."""
    shared = inspect.signature(_training_options, eval_str=True).parameters
    signature = inspect.signature(command, eval_str=True)
    own = {name: parameter for name, parameter in signature.parameters.items() if name != "config"}

    @functools.wraps(command)
    def parsed(context: typer.Context, **values: Any) -> None:
        given = {
            name: values[name]
            for name in shared
            if name != "config" and (source := context.get_parameter_source(name)) and source.name != "DEFAULT"
        }
        command(**{name: values[name] for name in own}, config=read_config(values["config"], given))

    parameters = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own.values(), *shared.values())),
    ]
    parsed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    # Typer reads the hints of what it wraps as well.
    parsed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del parsed.__wrapped__
    return parsed


def read_config(file: Path | None, given: Mapping[str, Any]) -> TrainingConfig:
    """Return the configuration of a file, or the defaults, with the given options in their place.

    Args:
        file: JSON with any of the sections data, network, schedule and compute, such as a run's config.json.
        given: values by option; ``seed`` is that of the data and of the training.

    Raises:
        NotFound: there is no such file.
        InvalidSetting: it is not a configuration.
        typer.BadParameter: there is no data set.
    """
    plain = _read_file(file) if file else {}
    if file:
        _require_usable(file, plain)
    for section, kind in SECTIONS.items():
        plain[section] = dict(plain.get(section, {})) | {
            option.name: _plain(option.name, given[option.name]) for option in fields(kind) if option.name in given
        }
    missing = [
        f"--{option.name.replace('_', '-')}"
        for option in fields(DataConfig)
        if option.default is MISSING and not plain["data"].get(option.name)
    ]
    if missing:
        raise typer.BadParameter(f"Expected {' and '.join(missing)}; received none.")
    return TrainingConfig.from_json(plain)


def class_names(text: str) -> tuple[str, ...]:
    """Return the labels of --classes."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _read_file(path: Path) -> dict[str, Any]:
    from trainer.run.files import read_json

    if not path.is_file():
        raise NotFound(f"Expected a configuration at --config {path}; there is none.")
    plain = read_json(path)
    if not isinstance(plain, dict) or not set(plain) <= set(SECTIONS):
        found = ", ".join(plain) if isinstance(plain, dict) else type(plain).__name__
        raise InvalidSetting(f"Expected the sections {', '.join(SECTIONS)} in {path}; received {found}.")
    return plain


def _require_usable(path: Path, plain: dict[str, Any]) -> None:
    """Refuse a file's values before the command line's take their place: the message names the file.

    Raises:
        InvalidSetting: one of them is not what it has to be.
    """
    required = {option.name: "" for option in fields(DataConfig) if option.default is MISSING}
    sections = {section: plain.get(section, {}) for section in SECTIONS}
    if isinstance(sections["data"], dict):
        sections["data"] = required | sections["data"]
    try:
        TrainingConfig.from_json(sections)
    except InvalidSetting as error:
        raise InvalidSetting(f"{path}: {error}") from error


def _plain(name: str, value: Any) -> Any:
    if name == "hidden":
        return _widths(value)
    if name == "classes":
        return class_names(value)
    return str(value) if isinstance(value, Path) else value


def _widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        widths = ()
    if any(width < 1 for width in widths) or (text.strip() and not widths) or len(widths) > 2:
        raise typer.BadParameter(f"Expected --hidden to be up to two widths such as 256,128; received {text!r}.")
    return widths
