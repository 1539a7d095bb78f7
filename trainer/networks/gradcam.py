"""Grad-CAM as part of the forward pass, for every class at once, with no gradient computed.

Selvaraju et al. 2017 weigh the features f[h, w, c] by the spatial mean of d logit_k / d f and keep what is positive.
Behind global average pooling that gradient is the same at every position: with z = mean(f) and dense layers
a_i = relu(a_(i-1) W_i + b_i), it is G_k = (W_n[:, k] masked by a_(n-1) > 0) W_(n-1)^T ... / (h w). So the heatmap of
class k is relu(sum_c f[.., c] G_k[c]) / (h w): exact, and cheap beside the convolutions.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from trainer.networks.ood_score import OodScore, OodScoreLayer


@keras.saving.register_keras_serializable(package="pointer")
class GradCam(layers.Layer):  # type: ignore[misc]
    """Features [n, h, w, channels] -> heatmaps [n, classes, h, w] of a head's dense layers.

    Args:
        denses: the head's dense layers, first to last; all but the last end in ReLU. Their weights are shared.
    """

    def __init__(self, denses: list[layers.Dense], **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        # Held in a tuple that Keras does not track: the weights belong to the head and are saved there.
        self._denses = tuple(denses)

    def call(self, features: Any) -> Any:
        """Return the heatmaps."""
        rows, columns = features.shape[1:3]
        activation = ops.mean(features, axis=(1, 2))
        masks = []
        for dense in self._denses[:-1]:
            activation = ops.relu(ops.matmul(activation, dense.kernel) + dense.bias)
            masks.append(ops.cast(activation > 0, features.dtype))
        gradient = ops.transpose(self._denses[-1].kernel)[None]
        for dense, mask in zip(reversed(self._denses[:-1]), reversed(masks), strict=True):
            gradient = ops.matmul(gradient * mask[:, None, :], ops.transpose(dense.kernel))
        # One matrix product [n, classes, channels] x [n, channels, h w].
        flat = ops.reshape(features, (-1, rows * columns, features.shape[3]))
        maps = ops.matmul(gradient, ops.transpose(flat, (0, 2, 1)))
        return ops.relu(ops.reshape(maps, (-1, maps.shape[1], rows, columns))) / (rows * columns)


def serving_model(
    backbone: keras.Model,
    head: keras.Model,
    temperature: float = 1.0,
    score: OodScore | None = None,
    batch: int | None = 1,
) -> keras.Model:
    """Return the network that is exported: ``image`` uint8 [1, H, W, 3] -> ``probabilities``, ``heatmaps``, ``score``.

    Args:
        backbone: photos -> features.
        head: pooled features -> logits.
        temperature: what the logits are divided by before the softmax; the heatmaps are of the logits as they are.
        score: how the score is computed; None leaves it out.
        batch: photos at once; None for any number.
    """
    image = keras.Input(batch_shape=(batch, *backbone.input_shape[1:]), dtype="uint8", name="image")
    features = backbone(image, training=False)
    pooled = layers.GlobalAveragePooling2D(name="pooling")(features)
    logits = layers.Rescaling(1 / temperature, name="temperature")(head(pooled, training=False))
    probabilities = layers.Softmax(name="probabilities")(logits)
    heatmaps = GradCam(dense_layers(head), name="heatmaps")(features)
    outputs = {"probabilities": probabilities, "heatmaps": heatmaps}
    if score is not None:
        outputs["score"] = OodScoreLayer(score, name="score")(pooled, logits)
    return keras.Model(image, outputs, name="served")


def dense_layers(head: keras.Model) -> list[layers.Dense]:
    """Return the head's dense layers, first to last."""
    return [layer for layer in head.layers if isinstance(layer, layers.Dense)]


def gradient_tape_heatmaps(backbone: keras.Model, head: keras.Model, photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the heatmaps [classes, h, w] of one photo [H, W, 3] the classic way: the reference for `GradCam`.

    Needs the TensorFlow backend.
    """
    import tensorflow as tf

    features = tf.convert_to_tensor(backbone(photo[None], training=False))
    maps = []
    for k in range(head.output_shape[-1]):
        with tf.GradientTape() as tape:
            tape.watch(features)
            logit = head(tf.reduce_mean(features, axis=(1, 2)), training=False)[:, k]
        weights = tf.reduce_mean(tape.gradient(logit, features), axis=(1, 2))
        maps.append(tf.nn.relu(tf.einsum("hwc,c->hw", features[0], weights[0])).numpy())
    return np.stack(maps)


def relative_error(found: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Return the largest difference, relative to the reference's largest value."""
    return float(np.abs(found - reference).max() / max(float(np.abs(reference).max()), 1e-12))
