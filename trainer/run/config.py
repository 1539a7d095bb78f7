"""Everything that decides what a training run does, as one frozen object that is kept with the run.

Each option is declared here, once; see `trainer.run.declarations`.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from classifier.errors import InvalidSetting
from classifier.registry.manifest import Resize
from classifier.wording import did_you_mean
from trainer.run.declarations import Option, declared
from trainer.run.presets import OWN, PRESETS, by_architecture, preset_of

Optimizer = Literal["adam", "adamw", "sgd"]
Flip = Literal["none", "horizontal", "vertical", "both"]
ClassWeights = Literal["none", "balanced"]
LearningRateSchedule = Literal["cosine", "constant"]
ImageSizeSchedule = Literal["progressive", "constant"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Distribution = Literal["none", "data-parallel", "mirrored", "multi-worker"]
VariantName = Literal["float32", "float16", "int8-dynamic", "int8"]
PortableFormat = Literal["saved-model", "onnx", "coreml"]
ExportFormat = Literal["litert", "saved-model", "onnx", "coreml"]

BACKBONE_SCALINGS = ("auto", "none", "unit", "symmetric", "torch", "caffe", "by_128", "lite")
LARGEST_SEED = 2**32 - 1
LARGEST_HEAD = 2
"""Most hidden layers."""
SMALLEST_RATE = 1e-8
SEED = Option("Of splits, weights, order and augmentation.", 0, LARGEST_SEED)


@dataclass(frozen=True)
class DataConfig:
    """Which photos, and how they are split."""

    dataset: Annotated[str, Option("food-101, dog-breed, folder, csv, huggingface or tfds.")]
    data_dir: Annotated[str, Option("Folder of the photos, or gs://bucket/folder. Default (csv): the table's.")]
    csv: Annotated[str | None, Option("The table of --dataset csv. Default: photos.csv in --data-dir.", path=True)] = (
        None
    )
    image_column: Annotated[str, Option("Column of paths (csv) or photos (huggingface, tfds).")] = "image_path"
    label_column: Annotated[str, Option("Column of labels (csv, huggingface, tfds).")] = "label"
    split_column: Annotated[str, Option("Column of splits, if there is one (csv).")] = "split"
    separator: Annotated[
        str | None, Option("What is between columns of a table: , ; tab or |.", default="by its head")
    ] = None
    encoding: Annotated[
        str | None,
        Option("Of a table, such as utf-8 or windows-1252.", default="UTF-8, UTF-16, or else Windows-1252"),
    ] = None
    # At most one of the next three is given.
    classes: Annotated[tuple[str, ...], Option("Only these labels, such as pizza,ramen.")] = ()
    first_classes: Annotated[int | None, Option("Only the first labels, sorted.", 2)] = None
    random_classes: Annotated[int | None, Option("Only so many labels, by --seed.", 2)] = None
    max_per_class: Annotated[int | None, Option("Most photos a class and split, by --seed.", 1)] = None
    validation_share: Annotated[
        float, Option("Held back from training, to choose checkpoints and variants by.", 0.01, 0.5)
    ] = 0.1
    test_share: Annotated[float, Option("Held out for the figures where the data has no test photos.", 0.01, 0.5)] = 0.2
    max_rejected: Annotated[float, Option("Largest share of unusable photos.", 0, 1)] = 0.1
    seed: Annotated[int, SEED] = 7
    unlabelled: Annotated[
        str | None,
        Option("Folder of photos without labels, or gs://bucket/folder, which the --teacher alone labels."),
    ] = None
    corrections: Annotated[
        str | None,
        Option(
            "A corrections.csv of `admin_cli feedback export`: photos to train on besides, never to test. Or a table "
            "for --decisions.",
            path=True,
        ),
    ] = None
    decisions: Annotated[
        str | None,
        Option("A decisions.csv of `trainer audit`: photos that get another label, or are left out.", path=True),
    ] = None
    decide_test: Annotated[
        bool,
        Option("Let decisions change test photos too: figures are not comparable with those of before then."),
    ] = False


@dataclass(frozen=True)
class NetworkConfig:
    """Which network."""

    architecture: Annotated[str, Option(f"{', '.join(PRESETS)}.")] = "xception"
    weights: Annotated[str, Option("imagenet, none (from scratch) or a weights file.")] = "imagenet"
    image_size: Annotated[
        int | None,
        Option("Side of the square input in pixels.", 32, 1024, default="that of trainer architectures"),
    ] = None
    resize: Annotated[Resize, Option("stretch, or crop around the centre.")] = "stretch"
    alpha: Annotated[float, Option("Width multiplier of the MobileNets.", 0.05, 4)] = 1.0
    backbone_layer: Annotated[
        str | None, Option("Cut the backbone at this inner layer, such as mixed8.", default="all of it")
    ] = None
    hidden: Annotated[
        tuple[int, ...], Option("Widths of up to two hidden dense layers, such as 256,128.", 1, most=LARGEST_HEAD)
    ] = ()
    dropout: Annotated[float, Option("Before each dense layer.", 0, 0.95)] = 0.2
    head_convolution: Annotated[
        int, Option("Channels of a convolution with ReLU between features and pooling; 0: none.", 0, 4096)
    ] = 0
    head_convolution_size: Annotated[int, Option("Side of its kernel.", 1, 5)] = 1
    start: Annotated[
        str | None,
        Option(
            "Folder of a version (with model.keras) to go on from; new classes extend its head.",
            default="none",
            path=True,
        ),
    ] = None

    backbone: Annotated[
        str | None,
        Option(
            "A .keras file of one's own instead of an --architecture: a network that ends in spatial features, or is "
            "cut there by --backbone-layer.",
            default="none",
            path=True,
        ),
    ] = None
    backbone_scaling: Annotated[
        str,
        Option(
            "What that network takes: none (pixels 0..255), unit (0..1), symmetric (-1..1), torch, caffe, by_128 or "
            "lite; auto is none where it begins with a layer that scales, and else refused."
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        """Call a network of one's own that.

        Raises:
            InvalidSetting: it was given something that only another network takes, or its options without it.
        """
        if self.backbone is None:
            for option, given in (
                ("architecture own", self.architecture == OWN),
                ("weights own", self.weights == OWN),
                ("backbone-scaling", self.backbone_scaling != "auto"),
            ):
                if given:
                    raise InvalidSetting(f"--{option} needs --backbone FILE: add it, or leave the option out.")
            return
        if self.backbone_scaling not in BACKBONE_SCALINGS:
            raise InvalidSetting(
                f"Expected --backbone-scaling to be one of {', '.join(BACKBONE_SCALINGS)}; received "
                f"{self.backbone_scaling!r}."
            )
        for option, value, usual in (
            ("architecture", self.architecture, "xception"),
            ("weights", self.weights, "imagenet"),
        ):
            if value not in (usual, OWN, *(["none"] if option == "weights" else [])):
                raise InvalidSetting(f"--backbone leaves --{option} {value} without effect: leave one of them out.")
            if value == usual:
                object.__setattr__(self, option, OWN)


@dataclass(frozen=True)
class ScheduleConfig:
    """How it is trained."""

    head_epochs: Annotated[int, Option("Epochs of the head at most, on cached features.", 1)] = 100
    head_learning_rate: Annotated[
        float | None, Option("Of the head alone.", SMALLEST_RATE, default="3e-4, with sgd 0.03")
    ] = None
    head_decay: Annotated[
        float | None,
        Option("L2 of the head's kernels.", 0, default="by the size of the features; from scratch 1e-4"),
    ] = None
    head_views: Annotated[int, Option("Views of each photo that the head sees: itself and augmented ones.", 1, 32)] = 1
    fine_tune_epochs: Annotated[
        int | None, Option("Epochs at most; 0 trains the head only.", 0, default=by_architecture("fine_tune_epochs"))
    ] = None
    fine_tune_learning_rate: Annotated[
        float | None,
        Option(
            "Of fine-tuning, at its highest.",
            SMALLEST_RATE,
            default=f"{by_architecture('fine_tune_learning_rate')}; with sgd 100 times it",
        ),
    ] = None
    fine_tune_layers: Annotated[
        int | None, Option("Last layers to fine-tune, -1 for all.", -1, default=by_architecture("fine_tune_layers"))
    ] = None
    learning_rate_schedule: Annotated[LearningRateSchedule, Option("Of fine-tuning: cosine or constant.")] = "cosine"
    first_image_size: Annotated[
        int | None,
        Option(
            "Side of the photos in the first epochs of fine-tuning, a multiple of 32 below the image size.",
            32,
            1024,
            default="the image size",
        ),
    ] = None
    image_size_schedule: Annotated[
        ImageSizeSchedule,
        Option("progressive: from there they grow in steps of 32; constant: at once, for the last epochs (FixRes)."),
    ] = "progressive"
    full_size_epochs: Annotated[int | None, Option("Last epochs at the image size.", 0, default="a third of them")] = (
        None
    )
    layer_decay: Annotated[
        float, Option("Rate of a stage of fine-tuned layers relative to that of the next one.", 0.01, 1)
    ] = 1.0
    optimizer: Annotated[Optimizer, Option("adam, adamw or sgd.")] = "adam"
    label_smoothing: Annotated[float, Option("Share of the target given to all.", 0, 0.5)] = 0.0
    class_weights: Annotated[
        ClassWeights, Option("balanced: every class counts alike in the loss, however many photos it has; or none.")
    ] = "none"
    mixup: Annotated[float, Option("Alpha of mixup (Zhang et al. 2018) while fine-tuning; 0: none.", 0, 2)] = 0.0
    cutmix: Annotated[
        float,
        Option("Alpha of CutMix (Yun et al. 2019) while fine-tuning; 0: none. With mixup: half of the photos.", 0, 2),
    ] = 0.0
    teacher: Annotated[
        str | None,
        Option(
            "Learn from this network too: a run's folder, or a published version such as v7 or production.",
            default="none",
        ),
    ] = None
    teacher_share: Annotated[float, Option("Its share of the loss of photos that have labels.", 0.01, 1)] = 0.7
    teacher_temperature: Annotated[float, Option("By which both networks' logits are divided first.", 0.1, 20)] = 2.0
    average_epochs: Annotated[
        float,
        Option("Average the weights over about so many epochs while fine-tuning; 0: no.", 0, 100),
    ] = 0.0
    batch_size: Annotated[int, Option("Photos a batch.", 1)] = 32
    patience: Annotated[int, Option("Epochs without gain before a phase stops.", 1)] = 10
    augment: Annotated[bool, Option("Flip, rotate, shift, crop and change contrast while training.")] = True
    augmentation_strength: Annotated[
        float, Option("Multiplies rotation, shift, shear, zoom and contrast; 0 leaves the flips.", 0, 3)
    ] = 1.0
    flip: Annotated[Flip, Option("Mirror images: none, horizontal, vertical or both.")] = "horizontal"
    rotation: Annotated[float, Option("Largest turn either way, in degrees.", 0, 180)] = 54.0
    shift: Annotated[float, Option("Largest shift either way, as a share of a side.", 0, 0.5)] = 0.1
    shear: Annotated[float, Option("Largest lean of verticals either way, in degrees.", 0, 45)] = 0.0
    zoom: Annotated[
        float | None,
        Option("Largest share of a side that a crop cuts off.", 0, 0.7, default="0.3, 0 for base_cnn"),
    ] = None
    contrast: Annotated[float, Option("Largest gain of contrast, as a share of it.", 0, 1)] = 0.1
    randaugment: Annotated[
        int, Option("Operations of RandAugment (Cubuk et al. 2020) for each photo, besides; 0: none.", 0, 5)
    ] = 0
    randaugment_magnitude: Annotated[float, Option("How much they change.", 0, 10)] = 5.0
    seed: Annotated[int, SEED] = 7


@dataclass(frozen=True)
class ComputeConfig:
    """On what it is trained, as far as that changes the numbers."""

    precision: Annotated[Precision, Option("Of the layers' arithmetic: float32, mixed_float16 or mixed_bfloat16.")] = (
        "float32"
    )
    jit_compile: Annotated[bool, Option("Compile the training step with XLA.")] = False
    distribution: Annotated[
        Distribution,
        Option("Share batches out: none, mirrored (TensorFlow), data-parallel or multi-worker (JAX)."),
    ] = "none"


@dataclass(frozen=True)
class TrainingConfig:
    """One run."""

    data: DataConfig
    network: NetworkConfig
    schedule: ScheduleConfig
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> TrainingConfig:
        """Read what `to_json` wrote.

        Raises:
            InvalidSetting: a section or option is missing, unknown or not what it has to be; the message names it.
        """
        if not isinstance(plain, dict):
            raise InvalidSetting(f"Expected an object with {', '.join(SECTIONS)}; received {_shown(plain)}.")
        _require_known("a section", plain, SECTIONS)
        missing = [name for name in SECTIONS if name not in plain and name != "compute"]
        if missing:
            raise InvalidSetting(f"Expected the sections {', '.join(missing)}; they are missing.")
        return cls(**{name: _read(name, kind, plain.get(name, {})) for name, kind in SECTIONS.items()})

    def differences(self, other: TrainingConfig) -> list[str]:
        """Return a line for each option whose value differs, such as ``network.dropout: 0.2, then 0.3``."""
        lines = []
        for section in fields(self):
            mine, theirs = getattr(self, section.name), getattr(other, section.name)
            for option in fields(mine):
                before, after = getattr(mine, option.name), getattr(theirs, option.name)
                if before != after:
                    lines.append(f"{section.name}.{option.name}: {before!r}, then {after!r}")
        return lines

    def is_prolonged_by(self, other: TrainingConfig) -> bool:
        """Return whether another configuration asks for this training and more: epochs of fine-tuning, or patience."""
        schedule = replace(
            self.schedule, fine_tune_epochs=other.schedule.fine_tune_epochs, patience=other.schedule.patience
        )
        return (
            replace(self, schedule=schedule) == other
            and other.fine_tune_epochs() >= self.fine_tune_epochs()
            and other.schedule.patience >= self.schedule.patience
        )

    def fine_tune_epochs(self) -> int:
        """Return how many epochs are fine-tuned at most: those asked for, or the architecture's own."""
        asked = self.schedule.fine_tune_epochs
        if asked is not None or self.network.architecture not in (*PRESETS, OWN):
            return asked or 0
        return preset_of(self.network.architecture).fine_tune_epochs


@dataclass(frozen=True)
class ExportOptions:
    """How a trained network becomes a bundle: not part of the run, whose bundle can be made again with others."""

    tolerance: Annotated[
        float, Option("Share of top-1 that the served file may lose against float32 on the validation photos.", 0, 1)
    ] = 0.005
    variant: Annotated[
        VariantName | None,
        Option(
            "Serve this file, and make no others but float32: float32, float16, int8-dynamic or int8.",
            default="the fastest within the tolerance",
        ),
    ] = None
    serving_cpus: Annotated[
        int, Option("CPUs of the function that will serve: by them the fastest file is chosen.", 1)
    ] = 1
    ood: Annotated[
        Path | None,
        Option(
            "Folder of photos of something else, by which the score is chosen; half of them it learns from, if that "
            "helps.",
            path=True,
            alias="--strangers",
        ),
    ] = None
    pass_own: Annotated[
        float, Option("Share of photos of the classes that is to pass as known: sets the threshold.", 0.5, 0.999)
    ] = 0.95
    parent: Annotated[str | None, Option("The version that this one follows, such as v7; recorded.")] = None
    notice: Annotated[
        str | None, Option("What users of the model should know: shown by GET /model, the page and the report.")
    ] = None


SECTIONS: dict[str, type[Any]] = {
    "data": DataConfig,
    "network": NetworkConfig,
    "schedule": ScheduleConfig,
    "compute": ComputeConfig,
}


def _read(section: str, kind: type[Any], plain: Any) -> Any:
    """Return a section from plain JSON values.

    Raises:
        InvalidSetting: see `TrainingConfig.from_json`.
    """
    if not isinstance(plain, Mapping):
        raise InvalidSetting(f"Expected {section} to be an object; received {_shown(plain)}.")
    known = {each.name: each for each in declared(kind)}
    _require_known(f"an option of {section}", plain, known)
    missing = [each.name for each in known.values() if each.default is MISSING and each.name not in plain]
    if missing:
        raise InvalidSetting(f"Expected {section}.{missing[0]}; it is missing.")
    values = {}
    for name, value in plain.items():
        if not _fits(value, known[name].hint, known[name].option):
            expected = _expected(known[name].hint, known[name].option)
            raise InvalidSetting(f"Expected {section}.{name} to be {expected}; received {_shown(value)}.")
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _fits(value: Any, hint: Any, option: Option) -> bool:
    """Return whether a JSON value is of a type, and its numbers within the option's limits."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return any(_fits(value, each, option) for each in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        few = isinstance(value, list | tuple) and (option.most is None or len(value) <= option.most)
        return few and all(_fits(each, inner[0], option) for each in value)
    if hint in (int, float):
        kinds = (int, float) if hint is float else (int,)
        number = isinstance(value, kinds) and not isinstance(value, bool)
        return number and math.isfinite(value) and option.low <= value <= option.high
    return isinstance(value, hint)


def _expected(hint: Any, option: Option) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return " or ".join(_expected(each, option) for each in inner)
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if origin is tuple:
        return "a list of labels" if inner[0] is str else f"a list of up to {option.most} widths"
    if hint in (int, float):
        what = "a whole number" if hint is int else "a number"
        if math.isfinite(option.high):
            return f"{what} from {option.low:g} to {option.high:.10g}"
        return f"{what} of at least {option.low:g}" if math.isfinite(option.low) else what
    return {str: "a text", bool: "true or false"}.get(hint, "null")


def _require_known(what: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given:
        if name not in known:
            meant = did_you_mean(str(name), known) or f" Expected one of {', '.join(known)}."
            raise InvalidSetting(f"{name!r} is not {what}.{meant}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
