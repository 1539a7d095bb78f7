"""A backbone that looks at smaller photos: the same layers on a smaller grid, for the first epochs of fine-tuning."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from classifier.errors import InvalidRequest
from trainer.networks.backbones import BACKBONE, backbone_core


def smaller_backbone(backbone: keras.Model, side: int) -> keras.Model:
    """Return a backbone that scales photos down before it looks at them, sharing all layers with another.

    Args:
        backbone: uint8 [n, H, W, 3] -> features [n, h, w, channels].
        side: pixels, at which its layers see photos.

    Returns:
        The same, but for the size of the features.

    Raises:
        InvalidRequest: its layers cannot be put on that grid.
    """
    core = backbone_core(backbone)
    try:
        small = keras.models.clone_model(
            core, input_tensors=keras.Input((side, side, 3)), clone_function=lambda layer: layer
        )
        image = keras.Input(backbone.input_shape[1:], dtype="uint8", name="image")
        x = Smaller(side)(image)
        for layer in backbone.layers[1:]:
            x = small(x) if layer is core else layer(x)
    except ValueError as error:
        raise InvalidRequest(
            f"{core.name} cannot look at photos of {side} pixels (--first-image-size): {' '.join(str(error).split())}"
        ) from error
    return keras.Model(image, x, name=BACKBONE)


class Smaller(layers.Layer):  # type: ignore[misc]
    """Scales photos [n, H, W, 3] down to [n, side, side, 3] in float32, each pixel the mean of those that it covers."""

    def __init__(self, side: int) -> None:
        super().__init__(dtype="float32")
        self.side = side

    def call(self, photos: Any) -> Any:
        """Return the smaller photos."""
        size = (self.side, self.side)
        return ops.image.resize(
            ops.cast(photos, "float32"), size, interpolation="bilinear", antialias=True, data_format="channels_last"
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the smaller photos."""
        return (input_shape[0], self.side, self.side, input_shape[-1])
