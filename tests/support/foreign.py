"""Models as they come from elsewhere: small networks in every kind of file, and what TensorFlow Lite Support packs."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from tests.support.bundles import TINY_COLOURS, colour_photo
from trainer.importing.graph import IDENTIFIER
from trainer.importing.metadata import NAME
from trainer.importing.scaling import Scaling

SIDE, CLASSES = 32, 4
Ending = Callable[[Any], Any]


def backbone(seed: int = 3) -> keras.Model:
    """Features [n, 6, 6, 12] of images [n, 32, 32, 3]."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 5, strides=2, activation="relu", bias_initializer="random_normal")(image)
    x = layers.DepthwiseConv2D(3, activation="relu6")(x)
    return keras.Model(image, layers.Conv2D(12, 1, strides=2, activation="relu")(x))


def pooled(x: Any) -> Any:
    """The usual pooling."""
    return layers.GlobalAveragePooling2D()(x)


def dense(units: int = CLASSES, activation: str | None = "softmax") -> layers.Dense:
    """A layer whose biases are not 0."""
    return layers.Dense(units, activation=activation, bias_initializer="random_normal")


ENDINGS: dict[str, Ending] = {
    "one": lambda x: dense()(pooled(x)),
    "logits": lambda x: dense(activation=None)(pooled(x)),
    "two": lambda x: dense()(dense(10, "relu")(pooled(x))),
    "three": lambda x: dense()(dense(9, "relu6")(layers.BatchNormalization()(dense(10, "relu")(pooled(x))))),
    "max": lambda x: dense()(dense(10, "relu")(layers.GlobalMaxPooling2D()(x))),
    "flatten": lambda x: dense()(dense(10, "relu")(layers.Flatten()(x))),
    "convolutions": lambda x: layers.Softmax()(layers.Reshape((CLASSES,))(_one_by_one(x))),
    "maps": lambda x: layers.Softmax()(pooled(layers.Conv2D(CLASSES, 1)(x))),
    "sigmoid": lambda x: dense(1, "sigmoid")(pooled(x)),
}
"""Ends that can be differentiated."""


def _one_by_one(x: Any) -> Any:
    kept = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return layers.Conv2D(CLASSES, 1)(layers.Conv2D(10, 1, activation="relu")(kept))


def network(ending: Ending) -> keras.Model:
    """The backbone with an end."""
    base = backbone()
    return keras.Model(base.input, ending(base.output))


def to_tflite(model: keras.Model, *, io_type: Any = None, photos: Any = None) -> bytes:
    """Convert, to full int8 with photos (as the network takes them) and inputs and outputs of a type."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if photos is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([photo[None]] for photo in photos)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = io_type
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs were expected")
        content: bytes = converter.convert()
    return content


def run_tflite(content: bytes, image: np.ndarray) -> np.ndarray:
    """Run a file as it is; what is quantised is told as real numbers."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.set_tensor(into["index"], image)
    interpreter.invoke()
    given = interpreter.get_tensor(out["index"])
    scale, zero = out["quantization"]
    return (given.astype(np.float32) - zero) * scale if scale else given


def with_metadata(content: bytes, labels: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> bytes:
    """Write metadata and a packed label file as Model Maker and AutoML do."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    model.buffers.append(schema.BufferT(data=np.frombuffer(_metadata("labels.txt", mean, std), np.uint8)))
    model.metadata = [schema.MetadataT(name=NAME.decode(), buffer=len(model.buffers) - 1)]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    packed = io.BytesIO(bytes(builder.Output()))
    packed.seek(0, io.SEEK_END)
    with zipfile.ZipFile(packed, "a") as files:
        files.writestr("labels.txt", "\n".join(labels) + "\n")
    return packed.getvalue()


def _metadata(file: str, mean: Sequence[float], std: Sequence[float]) -> bytes:
    """A ModelMetadata of the schema M001, field by field."""
    builder = flatbuffers.Builder(1024)
    name = builder.CreateString(file)
    numbers = [builder.CreateNumpyVector(np.array(each, np.float32)) for each in (mean, std)]
    options = _table(builder, 2, {0: numbers[0], 1: numbers[1]})
    unit = _table(builder, 2, {1: options}, {0: 1})
    packed = _table(builder, 3, {0: name}, {2: 2})
    image = _table(builder, 7, {4: _vector(builder, [unit])})
    scores = _table(builder, 7, {6: _vector(builder, [packed])})
    sub = _table(builder, 4, {2: _vector(builder, [image]), 3: _vector(builder, [scores])})
    builder.Finish(_table(builder, 4, {3: _vector(builder, [sub])}), file_identifier=b"M001")
    return bytes(builder.Output())


def _table(
    builder: flatbuffers.Builder, fields: int, offsets: dict[int, int], bytes_: dict[int, int] | None = None
) -> int:
    builder.StartObject(fields)
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    for field, value in (bytes_ or {}).items():
        builder.PrependInt8Slot(field, value, 0)
    return int(builder.EndObject())


def _vector(builder: flatbuffers.Builder, tables: Sequence[int]) -> int:
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())


LABELS = tuple(TINY_COLOURS)


def colour_network() -> keras.Model:
    """Tells red, green, blue and grey apart in a photo scaled to -1..1: with 0..1 it collapses."""
    image = keras.Input((SIDE, SIDE, 3))
    features = layers.Conv2D(4, 8, strides=8, activation="relu", name="features")
    logits = layers.Dense(4, activation="softmax", use_bias=False)
    model = keras.Model(image, logits(layers.GlobalAveragePooling2D()(features(image))))
    # Blue, green, red: how far a channel is above the mean of the others; grey: how little any is, by 1 - |values|.
    kernel = np.zeros((8, 8, 3, 4), np.float32)
    for number, channel in ((LABELS.index("blue"), 2), (LABELS.index("green"), 1), (LABELS.index("red"), 0)):
        kernel[..., number] = np.where(np.arange(3) == channel, 1, -0.5) / 64
    kernel[..., LABELS.index("grey")] = np.array([1, 1, 1]) / 64
    bias = np.zeros(4, np.float32)
    bias[LABELS.index("grey")] = 0.55
    features.set_weights([kernel, bias])
    logits.set_weights([np.diag([12.0 if name != "grey" else 8.0 for name in LABELS]).astype(np.float32)])
    return model


@pytest.fixture(scope="session", name="photos")
def labelled_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos of each colour, in folders whose names are spelled otherwise than the labels."""
    folder = tmp_path_factory.mktemp("photos")
    for label in LABELS:
        (folder / label.title()).mkdir()
        for seed in range(12):
            (folder / label.title() / f"{seed}.png").write_bytes(colour_photo(label, seed=seed))
    return folder


def scaled_by(scaling: Scaling, pixels: np.ndarray) -> np.ndarray:
    """Pixels [H, W, 3] as a network takes them."""
    image = pixels[..., ::-1] if scaling.order == "bgr" else pixels
    return (image.astype(np.float32) - np.float32(scaling.mean)) / np.float32(scaling.std)


def photo(seed: int = 0) -> np.ndarray:
    """Coarse noise, uint8 [32, 32, 3]."""
    cells = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return cells.repeat(SIDE // 8, 0).repeat(SIDE // 8, 1)


def saved(model: keras.Model, folder: Path) -> Path:
    """Write a SavedModel as Keras does."""
    model.export(str(folder), verbose=False)
    return folder
