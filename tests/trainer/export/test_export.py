"""The exported files: what each is made of, and how they are measured."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from classifier.errors import Corrupt
from classifier.registry.manifest import InputSpec
from classifier.serving.footprint import added_memory
from classifier.serving.model import Model
from tests.support import photo_sets
from trainer.data.sampling import calibration_rows
from trainer.data.source import PhotoSource
from trainer.export.litert import VARIANTS, convert, convert_all, reason, with_fusible_relus
from trainer.export.measuring import Compared, measure_variants
from trainer.networks import backbones, heads
from trainer.networks.gradcam import serving_model
from trainer.run.sections import NetworkConfig

SPEC = InputSpec(width=32, height=32)


def _backbone(width: int = 40) -> keras.Model:
    """What Xception has and converters stumble over, small: a ReLU on a sum that the next sum needs as it was."""
    image = keras.Input((16, 16, 3))
    x = image
    for _ in range(3):
        residual = layers.Conv2D(width, 1)(x)
        x = layers.Activation("relu")(residual)
        x = layers.BatchNormalization()(layers.SeparableConv2D(width, 3, padding="same")(x))
        x = layers.Add()([x, residual])
    core = keras.Model(image, layers.ReLU(name="last")(x), name="core")
    photo = keras.Input((32, 32, 3), dtype="uint8", name="image")
    scaled = layers.AveragePooling2D(2)(layers.Rescaling(1 / 127.5, offset=-1.0)(photo))
    return keras.Model(photo, core(scaled), name=backbones.BACKBONE)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = photo_sets.food_101(tmp_path_factory.mktemp("photos"), train=8, test=0)
    return PhotoSource(sorted((root / "images").glob("*/*.jpg")), SPEC)


@pytest.fixture(scope="module")
def networks():
    keras.utils.set_random_seed(5)
    backbone = _backbone()
    head = heads.build_head(backbone.output_shape[-1], 3, (16,))
    # As after a training: logits far enough apart for probabilities that differ.
    head.set_weights([weights * 4 for weights in head.get_weights()])
    return backbone, head


@pytest.fixture(scope="module")
def exported(networks, source):
    """The served network, its files and what failed."""
    backbone, head = networks
    served = serving_model(with_fusible_relus(backbone), head, 1.5)
    return served, *convert_all(served, lambda: (source.array(row) for row in range(len(source))))


def _types(content: bytes) -> Counter:
    """How many tensors of each type a file has."""
    return Counter(tensor["dtype"].__name__ for tensor in Interpreter(model_content=content).get_tensor_details())


def test_every_variant_is_made_of_what_its_name_says(exported):
    _, contents, failures = exported
    assert failures == {}
    assert tuple(contents) == VARIANTS
    types = {name: _types(content) for name, content in contents.items()}
    assert types["float32"]["int8"] == types["float32"]["float16"] == 0
    assert types["float16"]["float16"] > 10
    assert types["int8-dynamic"]["int8"] > 2
    assert types["int8"]["int8"] > 20
    assert len(contents["float16"]) < len(contents["float32"])


def test_every_variant_answers_like_the_network(exported, source):
    served, contents, _ = exported
    # Rounding to 11 bits, of the weights to 8 bits, and of everything to 8 bits.
    for name, limit in {"float32": 1e-4, "float16": 1e-2, "int8-dynamic": 0.1, "int8": 0.15}.items():
        model = Model(contents[name])
        for row in range(0, len(source), 5):
            photo = source.array(row)
            expected, found = served(photo[None]), model.run(photo)
            np.testing.assert_allclose(found.probabilities, expected["probabilities"][0], atol=limit)
            scale = float(np.max(expected["heatmaps"]))
            np.testing.assert_allclose(found.heatmaps, expected["heatmaps"][0], atol=3 * limit * scale)


def test_the_answers_of_int8_are_not_rounded_to_256_steps(exported, source):
    _, contents, _ = exported
    outputs = [Model(contents["int8"]).run(source.array(row)) for row in range(len(source))]
    probabilities = np.stack([output.probabilities for output in outputs])
    assert np.abs(probabilities * 256 - np.round(probabilities * 256)).max() > 0.1
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    # More different values in one heatmap than cells would take in int8 steps of the whole tensor's range.
    heatmap = max((output.heatmaps for output in outputs), key=lambda maps: float(maps.max()))
    steps = heatmap / (heatmap.max() / 255)
    assert np.abs(steps - np.round(steps)).max() > 0.1


def test_a_relu_that_cannot_be_fused_becomes_a_pooling_that_can(networks):
    backbone = networks[0]
    fused = with_fusible_relus(backbone)
    assert fused.name == backbone.name
    pools = [[each for each in _layers(model) if isinstance(each, layers.MaxPooling2D)] for model in (backbone, fused)]
    assert [len(found) for found in pools] == [0, 3]
    photos = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(fused(photos), backbone(photos))
    for weights, copied in zip(backbone.get_weights(), fused.get_weights(), strict=True):
        assert np.array_equal(weights, copied)


def test_int8_has_no_relu_of_its_own_and_answers_in_float32(exported):
    """XNNPACK has no int8 ReLU: each would leave the fast kernels, and cost more than a convolution."""
    content = exported[1]["int8"]
    assert _inputs(content, "MAX_POOL_2D") == {"int8"}
    assert _inputs(content, "RELU") == {"float32"}  # the heatmaps'
    assert _inputs(content, "DEPTHWISE_CONV_2D") == {"int8", "int32"}
    for name in ("SOFTMAX", "BATCH_MATMUL", "FULLY_CONNECTED", "MEAN"):
        assert _inputs(content, name) == {"float32"}, name


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (NetworkConfig("base_cnn", "none", image_size=32), 0),
        (NetworkConfig("mobilenet", "none", image_size=32, alpha=0.25), 0),
        (NetworkConfig("xception", "none", image_size=71), 11),
    ],
)
def test_only_relus_whose_input_goes_elsewhere_too_are_touched(config, count):
    backbone = backbones.build_backbone(config)
    before, after = ([type(layer) for layer in _layers(model)] for model in (backbone, with_fusible_relus(backbone)))
    assert len(after) - len(before) == count
    assert after.count(layers.MaxPooling2D) - before.count(layers.MaxPooling2D) == count


def test_a_variant_that_cannot_be_made_is_told_and_the_others_go_on(networks, source):
    backbone, head = networks

    def missing():
        yield source.array(0)
        raise FileNotFoundError(2, "No such file or directory", "/home/ann/photos/1.jpg")

    contents, failures = convert_all(serving_model(backbone, head), missing)
    assert tuple(contents) == VARIANTS[:-1]
    assert failures == {"int8": "No such file or directory"}


def test_float32_that_cannot_be_made_is_an_error():
    image = keras.Input(batch_shape=(1, 8, 8, 3), dtype="uint8", name="image")
    values = keras.ops.cast(image, "float32")
    served = keras.Model(image, {"probabilities": keras.ops.erfinv(keras.ops.mean(values, axis=(1, 2)) / 300)})
    with pytest.raises(Exception, match=r"(?i)erfinv|custom"):
        convert_all(served, tuple)


def test_a_reason_names_no_folder():
    assert reason(ValueError("\n  Failed at /opt/app/lib/convert.py:12\nmore")) == "Failed at convert.py:12"
    assert reason(ValueError("No room for /home/my name/runs/a b/x.tflite")) == "No room for x.tflite"
    assert reason(ValueError("at 3 ops/s 1/2 of '/my data/x' is left")) == "at 3 ops/s 1/2 of 'x' is left"
    assert reason(RuntimeError()) == "RuntimeError"
    assert len(reason(ValueError("x" * 999))) == 200


def test_measuring_compares_with_float32(exported, source):
    _, contents, _ = exported
    rows = np.arange(len(source))
    labels = np.array([Model(contents["float32"]).run(source.array(row)).probabilities.argmax() for row in rows])
    truth = labels.astype(np.int32)
    truth[:6] = (truth[:6] + 1) % 3
    variants, failures = measure_variants({**contents, "broken": b"no flatbuffer"}, source, Compared(rows, truth), 1)
    assert list(failures) == ["broken"]
    assert "LiteRT file" in failures["broken"]
    by_name = {variant.name: variant for variant in variants}
    assert tuple(by_name) == VARIANTS
    reference = by_name["float32"]
    assert reference.top_1 == pytest.approx(18 / 24)
    assert (reference.damage.agreement, reference.heatmap_correlation) == (1.0, pytest.approx(1.0))
    assert (reference.comparison.top_1_loss, reference.comparison.log_loss_increase) == (0, 0)
    assert (reference.damage.top_1_loss, reference.damage.log_loss_increase) == (0, 0)
    assert by_name["float16"].heatmap_correlation > 0.999
    assert 0.5 < by_name["int8"].heatmap_correlation <= 1
    assert by_name["int8"].damage.agreement >= 0.75
    with pytest.raises(Corrupt):
        measure_variants({"float32": b"no flatbuffer"}, source, Compared(rows, truth), 1)


def test_a_file_whose_answers_are_not_finite_is_a_failure(exported, networks, source):
    backbone, head = networks
    spoilt = keras.models.clone_model(head)
    spoilt.set_weights([weights * np.float32(np.nan) for weights in head.get_weights()])
    content = convert(serving_model(backbone, spoilt), "float32")
    rows, truth = np.arange(2), np.zeros(2, np.int32)
    variants, failures = measure_variants(
        {"float32": exported[1]["float32"], "float16": content}, source, Compared(rows, truth), 1
    )
    assert [variant.name for variant in variants] == ["float32"]
    assert "finite" in failures["float16"]
    with pytest.raises(Corrupt, match="finite"):
        measure_variants({"float32": content}, source, Compared(rows, truth), 1)


def test_memory_is_that_of_the_file_alone(exported):
    small = added_memory(exported[1]["float32"], 1)
    assert len(exported[1]["float32"]) < small < 40e6
    keras.utils.set_random_seed(5)
    backbone = _backbone(width=500)
    head = heads.build_head(backbone.output_shape[-1], 3)
    large = convert(serving_model(backbone, head), "float32")
    assert added_memory(large, 1) > small + (len(large) - len(exported[1]["float32"]))
    assert added_memory(b"no flatbuffer", 1) is None


def test_calibration_photos_are_spread_over_the_classes():
    labels = ["a"] * 50 + ["b"] * 3 + ["c"] * 50
    rows = np.array([row for row in range(103) if row % 2 == 0 or 50 <= row < 53])
    chosen = calibration_rows(labels, rows, 30)
    assert set(chosen) <= set(rows.tolist())
    assert len(set(chosen)) == len(chosen) <= 30
    counts = Counter(labels[row] for row in chosen)
    assert counts == {"a": 10, "b": 3, "c": 10}
    assert {0, 48} <= set(chosen)
    assert len(calibration_rows([str(row) for row in range(500)], np.arange(500), 128)) == 128
    assert calibration_rows(labels, rows[:1], 30).tolist() == [0]


def test_latency_is_measured_as_it_is_served_and_with_all_cpus(exported, source, monkeypatch):
    asked = []

    def measured(contents, photo, threads):
        asked.append(threads)
        return dict.fromkeys(contents, float(threads))

    monkeypatch.setattr("trainer.export.measuring.latencies", measured)
    monkeypatch.setattr("trainer.export.measuring.available_cpus", lambda: 6)
    monkeypatch.setattr("trainer.export.measuring.added_memory", lambda content, threads: threads)
    rows, truth = np.arange(2), np.zeros(2, np.int32)
    (variant,), _ = measure_variants({"float32": exported[1]["float32"]}, source, Compared(rows, truth), 1)
    assert asked == [1, 6]
    row = variant.row()
    assert (row["latency_ms"], row["latency_all_cpus_ms"], row["memory_bytes"]) == (1, 6, 1)


def test_photos_without_labels_and_training_photos_are_compared_too(exported, source, monkeypatch):
    contents = {name: exported[1][name] for name in ("float32", "int8")}
    few, truth = np.arange(3), np.zeros(3, np.int32)
    monkeypatch.setattr("trainer.export.measuring.latencies", lambda files, *_: dict.fromkeys(files, 1.0))
    monkeypatch.setattr("trainer.export.measuring.added_memory", lambda *_: None)
    photos = Compared(few, truth, np.arange(3, 12), np.arange(12, 24))
    alone, more = (
        {each.name: each for each in measure_variants(contents, source, given, 1)[0]}
        for given in (Compared(few, truth), photos)
    )
    assert alone["int8"].top_1 == more["int8"].top_1
    assert alone["int8"].comparison == more["int8"].comparison
    assert alone["int8"].damage.photos == 3
    assert 12 <= more["int8"].damage.photos <= 24
    assert more["int8"].damage.log_loss_resolved < alone["int8"].damage.log_loss_resolved


def test_a_process_that_cannot_tell_its_memory_is_none(exported, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert added_memory(exported[1]["float32"], 1) is None


def _layers(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _inputs(content: bytes, operator: str) -> set[str]:
    """Types of an operator's inputs, without shapes and axes."""
    interpreter = Interpreter(model_content=content)
    types = {tensor["index"]: tensor["dtype"].__name__ for tensor in interpreter.get_tensor_details()}
    details = [each for each in interpreter._get_ops_details() if each["op_name"] == operator]
    used = {types[each["inputs"][0]] for each in details} | {
        types[index] for each in details for index in each["inputs"] if index in types and operator.endswith("CONV_2D")
    }
    assert details
    return used
