"""What each architecture is trained with unless an option says otherwise: known to the help, which imports no Keras."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """The input size and the training schedule that suit an architecture."""

    input_size: int = 224
    fine_tune_layers: int = 30
    fine_tune_epochs: int = 12
    fine_tune_learning_rate: float = 1e-4


PRESETS = {
    "base_cnn": Preset(96, fine_tune_layers=-1, fine_tune_epochs=45, fine_tune_learning_rate=2e-3),
    "efficientnet_lite0": Preset(),
    "efficientnet_lite2": Preset(260),
    "mobilenet": Preset(),
    "mobilenet_v2": Preset(),
    "resnet50": Preset(),
    "inception_v3": Preset(299, fine_tune_epochs=10, fine_tune_learning_rate=2e-4),
    "xception": Preset(299),
}


def by_architecture(name: str) -> str:
    """Return the values of a preset's field for people, the most frequent first: ``12; base_cnn 45``."""
    values = {architecture: getattr(preset, name) for architecture, preset in PRESETS.items()}
    usual = Counter(values.values()).most_common(1)[0][0]
    others: dict[object, list[str]] = {}
    for architecture, value in values.items():
        if value != usual:
            others.setdefault(value, []).append(architecture)
    return "; ".join([f"{usual:g}", *(f"{' and '.join(names)} {value:g}" for value, names in others.items())])
