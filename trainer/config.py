"""Everything that decides what a training run does, as one frozen object that is kept with the run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from classifier.errors import InvalidSetting
from classifier.manifest import Resize

Optimizer = Literal["adam", "adamw", "sgd"]
LearningRateSchedule = Literal["cosine", "constant"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Distribution = Literal["none", "data-parallel", "mirrored", "multi-worker"]
VariantName = Literal["float32", "float16", "int8-dynamic", "int8"]


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
    seed: int = 7


@dataclass(frozen=True)
class ComputeConfig:
    """On what it is trained, as far as that changes the numbers."""

    precision: Precision = "float32"
    """Of the layers' arithmetic; weights, pooling and head stay float32."""
    jit_compile: bool = False
    """Whether XLA compiles the training step."""
    distribution: Distribution = "none"
    """How a batch is shared out over one machine's devices: ``data-parallel`` is `keras.distribution.DataParallel`
    (JAX), ``mirrored`` is `tf.distribute.MirroredStrategy`. ``multi-worker``, several machines, is refused: a run's
    state is one process's."""


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
            InvalidSetting: a section or option is missing or unknown.
        """
        try:
            data, network = dict(plain["data"]), dict(plain["network"])
            data["classes"] = tuple(data.get("classes", ()))
            network["hidden"] = tuple(network.get("hidden", ()))
            return cls(
                DataConfig(**data),
                NetworkConfig(**network),
                ScheduleConfig(**plain["schedule"]),
                ComputeConfig(**plain.get("compute", {})),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidSetting(f"The run's configuration cannot be read: {error}.") from error

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
