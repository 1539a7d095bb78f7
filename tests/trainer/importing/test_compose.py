"""The composed file gives what the foreign one gives, and Grad-CAM as GradientTape computes it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from classifier.serving.model import Model
from tests.support.foreign import ENDINGS, SIDE, dense, network, photo, pooled, run_tflite, to_tflite
from trainer.export.flatbuffer import ALIGNMENT
from trainer.importing.compose import ImageInput, compose
from trainer.importing.graph import Graph
from trainer.importing.scaling import CANDIDATES, PIXELS, Scaling, normalisation, scaling_of
from trainer.importing.tail import tail_of
from trainer.networks.gradcam import relative_error

IMAGE = ImageInput(SIDE, SIDE, channels_first=False)
SIGNED = CANDIDATES["-1..1"]


def composed(content: bytes, scaling: Scaling = SIGNED, temperature: float = 1.0) -> Model:
    graph = Graph(content)
    return Model(compose(graph, IMAGE, tail_of(graph), scaling, temperature))


def scaled(pixels: np.ndarray, scaling: Scaling = SIGNED) -> np.ndarray:
    image = pixels[..., ::-1] if scaling.order == "bgr" else pixels
    return ((image.astype(np.float32) - np.float32(scaling.mean)) / np.float32(scaling.std))[None]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def taped_heatmaps(model: keras.Model, image: np.ndarray) -> np.ndarray:
    """Grad-CAM of each logit by GradientTape; those of a single sigmoid are plus and minus half of its logit."""
    at = next(index for index, layer in enumerate(model.layers) if isinstance(layer, keras.layers.Conv2D) and index > 1)
    at = max(i for i, layer in enumerate(model.layers) if layer.output.shape[1:] == (6, 6, 12)) or at
    features = tf.convert_to_tensor(keras.Model(model.input, model.layers[at].output)(image))
    last = model.layers[-1]
    maps = []
    for label in range(2 if model.output_shape[-1] == 1 else model.output_shape[-1]):
        with tf.GradientTape() as tape:
            tape.watch(features)
            x = features
            for layer in model.layers[at + 1 :]:
                if isinstance(layer, keras.layers.Softmax):
                    continue
                x = x @ layer.kernel + layer.bias if layer is last else layer(x, training=False)
            logit = x[:, 0] * (-0.5, 0.5)[label] if x.shape[-1] == 1 else x[:, label]
        weights = tf.reduce_mean(tape.gradient(logit, features), axis=(1, 2))
        maps.append(tf.nn.relu(tf.einsum("hwc,c->hw", features[0], weights[0])).numpy())
    return np.stack(maps)


@pytest.mark.parametrize("ending", ENDINGS)
def test_probabilities_and_heatmaps_are_those_of_the_network(ending: str):
    model = network(ENDINGS[ending])
    served = composed(to_tflite(model))
    output, image = served.run(photo()), scaled(photo())
    given = np.asarray(model(image))[0]
    if ending == "sigmoid":
        given = np.array([1 - given[0], given[0]])
    np.testing.assert_allclose(output.probabilities, softmax(given) if ending == "logits" else given, atol=1e-5)
    assert served.has_heatmaps
    reference = taped_heatmaps(model, image)
    assert reference.max() > 0
    assert relative_error(output.heatmaps, reference) < 1e-4


@pytest.mark.parametrize("io_type", [tf.uint8, tf.int8])
def test_an_int8_file_is_explained_by_its_own_features(io_type: tf.DType):
    model = network(ENDINGS["two"])
    photos = [scaled(photo(seed))[0] for seed in range(20)]
    content = to_tflite(model, io_type=io_type, photos=photos)
    assert -1 in Interpreter(model_content=content).get_input_details()[0]["shape_signature"]
    graph = Graph(content)
    file = compose(graph, IMAGE, tail_of(graph), PIXELS)
    taken = Interpreter(model_content=file).get_input_details()[0]["shape_signature"]
    assert list(taken) == [1, SIDE, SIDE, 3], "LiteRT.js takes no file that leaves the number of photos open"
    served = Model(file)
    pixels = photo(30)
    into = pixels if io_type == tf.uint8 else (pixels.astype(np.int16) - 128).astype(np.int8)
    output = served.run(pixels)
    np.testing.assert_allclose(output.probabilities, run_tflite(content, into[None])[0], atol=2 / 256)
    reference = taped_heatmaps(model, scaled(pixels))
    label = int(reference.max(axis=(1, 2)).argmax())
    assert np.corrcoef(output.heatmaps[label].ravel(), reference[label].ravel())[0, 1] > 0.95
    told = composed(content, SIGNED).run(pixels)
    np.testing.assert_allclose(told.probabilities, output.probabilities, atol=0.05)


@pytest.fixture(name="one", scope="module")
def one_fixture() -> tuple[keras.Model, bytes]:
    """A network of the usual end, and its file."""
    model = network(ENDINGS["one"])
    return model, to_tflite(model)


@pytest.mark.parametrize("scaling", [*CANDIDATES.values(), normalisation((10.0, 20.0, 30.0), (40.0, 50.0, 60.0))])
def test_pixels_are_scaled_in_the_file(one: tuple[keras.Model, bytes], scaling: Scaling):
    model, content = one
    given = composed(content, scaling).run(photo()).probabilities
    np.testing.assert_allclose(given, np.asarray(model(scaled(photo(), scaling)))[0], atol=1e-4)


def test_channels_may_stand_first():
    image = keras.Input((3, SIDE, SIDE))
    model = keras.Model(image, network(ENDINGS["one"])(keras.layers.Permute((2, 3, 1))(image)))
    graph = Graph(to_tflite(model))
    served = Model(compose(graph, ImageInput(SIDE, SIDE, channels_first=True), tail_of(graph), SIGNED))
    given = served.run(photo()).probabilities
    np.testing.assert_allclose(given, np.asarray(model(scaled(photo()).transpose(0, 3, 1, 2)))[0], atol=1e-5)
    assert served.has_heatmaps


def test_a_temperature_changes_probabilities_and_no_heatmap(one: tuple[keras.Model, bytes]):
    _, content = one
    plain, cooler = composed(content).run(photo()), composed(content, temperature=2.0).run(photo())
    np.testing.assert_allclose(cooler.probabilities, softmax(np.log(plain.probabilities) / 2), atol=1e-6)
    np.testing.assert_array_equal(cooler.heatmaps, plain.heatmaps)


@pytest.mark.parametrize(
    ("ending", "why"),
    [
        (lambda x: dense()(dense(8, "swish")(pooled(x))), "two branches meet"),
        (lambda x: dense()(dense(8, "tanh")(pooled(x))), "TANH"),
        (lambda x: dense()(keras.layers.Flatten()(keras.layers.GlobalAveragePooling2D()(x[:, :1, :1]))), "position"),
    ],
)
def test_an_end_that_cannot_be_differentiated_gives_no_heatmaps_and_says_why(ending, why: str):
    model = network(ending)
    graph = Graph(to_tflite(model))
    tail = tail_of(graph)
    assert tail.head is None
    assert why in tail.why_not
    served = Model(compose(graph, IMAGE, tail, SIGNED))
    assert not served.has_heatmaps
    np.testing.assert_allclose(served.run(photo()).probabilities, np.asarray(model(scaled(photo())))[0], atol=1e-5)


def test_constants_are_aligned_and_what_is_not_needed_is_gone(one: tuple[keras.Model, bytes]):
    _, content = one
    graph = Graph(content)
    written = compose(graph, IMAGE, tail_of(graph), SIGNED)
    packed = schema.Model.GetRootAs(written, 0)
    for index in range(packed.BuffersLength()):
        buffer = packed.Buffers(index)
        if buffer.DataLength():
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            assert start % ALIGNMENT == 0
    assert len(written) < len(content) + 8192
    assert packed.MetadataLength() == 0
    assert Graph(written).outputs != Graph(content).outputs


def test_scalings_have_names_and_numbers():
    assert scaling_of("127.5:127.5") is CANDIDATES["-1..1"]
    assert scaling_of("128:128") is CANDIDATES["-1..1"]
    assert scaling_of("0:1") is CANDIDATES["0..255"]
    assert scaling_of("bgr:103.939,116.779,123.68:1") is CANDIDATES["caffe"]
    assert scaling_of("1,2,3:4").mean == (1.0, 2.0, 3.0)
