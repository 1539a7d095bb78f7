"""What a training run may be asked to do: its options in four sections, each declared once.

What is made of the declarations, `trainer.run.declarations` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from classifier.errors import InvalidSetting
from classifier.registry.manifest import Resize
from trainer.run.declarations import Option
from trainer.run.presets import OWN, PRESETS, by_architecture

Optimizer = Literal["adam", "adamw", "sgd"]
Flip = Literal["none", "horizontal", "vertical", "both"]
ClassWeights = Literal["none", "balanced"]
LearningRateSchedule = Literal["cosine", "constant"]
ImageSizeSchedule = Literal["progressive", "constant"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Distribution = Literal["none", "data-parallel", "mirrored", "multi-worker"]

BACKBONE_SCALINGS = ("auto", "none", "unit", "symmetric", "torch", "caffe", "by_128", "lite")
LARGEST_SEED = 2**32 - 1
LARGEST_HEAD = 2
"""Most hidden layers."""
SMALLEST_RATE = 1e-8
# What leaves other options without effect, as messages name it; `trainer.run.effect` says when it holds.
FROM_SCRATCH = "--weights none"
HEAD_ONLY = "--fine-tune-epochs 0"
UNAUGMENTED = "--no-augment"
NO_STRENGTH = "--augmentation-strength 0"
NO_CONVOLUTION = "--head-convolution 0"
AMOUNT = (UNAUGMENTED, NO_STRENGTH)
"""Of what augmentation changes a photo by."""


@dataclass(frozen=True)
class DataConfig:
    """Which photos, and how they are split."""

    dataset: Annotated[str, Option("food-101, dog-breed, folder, csv, huggingface or tfds.")]
    data_dir: Annotated[
        str, Option("Folder of the photos, or gs://bucket/folder. Default (csv): the table's.", place=True)
    ]
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
    seed: Annotated[int, Option("Of splits and draws.", 0, LARGEST_SEED)] = 7
    unlabelled: Annotated[
        str | None,
        Option("Folder of photos without labels, or gs://bucket/folder, which the --teacher alone labels.", place=True),
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
    weights: Annotated[str, Option("imagenet, none (from scratch) or a weights file.", place=True)] = "imagenet"
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
    head_convolution_size: Annotated[int, Option("Side of its kernel.", 1, 5, idle_with=(NO_CONVOLUTION,))] = 1
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

    @property
    def from_scratch(self) -> bool:
        """Return whether the backbone starts from random weights, so that training a head on it frozen is pointless."""
        return self.weights == "none"

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
        float | None,
        Option("Of the head alone.", SMALLEST_RATE, default="3e-4, with sgd 0.03", idle_with=(FROM_SCRATCH,)),
    ] = None
    head_decay: Annotated[
        float | None,
        Option("L2 of the head's kernels.", 0, default="by the size of the features; from scratch 1e-4"),
    ] = None
    head_views: Annotated[
        int,
        Option(
            "Views of each photo that the head sees: itself and augmented ones.",
            1,
            32,
            idle_with=(FROM_SCRATCH, UNAUGMENTED),
        ),
    ] = 1
    fine_tune_epochs: Annotated[
        int | None, Option("Epochs at most; 0 trains the head only.", 0, default=by_architecture("fine_tune_epochs"))
    ] = None
    fine_tune_learning_rate: Annotated[
        float | None,
        Option(
            "Of fine-tuning, at its highest.",
            SMALLEST_RATE,
            default=f"{by_architecture('fine_tune_learning_rate')}; with sgd 100 times it",
            idle_with=(HEAD_ONLY,),
        ),
    ] = None
    fine_tune_layers: Annotated[
        int | None,
        Option(
            "Last layers to fine-tune, -1 for all.",
            -1,
            default=by_architecture("fine_tune_layers"),
            idle_with=(FROM_SCRATCH, HEAD_ONLY),
        ),
    ] = None
    learning_rate_schedule: Annotated[
        LearningRateSchedule, Option("Of fine-tuning: cosine or constant.", idle_with=(HEAD_ONLY,))
    ] = "cosine"
    first_image_size: Annotated[
        int | None,
        Option(
            "Side of the photos in the first epochs of fine-tuning, a multiple of 32 below the image size.",
            32,
            1024,
            default="the image size",
            idle_with=(HEAD_ONLY,),
        ),
    ] = None
    image_size_schedule: Annotated[
        ImageSizeSchedule,
        Option(
            "progressive: from there they grow in steps of 32; constant: at once, for the last epochs (FixRes).",
            needs="first_image_size",
        ),
    ] = "progressive"
    full_size_epochs: Annotated[
        int | None, Option("Last epochs at the image size.", 0, default="a third of them", needs="first_image_size")
    ] = None
    layer_decay: Annotated[
        float,
        Option(
            "Rate of a stage of fine-tuned layers relative to that of the next one.", 0.01, 1, idle_with=(HEAD_ONLY,)
        ),
    ] = 1.0
    optimizer: Annotated[Optimizer, Option("adam, adamw or sgd.")] = "adam"
    label_smoothing: Annotated[float, Option("Share of the target given to all.", 0, 0.5)] = 0.0
    class_weights: Annotated[
        ClassWeights, Option("balanced: every class counts alike in the loss, however many photos it has; or none.")
    ] = "none"
    mixup: Annotated[
        float, Option("Alpha of mixup (Zhang et al. 2018) while fine-tuning; 0: none.", 0, 2, idle_with=(HEAD_ONLY,))
    ] = 0.0
    cutmix: Annotated[
        float,
        Option(
            "Alpha of CutMix (Yun et al. 2019) while fine-tuning; 0: none. With mixup: half of the photos.",
            0,
            2,
            idle_with=(HEAD_ONLY,),
        ),
    ] = 0.0
    teacher: Annotated[
        str | None,
        Option(
            "Learn from this network too: a run's folder, or a published version such as v7 or production.",
            place=True,
            default="none",
        ),
    ] = None
    teacher_share: Annotated[
        float, Option("Its share of the loss of photos that have labels.", 0.01, 1, needs="teacher")
    ] = 0.7
    teacher_temperature: Annotated[
        float, Option("By which both networks' logits are divided first.", 0.1, 20, needs="teacher")
    ] = 2.0
    average_epochs: Annotated[
        float,
        Option(
            "Average the weights over about so many epochs while fine-tuning; 0: no.", 0, 100, idle_with=(HEAD_ONLY,)
        ),
    ] = 0.0
    batch_size: Annotated[int, Option("Photos a batch.", 1)] = 32
    patience: Annotated[int, Option("Epochs without gain before a phase stops.", 1)] = 10
    augment: Annotated[bool, Option("Flip, rotate, shift, crop and change contrast while training.")] = True
    augmentation_strength: Annotated[
        float,
        Option(
            "Multiplies rotation, shift, shear, zoom and contrast; 0 leaves the flips.", 0, 3, idle_with=(UNAUGMENTED,)
        ),
    ] = 1.0
    flip: Annotated[Flip, Option("Mirror images: none, horizontal, vertical or both.", idle_with=(UNAUGMENTED,))] = (
        "horizontal"
    )
    rotation: Annotated[float, Option("Largest turn either way, in degrees.", 0, 180, idle_with=AMOUNT)] = 54.0
    shift: Annotated[float, Option("Largest shift either way, as a share of a side.", 0, 0.5, idle_with=AMOUNT)] = 0.1
    shear: Annotated[float, Option("Largest lean of verticals either way, in degrees.", 0, 45, idle_with=AMOUNT)] = 0.0
    zoom: Annotated[
        float | None,
        Option(
            "Largest share of a side that a crop cuts off.", 0, 0.7, default="0.3, 0 for base_cnn", idle_with=AMOUNT
        ),
    ] = None
    contrast: Annotated[float, Option("Largest gain of contrast, as a share of it.", 0, 1, idle_with=AMOUNT)] = 0.1
    randaugment: Annotated[
        int,
        Option(
            "Operations of RandAugment (Cubuk et al. 2020) for each photo, besides; 0: none.",
            0,
            5,
            idle_with=(UNAUGMENTED,),
        ),
    ] = 0
    randaugment_magnitude: Annotated[float, Option("How much they change.", 0, 10, needs="randaugment")] = 5.0
    seed: Annotated[int, Option("Of splits, weights, order and augmentation.", 0, LARGEST_SEED)] = 7


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
