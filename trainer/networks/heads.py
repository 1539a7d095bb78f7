"""The head: from pooled features to logits, and the whole network of a backbone and a head."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from classifier.errors import InvalidRequest

HEAD, POOLING, LOGITS = "head", "pooling", "logits"


def build_head(
    channels: int, classes: int, hidden: Sequence[int] = (), dropout: float = 0.2, decay: float = 0.0
) -> keras.Model:
    """Return the model ``head``: pooled features [n, channels] -> logits [n, classes].

    Args:
        channels: of the backbone's features.
        classes: how many labels.
        hidden: widths of up to two dense layers with ReLU, each behind a dropout.
        dropout: share of values dropped before each dense layer.
        decay: of the dense kernels: their squares times this are added to the loss (L2).

    Raises:
        InvalidRequest: more than two hidden layers, or one without a width.
    """
    if len(hidden) > 2:
        raise InvalidRequest(f"Expected at most two hidden layers; received {len(hidden)}.")
    if any(width < 1 for width in hidden):
        raise InvalidRequest(f"Expected hidden layers of 1 or more; received {', '.join(map(str, hidden))}.")
    pooled = keras.Input((channels,), name="pooled")
    penalty = keras.regularizers.L2(decay) if decay else None
    x = pooled
    for number, width in enumerate(hidden, start=1):
        x = layers.Dropout(dropout)(x)
        x = layers.Dense(width, activation="relu", kernel_regularizer=penalty, name=f"hidden_{number}")(x)
    x = layers.Dropout(dropout)(x)
    logits = layers.Dense(classes, kernel_regularizer=penalty, name=LOGITS)(x)
    return keras.Model(pooled, logits, name=HEAD)


def convolved(convolution: layers.Conv2D, head: keras.Model, shape: Sequence[int]) -> keras.Model:
    """Return what is trained on the features of a frozen backbone where a convolution stands before the pooling.

    Args:
        convolution: shared with the backbone.
        head: pooled outputs of the convolution -> logits.
        shape: of the features of one photo, (rows, columns, channels).

    Returns:
        Features [n, rows, columns, channels] -> logits [n, classes].
    """
    features = keras.Input(shape, name="features")
    pooled = layers.GlobalAveragePooling2D(name=POOLING, dtype="float32")(convolution(features))
    return keras.Model(features, head(pooled), name="convolved_head")


def classifier(backbone: keras.Model, head: keras.Model, augmentation: keras.Model | None = None) -> keras.Model:
    """Return the whole network: uint8 photos [n, H, W, 3] -> logits [n, classes]."""
    image = keras.Input(backbone.input_shape[1:], dtype="uint8", name="image")
    seen = augmentation(image) if augmentation is not None else image
    pooled = layers.GlobalAveragePooling2D(name=POOLING, dtype="float32")(backbone(seen))
    return keras.Model(image, head(pooled), name="classifier")
