"""The networks: Grad-CAM in the forward pass equals GradientTape's, pixels are scaled as the weights expect."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from classifier.errors import InvalidRequest, NotFound, Unavailable
from trainer.networks.augmentation import build_augmentation
from trainer.networks.backbones import (
    ARCHITECTURES,
    backbone_core,
    build_backbone,
    convolution_of,
    set_trainable_layers,
    without_convolution,
)
from trainer.networks.description import describe
from trainer.networks.gradcam import gradient_tape_heatmaps, relative_error, serving_model
from trainer.networks.heads import build_head, classifier, convolved
from trainer.run.presets import PRESETS
from trainer.run.sections import NetworkConfig

SMALL = {"inception_v3": 96, "xception": 96}
"""Sides of the input; 64 where an architecture takes it."""
QUICK = ("base_cnn", "efficientnet_lite0", "mobilenet_v2", "mobilenet_v3_small")
"""The small ones; the others are for `make test-long`."""
EACH = [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in ARCHITECTURES]


@pytest.fixture(scope="module", params=EACH)
def backbone(request):
    keras.utils.set_random_seed(1)
    side = SMALL.get(request.param, 64)
    return build_backbone(NetworkConfig(request.param, "none", image_size=side))


HIDDEN = ((), (16,), (24, 16))
WITH_HEADS = [
    pytest.param(name, hidden, marks=[] if name in QUICK else pytest.mark.long)
    for name in ARCHITECTURES
    for hidden in (HIDDEN if name in QUICK else HIDDEN[1:2])
]
"""Every head on the quick networks; one on the others, whose heads are the same."""


@pytest.mark.parametrize(("backbone", "hidden"), WITH_HEADS, indirect=["backbone"])
def test_heatmaps_equal_those_of_gradient_tape(backbone, hidden):
    keras.utils.set_random_seed(2)
    head = build_head(backbone.output_shape[-1], 5, hidden)
    photo = np.random.default_rng(3).integers(0, 256, backbone.input_shape[1:], dtype=np.uint8)
    served = serving_model(backbone, head)(photo[None])
    heatmaps = keras.ops.convert_to_numpy(served["heatmaps"])[0]
    assert heatmaps.shape == (5, *backbone.output_shape[1:3])
    assert heatmaps.max() > 0
    assert relative_error(heatmaps, gradient_tape_heatmaps(backbone, head, photo)) < 1e-4
    assert keras.ops.convert_to_numpy(served["probabilities"]).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("size", [1, 3])
def test_behind_a_head_convolution_heatmaps_are_those_of_its_outputs(size):
    keras.utils.set_random_seed(1)
    options = {"alpha": 0.25, "image_size": 64, "head_convolution": 12, "head_convolution_size": size}
    network = NetworkConfig("mobilenet", "none", **options)
    backbone = build_backbone(network)
    assert backbone.output_shape[1:] == (2, 2, 12)
    assert convolution_of(backbone).kernel.shape == (size, size, 256, 12)
    assert without_convolution(backbone).output_shape[1:] == (2, 2, 256)
    head = build_head(12, 5, (16,))
    photo = np.random.default_rng(3).integers(0, 256, backbone.input_shape[1:], dtype=np.uint8)
    heatmaps = keras.ops.convert_to_numpy(serving_model(backbone, head)(photo[None])["heatmaps"])[0]
    assert heatmaps.max() > 0
    assert relative_error(heatmaps, gradient_tape_heatmaps(backbone, head, photo)) < 1e-4
    # What is trained on features is the same network, with the same weights.
    features = without_convolution(backbone)(photo[None])
    top = convolved(convolution_of(backbone), head, features.shape[1:])
    np.testing.assert_allclose(top(features), classifier(backbone, head)(photo[None]), atol=1e-6)
    assert set_trainable_layers(backbone, 1, scratch=False) == 1
    assert len(backbone.trainable_variables) == 1 + 2  # the last kernel, and the head convolution
    rows = {row.name: row for row in describe(network, 5)}
    assert (rows["head_convolution"].shape, rows["pooling"].shape) == ((2, 2, 12), (12,))


@pytest.mark.parametrize(
    ("name", "preprocess"),
    [
        ("mobilenet", keras.applications.mobilenet.preprocess_input),
        ("mobilenet_v2", keras.applications.mobilenet_v2.preprocess_input),
        ("resnet50", keras.applications.resnet50.preprocess_input),
        ("inception_v3", keras.applications.inception_v3.preprocess_input),
        ("xception", keras.applications.xception.preprocess_input),
        ("mobilenet_v3_small", keras.applications.mobilenet.preprocess_input),
        ("resnet50v2", keras.applications.resnet_v2.preprocess_input),
        ("densenet121", keras.applications.densenet.preprocess_input),
        ("nasnet_mobile", keras.applications.nasnet.preprocess_input),
    ],
)
def test_pixels_are_scaled_as_keras_applications_do(name, preprocess):
    photo = np.random.default_rng(4).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    image = keras.Input((8, 8, 3), dtype="uint8")
    scaled = keras.Model(image, ARCHITECTURES[name].scaling(image))(photo)
    expected = preprocess(photo.astype("float32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(scaled), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "builder"),
    [
        pytest.param("mobilenet_v3_small", "MobileNetV3Small"),
        pytest.param("mobilenet_v3_large", "MobileNetV3Large", marks=pytest.mark.long),
        pytest.param("efficientnet_v2b0", "EfficientNetV2B0", marks=pytest.mark.long),
        pytest.param("efficientnet_v2s", "EfficientNetV2S", marks=pytest.mark.long),
        pytest.param("convnext_tiny", "ConvNeXtTiny", marks=pytest.mark.long),
    ],
)
def test_networks_that_scale_by_themselves_are_scaled_once(name, builder):
    """The features are those of Keras's own network with its own scaling inside."""
    keras.utils.set_random_seed(5)
    theirs = getattr(keras.applications, builder)(include_top=False, weights=None, input_shape=(64, 64, 3))
    ours = build_backbone(NetworkConfig(name, "none", image_size=64))
    backbone_core(ours).set_weights([w for w in theirs.get_weights() if not _is_of_the_scaling(w)])
    photo = np.random.default_rng(4).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    expected = keras.ops.convert_to_numpy(theirs(photo.astype("float32"), training=False))
    found = keras.ops.convert_to_numpy(ours(photo, training=False))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def _is_of_the_scaling(weight):
    """Keras's Normalization keeps mean, variance and a counter as weights unless it is given them."""
    return weight.ndim == 0


def test_the_table_says_what_the_networks_are():
    for name in QUICK:
        built = build_backbone(NetworkConfig(name, "none"))
        assert built.input_shape[1] == PRESETS[name].input_size
        assert round(built.count_params() / 1e6, 1) == PRESETS[name].parameters, name


def test_weights_come_from_a_file(tmp_path):
    shape = (64, 64, 3)
    original = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=shape)
    path = tmp_path / "mine.weights.h5"
    original.save_weights(path)
    backbone = build_backbone(NetworkConfig("mobilenet_v2", str(path), image_size=64))
    for mine, theirs in zip(backbone_core(backbone).get_weights(), original.get_weights(), strict=True):
        assert np.array_equal(mine, theirs)
    with pytest.raises(InvalidRequest, match="do not fit mobilenet_v2"):
        build_backbone(NetworkConfig("mobilenet_v2", str(path), image_size=64, alpha=0.5))
    with pytest.raises(NotFound, match="Expected a weights file"):
        build_backbone(NetworkConfig("mobilenet_v2", str(tmp_path / "none.h5"), image_size=64))


def test_inception_can_be_cut_at_an_inner_layer(tmp_path):
    whole = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(96, 96, 3))
    cut = keras.Model(whole.input, whole.get_layer("mixed5").output)
    path = tmp_path / "cut.weights.h5"
    cut.save_weights(path)
    backbone = build_backbone(NetworkConfig("inception_v3", str(path), image_size=96, backbone_layer="mixed5"))
    assert backbone.output_shape[1:] == cut.output_shape[1:]
    photo = np.random.default_rng(5).integers(0, 256, (1, 96, 96, 3), dtype=np.uint8)
    np.testing.assert_allclose(backbone(photo), cut(photo / np.float32(127.5) - 1), atol=1e-4)
    with pytest.raises(InvalidRequest, match="Expected an inner layer of inception_v3, such as mixed"):
        build_backbone(NetworkConfig("inception_v3", "none", image_size=96, backbone_layer="mixed99"))


def test_fine_tuning_leaves_lower_layers_and_batch_normalisation_alone(tmp_path):
    original = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(64, 64, 3))
    path = tmp_path / "mine.weights.h5"
    original.save_weights(path)
    backbone = build_backbone(NetworkConfig("mobilenet_v2", str(path), image_size=64))
    head = build_head(backbone.output_shape[-1], 3)
    count = set_trainable_layers(backbone, 4, scratch=False)
    assert count == 4
    core = backbone_core(backbone)
    before = {layer.name: [w.copy() for w in layer.get_weights()] for layer in core.layers}
    model = classifier(backbone, head, build_augmentation(1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # One step is sooner done than a graph is made for it.
    model.compile(keras.optimizers.Adam(0.01), loss, run_eagerly=True)
    photos = np.random.default_rng(6).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    model.fit(photos, np.arange(8) % 3, verbose=0)
    changed = [
        layer.name
        for layer in core.layers
        if any(not np.array_equal(a, b) for a, b in zip(before[layer.name], layer.get_weights(), strict=True))
    ]
    with_weights = [
        layer.name for layer in core.layers if layer.weights and not isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert changed == with_weights[-4:]


@pytest.mark.parametrize("name", EACH)
def test_so_many_layers_are_fine_tuned_as_are_asked_for_and_there_are(name):
    config = NetworkConfig(name, "none", image_size=96)
    backbone = build_backbone(config)
    core = backbone_core(backbone)
    for scratch in (False, True):
        able = [
            layer.name
            for layer in core.layers
            if layer.weights and (scratch or not isinstance(layer, keras.layers.BatchNormalization))
        ]
        depths = range(len(able) + 3) if name in QUICK else (0, 1, 30, len(able) - 1, len(able), len(able) + 2)
        for last in (*depths, 10 * len(able), -1):
            count = set_trainable_layers(backbone, last, scratch=scratch)
            trained = [layer.name for layer in core.layers if layer.trainable and layer.weights]
            expected = able if last < 0 or last > len(able) else able[len(able) - last :]
            assert (count, trained) == (len(expected), expected)


def test_imagenet_weights_that_cannot_be_downloaded_are_told_with_the_ways_to_do_without(tmp_path, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(Unavailable) as refused:
        build_backbone(NetworkConfig("mobilenet_v2", "imagenet"))
    told = str(refused.value)
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    assert "The ImageNet weights of mobilenet_v2 could not be downloaded" in told
    assert re.search(
        rf"Download https://\S+/{re.escape(name)} on another machine and put it at {tmp_path}/models/", told
    )
    assert "--architecture efficientnet_lite0, 1 and 2" in told
    assert told.endswith("--weights none trains from scratch.")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NetworkConfig("vgg16"), "Expected one of base_cnn, efficientnet_lite0"),
        (NetworkConfig("base_cnn", "imagenet"), "no ImageNet weights for base_cnn; use --weights none"),
        (NetworkConfig("xception", "none", alpha=0.5), "--alpha is for mobilenet"),
        (NetworkConfig("xception", "none", image_size=64), "--image-size of 71 or more for xception; received 64"),
        (NetworkConfig("mobilenet", "imagenet", alpha=0.33), "one of 0.25, 0.5, 0.75, 1, .* weights; received 0.33"),
    ],
)
def test_unusable_options_are_refused(config, message):
    with pytest.raises(InvalidRequest, match=message):
        build_backbone(config)
    with pytest.raises(InvalidRequest, match="at most two hidden layers"):
        build_head(8, 2, (4, 4, 4))
    with pytest.raises(InvalidRequest, match="Expected hidden layers of 1 or more; received 4, 0"):
        build_head(8, 2, (4, 0))


@pytest.mark.parametrize("preset", [each for each in PRESETS.values() if each.builder], ids=lambda each: each.builder)
def test_sizes_and_widths_that_keras_refuses_are_those_of_the_presets(preset):
    """Before it builds anything: the presets tell it without Keras."""
    build = getattr(keras.applications, preset.builder)
    least = preset.least_size or 32
    with pytest.raises(ValueError, match=f"at least {least}x{least}"):
        build(include_top=False, weights=None, input_shape=(least - 1, least - 1, 3))
    if preset.alphas:
        with pytest.raises(ValueError, match="alpha") as refused:
            build(include_top=False, weights="imagenet", input_shape=(96, 96, 3), alpha=0.9)
        assert tuple(float(each) for each in re.findall(r"`([0-9.]+)`", str(refused.value))) == preset.alphas
