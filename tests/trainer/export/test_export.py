"""The exported files: what each is made of, how they are measured, and which is served."""

from __future__ import annotations

import dataclasses
import io
import re
from collections import Counter

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from rich.console import Console

from classifier.errors import Corrupt, InvalidRequest
from classifier.registry.manifest import InputSpec
from classifier.serving.footprint import added_memory
from classifier.serving.model import Model
from tests.support import photo_sets
from trainer.data.sampling import calibration_rows
from trainer.data.source import PhotoSource
from trainer.export.choice import LEAST_LOG_LOSS, choose
from trainer.export.litert import VARIANTS, convert, convert_all, reason, with_fusible_relus
from trainer.export.measuring import Compared, Variant, measure_variants
from trainer.metrics.comparison import Comparison, Damage, compare, damage, weights_of_learnt
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


def test_a_comparison_by_labels_is_paired():
    """600 photos of which 30 change sides, 18 for the worse: unpaired, 2 points would be far within chance."""
    truth = np.zeros(600, np.int32)
    reference, found = np.tile(np.float32([0.6, 0.4]), (600, 1)), np.tile(np.float32([0.6, 0.4]), (600, 1))
    reference[:12], found[:12] = reference[:12, ::-1], (0.55, 0.45)
    found[12:30] = (0.45, 0.55)
    told = compare(reference, found, truth)
    assert told.top_1_loss == pytest.approx(6 / 600)
    # Agresti and Min: (6 - 1.645 * sqrt(31 - 36 / 602)) / 602.
    assert told.top_1_loss_low == pytest.approx(-0.00523, abs=1e-4)
    assert told.log_loss_increase == pytest.approx((12 * np.log(0.4 / 0.55) + 18 * np.log(0.6 / 0.45)) / 600, abs=1e-6)
    assert told.log_loss_increase - 0.005 < told.log_loss_increase_low < told.log_loss_increase


def test_what_a_change_costs_is_expected_of_float32_and_needs_no_label():
    """Of 600 photos 30 get another label, which was 0.1 less probable."""
    reference, found = np.tile(np.float32([0.55, 0.45]), (600, 1)), np.tile(np.float32([0.55, 0.45]), (600, 1))
    found[:30] = (0.48, 0.52)
    told = damage(reference, found)
    assert told.photos == pytest.approx(600)
    assert told.agreement == pytest.approx(570 / 600)
    assert told.agreement_low == pytest.approx(0.9294, abs=1e-3)
    assert told.top_1_loss == pytest.approx(0.1 * 30 / 600)
    assert told.log_loss_increase == pytest.approx(
        (0.55 * np.log(0.55 / 0.48) + 0.45 * np.log(0.45 / 0.52)) * 30 / 600, rel=1e-4
    )
    # Labels drawn as float32 says lose as much, on average over many draws.
    rng = np.random.default_rng(0)
    drawn = [compare(reference, found, (rng.random(600) > 0.55).astype(np.int32)) for _ in range(400)]
    assert np.mean([each.top_1_loss for each in drawn]) == pytest.approx(told.top_1_loss, abs=0.002)
    assert np.mean([each.log_loss_increase for each in drawn]) == pytest.approx(told.log_loss_increase, abs=0.0005)
    # And each draw is far from it, which is what the probabilities spare: by far more than they leave open.
    assert np.std([each.top_1_loss for each in drawn]) * 1.645 > 5 * told.top_1_resolved
    few = damage(reference[::10], found[::10])
    assert few.top_1_resolved > 3 * told.top_1_resolved
    assert 0 < damage(reference[:70], reference[:70]).top_1_loss_high < 0.03


def test_training_photos_count_as_far_as_float32_is_as_unsure_of_them():
    rng = np.random.default_rng(4)

    def photos(margins):
        return np.stack([(1 + margins) / 2, (1 - margins) / 2], axis=1).astype(np.float32)

    unseen = photos(rng.uniform(0, 1, 500))
    learnt = photos(np.concatenate([np.linspace(0.005, 0.19, 20), rng.uniform(0.3, 1, 480)]))
    weights = weights_of_learnt(unseen, learnt)
    unsure = learnt.max(axis=1) < 0.6
    assert weights.max() == 1
    assert weights[unsure] == pytest.approx(1, abs=0.01)
    # A fifth of the whole weight for each fifth of the unseen, of which the first has 20 photos.
    assert weights.sum() == pytest.approx(100, rel=0.15)
    assert weights[unsure].sum() / weights.sum() == pytest.approx(0.2, abs=0.03)
    # None that is as unsure: none counts. As many as of the unseen: all count alike.
    assert not weights_of_learnt(unseen, photos(rng.uniform(0.5, 1, 300))).any()
    assert weights_of_learnt(unseen, unseen) == pytest.approx(1)
    assert weights_of_learnt(unseen, unseen[:0]).shape == (0,)
    # Of a file that spoils the unsure ones alone they then tell what the others tell.
    spoilt = [photos(np.where(each.max(axis=1) < 0.55, -0.05, 2 * each.max(axis=1) - 1)) for each in (unseen, learnt)]
    counted = damage(learnt, spoilt[1], weights)
    assert counted.agreement == pytest.approx(damage(unseen, spoilt[0]).agreement, abs=0.03)
    assert damage(learnt, spoilt[1]).agreement > 0.97 > 0.93 > counted.agreement


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


def test_a_gain_on_few_photos_does_not_hide_a_file_that_is_less_sure():
    """70 photos, two more right than float32's, and yet the truth lost probability nearly everywhere."""
    rng = np.random.default_rng(3)
    truth = np.zeros(70, np.int32)
    sure = rng.uniform(0.55, 0.95, 70)
    reference = np.stack([sure, 1 - sure], 1).astype(np.float32)
    worse = sure - rng.uniform(0, 0.3, 70).clip(0, sure - 0.51)
    found = np.stack([worse, 1 - worse], 1).astype(np.float32)
    reference[:2], found[:2] = (0.499, 0.501), (0.501, 0.499)
    told = compare(reference, found, truth)
    assert told.top_1_loss < 0
    fast = dataclasses.replace(MEASURED[3], comparison=told, damage=damage(reference, found))
    choice = choose([MEASURED[0], fast], {}, 0.005)
    assert choice.served.name == "float32"
    assert re.fullmatch(
        r"may lose 0\.\d{3} in log-loss against float32 \(95% bound\), more than 0\.050", choice.refused["int8"]
    )
    assert choose([MEASURED[0], fast], {}, 0.05).served.name == "int8"


def test_what_labels_prove_speaks_against_a_file_whatever_float32_believes():
    """A float32 file that takes nothing for sure: by its probabilities other labels are as good."""
    truth = np.zeros(200, np.int32)
    reference, found = (np.tile(np.float32(each), (200, 1)) for each in ((0.501, 0.499), (0.501, 0.499)))
    found[:40] = (0.499, 0.501)
    spoilt = dataclasses.replace(
        MEASURED[3], comparison=compare(reference, found, truth), damage=damage(reference, found)
    )
    assert spoilt.damage.top_1_loss < 0.005
    choice = choose([MEASURED[0], spoilt], {}, 0.005)
    assert choice.refused["int8"] == (
        "loses 20.0 points of top-1 on the validation photos, and more than the tolerance of 0.5 by the 95% bound"
    )


def _variant(name: str, top_1: float, latency_ms: float, size: int) -> Variant:
    loss = 0.80 - top_1
    lost = Damage(200, 0.9, 0.85, loss, loss + 0.02, 0.0, LEAST_LOG_LOSS)
    measured = Comparison(loss, loss - 0.02, 0.0, -0.01)
    return Variant(name, b"x" * size, top_1, measured, lost, 0.9, latency_ms, latency_ms / 2, None)


MEASURED = [
    _variant("float32", 0.80, 10.0, 90),
    _variant("float16", 0.80, 10.1, 45),
    _variant("int8-dynamic", 0.796, 6.1, 25),
    _variant("int8", 0.79, 3.0, 24),
]


@pytest.mark.parametrize(
    ("tolerance", "expected"), [(0.0, "float16"), (0.005, "int8-dynamic"), (0.01, "int8"), (1.0, "int8")]
)
def test_the_fastest_within_the_tolerance_is_served_and_the_smaller_of_equals(tolerance, expected):
    choice = choose(MEASURED, {}, tolerance)
    assert choice.served.name == expected
    assert not choice.overridden
    assert choice.warning is None
    assert "overridden" not in choice.table()[expected]


def test_a_variant_asked_for_is_served_whatever_it_loses():
    choice = choose(MEASURED, {}, 0.005, "int8")
    assert choice.served.name == "int8"
    assert choice.table()["int8"]["overridden"] is True
    assert choice.warning == (
        "int8 loses 1.0 points of top-1 against float32, more than the tolerance of 0.5; "
        "it is served because --variant asks for it."
    )
    within = choose(MEASURED, {}, 0.005, "float16")
    assert (within.served.name, within.warning) == ("float16", None)
    with pytest.raises(InvalidRequest, match=r"int8 cannot: no photo\."):
        choose(MEASURED[:3], {"int8": "no photo"}, 0.005, "int8")


def test_the_table_tells_what_failed_and_fits_a_terminal():
    measured = [*MEASURED[:1], dataclasses.replace(MEASURED[2], memory=123_456_789)]
    choice = choose(measured, {"float16": "cannot", "int8": "[no] photo"}, 0.0, "int8-dynamic")
    table = choice.table()
    assert list(table) == list(VARIANTS)
    assert table["int8"] == {"failed": "[no] photo"}
    assert table["int8-dynamic"]["memory_bytes"] == 123_456_789
    assert "memory_bytes" not in table["float32"]
    said = io.StringIO()
    choice.show(Console(file=said, width=80), Compared(np.arange(200), np.zeros(200, np.int32)), 1)
    lines = said.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("variants, top-1 of 200 validation photos")
    assert any(re.match(r"\* int8-dynamic +79\.6% .* 123 *$", line) for line in lines)
    assert "int8 could not be made: [no] photo" in lines
    assert any(line.startswith("warning: int8-dynamic loses 0.4 points") for line in lines)


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
