"""What happens inside a network: the activations of its layers, and the patterns that its filters answer to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from classifier.errors import InvalidRequest
from trainer.networks import backbones

USUAL_LAYERS = 3
CHANNELS = 7
"""Of each layer that is shown."""
PATTERNS = 4
"""Filters of each layer whose patterns are sought."""
STEPS = 40
STEP_SIZE = 0.06
JITTER = 6
"""Pixels: a pattern that only works at one exact place is noise."""
PATTERN_SIDE = 128
"""Pixels, if the network's input is not smaller: a network of convolutions works at any size."""


@dataclass(frozen=True)
class Layer:
    """One layer of a backbone and what it made of a photo."""

    name: str
    maps: NDArray[np.float32]
    """[rows, columns, channels]."""

    def strongest(self, count: int = CHANNELS) -> list[int]:
        """Return the channels that differ most over the photo: those that found something in it."""
        return [int(channel) for channel in np.argsort(-self.maps.std(axis=(0, 1)), kind="stable")[:count]]

    def picture(self, channel: int) -> NDArray[np.uint8]:
        """Return one channel as grey levels, uint8 [rows, columns], from its lowest value to its highest."""
        plane = self.maps[..., channel]
        low, high = float(plane.min()), float(plane.max())
        return np.round((plane - low) / max(high - low, 1e-9) * 255).astype(np.uint8)


def load_backbone(model_file: Path) -> keras.Model:
    """Return the backbone of a bundle's ``model.keras``: uint8 photos -> features."""
    model = keras.saving.load_model(model_file, compile=False)
    backbone: keras.Model = model.get_layer(backbones.BACKBONE)
    return backbone


def choose_layers(backbone: keras.Model, names: Sequence[str] = ()) -> list[str]:
    """Return names of layers: those asked for, or `USUAL_LAYERS` spread over the backbone's activations.

    Raises:
        InvalidRequest: there is no such layer, or it has no rows and columns.
    """
    core = backbones.backbone_core(backbone)
    spatial = [layer.name for layer in core.layers if len(getattr(layer.output, "shape", ())) == 4][1:]
    for name in names:
        if name not in spatial:
            close = [each for each in spatial if each[:5] == name[:5]][:8] or spatial[:: max(1, len(spatial) // 8)]
            raise InvalidRequest(
                f"Expected --layers to name layers of {core.name} with rows and columns, such as "
                f"{', '.join(close)}; received {name!r}."
            )
    if names:
        return list(names)
    kinds = (layers.ReLU, layers.Activation)
    active = [layer.name for layer in core.layers if isinstance(layer, kinds) and layer.name in spatial] or spatial
    count = min(USUAL_LAYERS, len(active))
    return [active[round((number + 0.5) / count * len(active) - 0.5)] for number in range(count)]


def activations(
    backbone: keras.Model, kind: backbones.Architecture, names: Sequence[str], photo: NDArray[np.uint8]
) -> list[Layer]:
    """Return what layers make of one photo, uint8 [H, W, 3]."""
    core = backbones.backbone_core(backbone)
    probe = _probe(core, kind, [core.get_layer(name).output for name in names])
    found = probe.predict(photo[None].astype(np.float32), verbose=0)
    found = found if isinstance(found, (list, tuple)) else [found]
    return [Layer(name, np.asarray(maps[0], np.float32)) for name, maps in zip(names, found, strict=True)]


def patterns(
    backbone: keras.Model, kind: backbones.Architecture, name: str, channels: Sequence[int], seed: int = 0
) -> NDArray[np.uint8]:
    """Return for each channel of a layer a picture that it answers to strongly, uint8 [channels, side, side, 3].

    Gradient ascent on the channel's mean (Erhan et al. 2009), from noise with equal power at all scales, on the
    picture's Fourier coefficients and with random shifts, which keeps high frequencies down (Olah et al. 2017).
    Of a rectifier its input is climbed: where it is closed it has no gradient. Needs the TensorFlow backend.

    Args:
        backbone: uint8 photos -> features.
        kind: its architecture, for the scaling of pixels.
        name: of the layer.
        channels: which of its channels.
        seed: of the noise and the shifts.
    """
    import tensorflow as tf

    core = backbones.backbone_core(backbone)
    layer = core.get_layer(name)
    rectifier = isinstance(layer, (layers.ReLU, layers.Activation))
    part = keras.Model(core.input, layer.input if rectifier else layer.output)
    side = min(core.input_shape[1], PATTERN_SIDE)
    smaller = keras.models.clone_model(part, input_tensors=keras.Input((side, side, 3)))
    smaller.set_weights(part.get_weights())
    probe = _probe(smaller, kind, smaller.outputs[0])
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    # A quarter of what gives unit power at all scales: the sigmoid is not to saturate.
    scale = tf.constant((side / 4 / np.maximum(frequency, 1 / side)).astype(np.complex64)[None, None])
    start = rng.normal(0, 0.01, (2, len(channels), 3, *frequency.shape)).astype(np.float32)
    parts = tf.Variable(start)
    wanted = tf.one_hot(list(channels), probe.output_shape[-1])[:, None, None]
    optimizer = keras.optimizers.Adam(STEP_SIZE)
    optimizer.build([parts])

    def picture() -> Any:
        waves = tf.signal.irfft2d(tf.complex(parts[0], parts[1]) * scale, [side, side])
        return tf.sigmoid(tf.transpose(waves, [0, 2, 3, 1])) * 255.0

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def climb(shift: Any) -> None:
        with tf.GradientTape() as tape:
            seen = tf.roll(picture(), shift, [1, 2])
            height = tf.reduce_mean(tf.cast(probe(seen, training=False), tf.float32) * wanted, axis=(1, 2, 3))
            loss = -tf.reduce_sum(height)
        optimizer.apply([tape.gradient(loss, parts)])

    for shift in rng.integers(-JITTER, JITTER + 1, (STEPS, 2)):
        climb(tf.constant(shift, tf.int32))
    found: NDArray[np.uint8] = np.round(picture().numpy()).astype(np.uint8)
    return found


def _probe(core: keras.Model, kind: backbones.Architecture, outputs: Any) -> keras.Model:
    """Return a model from pixels in 0..255 to tensors inside the core."""
    pixels = keras.Input(core.input_shape[1:], dtype="float32")
    return keras.Model(pixels, keras.Model(core.input, outputs)(kind.scaling(pixels)))
