"""The architectures, a row each: what they are made of, and what they are trained with unless an option says otherwise.

The help reads it, so it imports no Keras; `trainer.networks.backbones` builds what it names.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

KERAS_TABLE = "keras.io/api/applications"
MOBILENET_V3 = "keras.io/api/applications/mobilenet"
LITE_CHECKPOINTS = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientnet/lite/efficientnet-"
LITE_TABLE = "github.com/tensorflow/tpu, models/official/efficientnet/lite"


@dataclass(frozen=True)
class Preset:
    """One architecture."""

    parameters: float
    """Millions, without a head."""
    input_size: int = 224
    fine_tune_layers: int = 30
    fine_tune_epochs: int = 12
    fine_tune_learning_rate: float = 1e-4
    builder: str = ""
    """Of `keras.applications`, or the name of one of our own."""
    scaling: Literal["symmetric", "caffe", "torch", "lite", "by_128"] = "symmetric"
    """From pixels 0..255 to what its weights expect; see `trainer.networks.scalings`."""
    top_1: float | None = None
    """Of its ImageNet weights, in percent, as `source` has it; None where there are none."""
    source: str = KERAS_TABLE
    checkpoint: str = ""
    """Address of its ImageNet weights, where they are to be had as a TensorFlow checkpoint alone."""
    least_size: int = 0
    """Pixels: the side of the smallest input that it can have; 0 where that is what --image-size takes at least."""
    alphas: tuple[float, ...] = ()
    """Its widths for which there are ImageNet weights; empty where it has one width."""


PRESETS = {
    "base_cnn": Preset(0.5, 96, fine_tune_layers=-1, fine_tune_epochs=45, fine_tune_learning_rate=2e-3, source=""),
    "efficientnet_lite0": Preset(3.4, 224, scaling="lite", top_1=75.1, source=LITE_TABLE),
    "efficientnet_lite1": Preset(4.2, 240, scaling="lite", top_1=76.7, source=LITE_TABLE),
    "efficientnet_lite2": Preset(4.9, 260, scaling="lite", top_1=77.6, source=LITE_TABLE),
    "efficientnet_lite3": Preset(
        7.0, 280, scaling="lite", top_1=79.8, source=LITE_TABLE, checkpoint=f"{LITE_CHECKPOINTS}lite3.tar.gz"
    ),
    "efficientnet_lite4": Preset(
        11.8, 300, scaling="lite", top_1=81.5, source=LITE_TABLE, checkpoint=f"{LITE_CHECKPOINTS}lite4.tar.gz"
    ),
    "mobilenet": Preset(3.2, builder="MobileNet", top_1=70.4, alphas=(0.25, 0.5, 0.75, 1.0)),
    "mobilenet_v2": Preset(2.3, builder="MobileNetV2", top_1=71.3, alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4)),
    "mobilenet_v3_small": Preset(0.9, builder="MobileNetV3Small", top_1=68.1, source=MOBILENET_V3),
    "mobilenet_v3_large": Preset(3.0, builder="MobileNetV3Large", top_1=75.6, source=MOBILENET_V3),
    "efficientnet_v2b0": Preset(5.9, 224, builder="EfficientNetV2B0", scaling="torch", top_1=78.7),
    "efficientnet_v2b1": Preset(6.9, 240, builder="EfficientNetV2B1", scaling="torch", top_1=79.8),
    "efficientnet_v2b2": Preset(8.8, 260, builder="EfficientNetV2B2", scaling="torch", top_1=80.5),
    "efficientnet_v2b3": Preset(12.9, 300, builder="EfficientNetV2B3", scaling="torch", top_1=82.0),
    "efficientnet_v2s": Preset(20.3, 384, builder="EfficientNetV2S", scaling="by_128", top_1=83.9),
    "convnext_tiny": Preset(27.8, builder="ConvNeXtTiny", scaling="torch", top_1=81.3),
    "resnet50": Preset(23.6, builder="ResNet50", scaling="caffe", top_1=74.9),
    "resnet50v2": Preset(23.6, builder="ResNet50V2", top_1=76.0),
    "densenet121": Preset(7.0, builder="DenseNet121", scaling="torch", top_1=75.0),
    "nasnet_mobile": Preset(4.3, builder="NASNetMobile", top_1=74.4),
    "inception_v3": Preset(
        21.8, 299, fine_tune_epochs=10, fine_tune_learning_rate=2e-4, builder="InceptionV3", top_1=77.9, least_size=75
    ),
    "xception": Preset(20.9, 299, builder="Xception", top_1=79.0, least_size=71),
}


OWN = "own"
"""What the architecture of a --backbone file is called."""
OWN_PRESET = Preset(0.0)


def preset_of(name: str) -> Preset:
    """Return the preset of an architecture, or that of a network of one's own.

    Raises:
        KeyError: there is none of that name.
    """
    return OWN_PRESET if name == OWN else PRESETS[name]


def by_architecture(name: str) -> str:
    """Return the values of a preset's field for people, the most frequent first: ``12; base_cnn 45``."""
    values = {architecture: getattr(preset, name) for architecture, preset in PRESETS.items()}
    usual = Counter(values.values()).most_common(1)[0][0]
    others: dict[object, list[str]] = {}
    for architecture, value in values.items():
        if value != usual:
            others.setdefault(value, []).append(architecture)
    return "; ".join([f"{usual:g}", *(f"{' and '.join(names)} {value:g}" for value, names in others.items())])
