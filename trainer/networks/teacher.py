"""A trained network that teaches another one: frozen, and asked about the very view of a photo that its pupil sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from trainer.networks import heads
from trainer.run.sections import Precision


class Teacher(layers.Layer):  # type: ignore[misc]
    """Views [n, H, W, 3] in 0..255 -> the logits [n, classes] of a frozen network, of any input size.

    A view of another size is resized, antialiased where it shrinks. The weights are no part of what is saved: a
    checkpoint of the pupil is as small as without a teacher.

    Args:
        network: uint8 photos [n, h, w, 3] -> logits [n, its classes]; becomes frozen.
        columns: which of its classes the pupil has, in the pupil's order.
        precision: of the backbone's arithmetic.
    """

    def __init__(self, network: keras.Model, columns: Sequence[int], precision: Precision = "float32") -> None:
        super().__init__(name="teacher", dtype="float32", autocast=False, trainable=False)
        network.trainable = False
        _compute_in(network, precision)
        self.columns = tuple(columns)
        # Its layers are not found as this one's: the weights below stand for theirs.
        self._hidden = _Hidden(network)
        self._frozen = [
            self.add_weight(
                each.shape,
                keras.initializers.Constant(ops.convert_to_numpy(each)),
                dtype=each.dtype,
                trainable=False,
                name=f"frozen_{number}",
            )
            for number, each in enumerate(network.non_trainable_variables)
        ]

    @property
    def classes(self) -> int:
        """Return how many classes the pupil has."""
        return len(self.columns)

    def call(self, views: Any) -> Any:
        """Return the logits, float32."""
        network = self._hidden.network
        size = tuple(network.input_shape[1:3])
        if tuple(views.shape[1:3]) != size:
            views = ops.image.resize(
                ops.cast(views, "float32"), size, "bilinear", antialias=True, data_format="channels_last"
            )
        weights = [each.value for each in self._frozen]
        logits, _ = network.stateless_call([], weights, views, training=False)
        return ops.stop_gradient(ops.take(ops.cast(logits, "float32"), np.array(self.columns), axis=1))

    def compute_output_shape(self, shape: Sequence[int | None]) -> tuple[int | None, int]:
        """Return (n, classes)."""
        return shape[0], self.classes

    def save_own_variables(self, store: Any) -> None:
        """Save nothing."""

    def load_own_variables(self, store: Any) -> None:
        """Load nothing."""


def taught_classifier(
    backbone: keras.Model, head: keras.Model, teacher: Teacher, augmentation: keras.Model | None = None
) -> keras.Model:
    """Return photos [n, H, W, 3] -> [n, 2 * classes]: the pupil's logits, then the teacher's of the same view.

    The pupil's part is that of `heads.classifier`.
    """
    image = keras.Input(backbone.input_shape[1:], dtype="uint8", name="image")
    view = augmentation(image) if augmentation is not None else image
    pooled = layers.GlobalAveragePooling2D(name=heads.POOLING, dtype="float32")(backbone(view))
    both = layers.Concatenate(name="pupil_and_teacher", dtype="float32")([head(pooled), teacher(view)])
    return keras.Model(image, both, name="taught_classifier")


def taught_head(head: keras.Model) -> keras.Model:
    """Return (features, the teacher's logits of the same views) -> what `taught_classifier` returns."""
    taught = keras.Input(head.output_shape[1:], name="taught")
    both = layers.Concatenate(name="pupil_and_teacher", dtype="float32")([head.output, taught])
    return keras.Model([head.input, taught], both, name="taught_head")


class _Hidden:
    """Keeps a network from being found, and saved, as a part of the layer that uses it."""

    def __init__(self, network: keras.Model) -> None:
        self.network = network


def _compute_in(network: keras.Model, precision: Precision) -> None:
    """Let a network's backbone compute in a precision; its weights are and stay float32."""
    if precision == "float32":
        return
    for part in network.layers:
        if isinstance(part, keras.Model) and part.name != heads.HEAD:
            for layer in part._flatten_layers(include_self=False):
                layer.dtype_policy = precision
