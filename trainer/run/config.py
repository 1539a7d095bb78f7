"""Everything that decides what a training run does, as one frozen object that is kept with the run."""

from __future__ import annotations

import difflib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from classifier.errors import InvalidSetting
from classifier.registry.manifest import Resize

Optimizer = Literal["adam", "adamw", "sgd"]
LearningRateSchedule = Literal["cosine", "constant"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Distribution = Literal["none", "data-parallel", "mirrored", "multi-worker"]
VariantName = Literal["float32", "float16", "int8-dynamic", "int8"]

LARGEST_SEED = 2**32 - 1
LARGEST_HEAD = 2
"""Most hidden layers."""
SMALLEST_RATE = 1e-8
LIMITS: dict[str, tuple[float, float]] = {
    "validation_share": (0.01, 0.5), "test_share": (0.01, 0.5), "max_rejected": (0, 1), "seed": (0, LARGEST_SEED),
    "first_classes": (2, math.inf), "random_classes": (2, math.inf), "max_per_class": (1, math.inf),
    "image_size": (32, 1024), "alpha": (0.05, 4), "dropout": (0, 0.95), "hidden": (1, math.inf),
    "head_epochs": (1, math.inf), "head_learning_rate": (SMALLEST_RATE, math.inf), "head_decay": (0, math.inf),
    "head_views": (1, 32), "fine_tune_epochs": (0, math.inf), "fine_tune_learning_rate": (SMALLEST_RATE, math.inf),
    "fine_tune_layers": (-1, math.inf), "batch_size": (1, math.inf), "patience": (1, math.inf),
    "augmentation_strength": (0, 3), "layer_decay": (0.01, 1), "label_smoothing": (0, 0.5), "mixup": (0, 2),
    "average_epochs": (0, 100),
}  # fmt: skip
"""Smallest and largest values of the options that are numbers; of `hidden`, of each of its."""


@dataclass(frozen=True)
class DataConfig:
    """Which photos, and how they are split."""

    dataset: str
    data_dir: str
    csv: str | None = None
    image_column: str = "image_path"
    label_column: str = "label"
    split_column: str = "split"
    validation_share: float = 0.1
    """Share of the training photos that is held back for choosing checkpoints and variants."""
    test_share: float = 0.2
    """Share of all photos held out for the final figures, where the data set has no test photos of its own."""
    seed: int = 7
    max_rejected: float = 0.1
    """Largest share of listed photos that may be rejected before the run stops."""
    classes: tuple[str, ...] = ()
    """Only these labels; empty means all. At most one of `classes`, `first_classes` and `random_classes` is given."""
    first_classes: int | None = None
    """Only the first labels in alphabetical order."""
    random_classes: int | None = None
    """Only as many labels, drawn with `seed`."""
    max_per_class: int | None = None
    """At most as many photos of each class in each split, drawn with `seed`."""


@dataclass(frozen=True)
class NetworkConfig:
    """Which network."""

    architecture: str = "xception"
    weights: str = "imagenet"
    """``imagenet``, ``none`` (train from scratch) or a weights file."""
    image_size: int | None = None
    """Side of the square input in pixels; None means the architecture's own."""
    resize: Resize = "stretch"
    alpha: float = 1.0
    """Width multiplier of the MobileNets."""
    backbone_layer: str | None = None
    """Inner layer at which the backbone is cut; None keeps all of it."""
    hidden: tuple[int, ...] = ()
    """Widths of the head's hidden dense layers, none to two."""
    dropout: float = 0.2


@dataclass(frozen=True)
class ScheduleConfig:
    """How it is trained."""

    head_epochs: int = 100
    head_learning_rate: float | None = None
    """None means 3e-4, and for SGD a hundred times that."""
    head_decay: float | None = None
    """L2 of the head's kernels; None means one that suits the size of a pretrained backbone's features, and 1e-4 from
    scratch."""
    fine_tune_epochs: int | None = None
    """None means the architecture's own."""
    fine_tune_learning_rate: float | None = None
    """None means the architecture's own, and for SGD a hundred times that."""
    fine_tune_layers: int | None = None
    """How many of the backbone's last layers are fine-tuned; -1 means all, None the architecture's own."""
    batch_size: int = 32
    patience: int = 10
    augment: bool = True
    augmentation_strength: float = 1.0
    """Multiplies the angles, distances, zoom and contrasts of the augmentation; 0 leaves the flips."""
    head_views: int = 1
    """Views of each training photo in the head's phase: the photo itself and `head_views` - 1 augmented ones."""
    optimizer: Optimizer = "adam"
    learning_rate_schedule: LearningRateSchedule = "cosine"
    """Of fine-tuning."""
    layer_decay: float = 1.0
    """Discriminative learning rates: what the rate is multiplied by from one stage of fine-tuned layers (those with
    outputs of one size) to the one below it; 1 trains all with the same rate."""
    label_smoothing: float = 0.0
    mixup: float = 0.0
    """Parameter alpha of mixup's Beta distribution in fine-tuning (Zhang et al. 2018); 0 is none."""
    average_epochs: float = 0.0
    """Time constant in epochs of the exponential moving average of the weights that fine-tuning validates and keeps; 0
    keeps the weights themselves."""
    seed: int = 7


@dataclass(frozen=True)
class ComputeConfig:
    """On what it is trained, as far as that changes the numbers."""

    precision: Precision = "float32"
    """Of the layers' arithmetic; weights, pooling and head stay float32."""
    jit_compile: bool = False
    """Whether XLA compiles the training step."""
    distribution: Distribution = "none"
    """How a batch is shared out: over one machine's devices (``data-parallel`` is `keras.distribution.DataParallel`,
    for JAX; ``mirrored`` is `tf.distribute.MirroredStrategy`), or over those of several processes (``multi-worker``,
    for JAX; see `trainer.compute.processes`)."""


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


@dataclass(frozen=True)
class ExportOptions:
    """How a trained network becomes a bundle: not part of the run, whose bundle can be made again with others."""

    tolerance: float = 0.005
    """Share of top-1 that the served file may lose against float32."""
    variant: VariantName | None = None
    """The file to be served, whatever it measures; None chooses the fastest within the tolerance."""
    strangers: Path | None = None
    """Folder of photos of something else, by which the way to tell them is chosen."""
    serving_cpus: int = 1
    """CPUs of the function that will serve; latency is measured with its threads."""


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
    hints = typing.get_type_hints(kind)
    _require_known(f"an option of {section}", plain, hints)
    missing = [option.name for option in fields(kind) if option.default is MISSING and option.name not in plain]
    if missing:
        raise InvalidSetting(f"Expected {section}.{missing[0]}; it is missing.")
    values = {}
    for name, value in plain.items():
        limits = LIMITS.get(name, (-math.inf, math.inf))
        if not _fits(value, hints[name], limits) or (name == "hidden" and len(value) > LARGEST_HEAD):
            raise InvalidSetting(
                f"Expected {section}.{name} to be {_expected(hints[name], limits)}; received {_shown(value)}."
            )
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _fits(value: Any, hint: Any, limits: tuple[float, float]) -> bool:
    """Return whether a JSON value is of a type, and its numbers within the limits."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return any(_fits(value, each, limits) for each in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(each, inner[0], limits) for each in value)
    if hint in (int, float):
        kinds = (int, float) if hint is float else (int,)
        number = isinstance(value, kinds) and not isinstance(value, bool)
        return number and math.isfinite(value) and limits[0] <= value <= limits[1]
    return isinstance(value, hint)


def _expected(hint: Any, limits: tuple[float, float]) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return " or ".join(_expected(each, limits) for each in inner)
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if origin is tuple:
        return "a list of labels" if inner[0] is str else f"a list of up to {LARGEST_HEAD} widths"
    if hint in (int, float):
        low, high = limits
        what = "a whole number" if hint is int else "a number"
        between = f" from {low:g} to {high:.10g}" if math.isfinite(high) else f" of at least {low:g}"
        return what + (between if math.isfinite(low) else "")
    return {str: "a text", bool: "true or false"}.get(hint, "null")


def _require_known(what: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            meant = f"; did you mean {near[0]}?" if near else f": expected {', '.join(known)}."
            raise InvalidSetting(f"{name!r} is not {what}{meant}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
