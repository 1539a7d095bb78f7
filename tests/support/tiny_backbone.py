"""The architecture "tiny": a backbone of three stages whose training takes a moment."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from trainer.networks import backbones, heads
from trainer.run.presets import PRESETS, Preset
from trainer.run.sections import NetworkConfig


@pytest.fixture(autouse=True)
def tiny_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    add_tiny_architecture(monkeypatch)


def add_tiny_architecture(patch: pytest.MonkeyPatch) -> None:
    preset = Preset(16, fine_tune_layers=-1, fine_tune_epochs=2, fine_tune_learning_rate=1e-3)
    patch.setitem(PRESETS, "tiny", preset)
    kind = backbones.Architecture("tiny", backbones.ARCHITECTURES["mobilenet"].scaling, build_tiny)
    patch.setitem(backbones.ARCHITECTURES, "tiny", kind)


def build_tiny(config: NetworkConfig, shape: tuple[int, int, int]) -> keras.Model:
    image = keras.Input(shape)
    x = image
    for width in (4, 6, 8):
        x = keras.layers.Conv2D(width, 3, 2, padding="same", activation="relu", name=f"stage_{width}")(x)
    return keras.Model(image, x, name="tiny")


def tiny_weights(path: Path) -> Path:
    """Weights for it, as a file: any weights do to take the path of pretrained networks."""
    keras.utils.set_random_seed(3)
    build_tiny(NetworkConfig(), (16, 16, 3)).save_weights(path)
    return path


def tiny_network(classes: int, side: int, seed: int = 5) -> keras.Model:
    """A backbone and a head with random weights, whole."""
    keras.utils.set_random_seed(seed)
    backbone = backbones.build_backbone(NetworkConfig("tiny", "none", image_size=side))
    return heads.classifier(backbone, heads.build_head(backbone.output_shape[-1], classes))
