"""A network of one's own as backbone: opened as data, unfolded, cut, and trained and exported like any other."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from rich.console import Console

from classifier.errors import InvalidRequest, InvalidSetting, NotFound, Refused
from classifier.serving.model import Model
from tests.support import photo_sets
from trainer.export.bundle import make_bundle
from trainer.export.litert import VARIANTS
from trainer.networks import backbones
from trainer.networks.gradcam import gradient_tape_heatmaps, relative_error
from trainer.run.config import TrainingConfig
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import open_run, start_run
from trainer.training import train
from trainer.training.trained import load_trained

SIDE = 32


def _inner() -> keras.Model:
    """A residual network with normalisation."""
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, 2, padding="same", name="stem")(image)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_norm")(x))
    y = layers.Conv2D(8, 3, padding="same", name="block")(x)
    return keras.Model(image, layers.Add(name="sum")([x, y]), name="inner")


def _network(*last: layers.Layer) -> keras.Model:
    """What a tutorial ends with: a network within a network, behind a layer that scales."""
    keras.utils.set_random_seed(4)
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), layers.Rescaling(1 / 127.5, -1.0), _inner(), *last])


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[keras.Model, Path]:
    network = _network(layers.Conv2D(12, 3, 2, padding="same", name="last"))
    path = tmp_path_factory.mktemp("own") / "mine.keras"
    network.save(path)
    return network, path


def _save(network: keras.Model, path: Path) -> str:
    network.save(path)
    return str(path)


def test_it_computes_what_it_did_and_its_layers_are_at_hand(saved):
    network, path = saved
    config = NetworkConfig(backbone=str(path))
    assert (config.architecture, config.weights) == ("own", "own")
    assert backbones.input_spec(config).width == SIDE
    backbone = backbones.build_backbone(config)
    photos = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    expected = np.asarray(network(photos.astype(np.float32)))
    np.testing.assert_allclose(np.asarray(backbone(photos)), expected, atol=1e-5)
    core = backbones.backbone_core(backbone)
    assert [layer.name for layer in core.layers if layer.weights] == ["stem", "stem_norm", "block", "last"]
    # Normalisation inside of the inner network stays as it is, as in every pretrained backbone.
    assert backbones.set_trainable_layers(backbone, -1, scratch=False) == 3
    assert not core.get_layer("stem_norm").trainable
    half = backbones.build_backbone(replace(config, image_size=64))
    assert half.output_shape == (None, 16, 16, 12)
    fresh = backbones.build_backbone(NetworkConfig(backbone=str(path), weights="none"))
    assert not np.array_equal(fresh.get_weights()[0], backbone.get_weights()[0])


def test_one_that_does_not_end_in_features_is_told_where_to_cut(tmp_path):
    network = _network(layers.GlobalAveragePooling2D(), layers.Dense(5, activation="softmax"))
    path = _save(network, tmp_path / "classifier.keras")
    config = NetworkConfig(backbone=path)
    with pytest.raises(
        InvalidRequest, match=r"it ends in \[n, 5\]\. --backbone-layer cuts it, such as at stem_relu, block, sum\."
    ):
        backbones.build_backbone(config)
    cut = backbones.build_backbone(replace(config, backbone_layer="sum"))
    assert cut.output_shape == (None, 16, 16, 8)
    with pytest.raises(InvalidRequest, match=r"Expected an inner layer of own, such as .*; received 'block9'"):
        backbones.build_backbone(replace(config, backbone_layer="block9"))


def test_how_pixels_are_scaled_is_not_guessed(tmp_path):
    path = _save(_inner(), tmp_path / "inner.keras")
    with pytest.raises(InvalidRequest, match="Expected --backbone-scaling, one of none, unit, symmetric"):
        backbones.build_backbone(NetworkConfig(backbone=path))
    photos = np.random.default_rng(1).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    inner = keras.models.load_model(path)
    for name, scaled in (("none", photos * 1.0), ("unit", photos / 255), ("symmetric", photos / 127.5 - 1)):
        backbone = backbones.build_backbone(NetworkConfig(backbone=path, backbone_scaling=name))
        np.testing.assert_allclose(np.asarray(backbone(photos)), np.asarray(inner(scaled)), rtol=1e-4, atol=1e-4)


def test_what_cannot_be_used_is_told(tmp_path):
    with pytest.raises(NotFound, match="Expected a network at --backbone"):
        backbones.build_backbone(NetworkConfig(backbone=str(tmp_path / "none.keras")))
    with pytest.raises(InvalidRequest, match="A SavedModel is a program, which is not run here"):
        backbones.build_backbone(NetworkConfig(backbone=str(tmp_path)))
    (tmp_path / "torn.keras").write_bytes(b"PK")
    with pytest.raises(InvalidRequest, match="damaged"):
        backbones.input_spec(NetworkConfig(backbone=str(tmp_path / "torn.keras")))
    image = keras.Input((SIDE, SIDE, 3))
    lambdas = keras.Model(image, layers.Lambda(lambda x: x * 2)(image))
    with pytest.raises(InvalidRequest, match="Lambda, which holds a program"):
        backbones.input_spec(NetworkConfig(backbone=_save(lambdas, tmp_path / "lambda.keras")))
    two = keras.Model([image, keras.Input((2,), name="more")], layers.Conv2D(2, 3)(image))
    with pytest.raises(InvalidRequest, match="one input and one output"):
        backbones.input_spec(NetworkConfig(backbone=_save(two, tmp_path / "two.keras")))
    grey = keras.Input((SIDE, SIDE, 1))
    with pytest.raises(InvalidRequest, match=r"\[n, side, side, 3\] .*; it takes \[n, 32, 32, 1\]"):
        path = _save(keras.Model(grey, layers.Conv2D(2, 3)(grey)), tmp_path / "grey.keras")
        backbones.input_spec(NetworkConfig(backbone=path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"architecture": "mobilenet", "backbone": "a.keras"}, "--backbone leaves --architecture mobilenet without"),
        ({"weights": "a.h5", "backbone": "a.keras"}, "--backbone leaves --weights a.h5 without effect"),
        ({"backbone_scaling": "unit"}, "--backbone-scaling needs --backbone FILE"),
        ({"architecture": "own"}, "--architecture own needs --backbone FILE"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, said):
    with pytest.raises(InvalidSetting, match=said):
        NetworkConfig(**options)


@pytest.mark.long
def test_it_is_trained_exported_recorded_and_trained_again(saved, tmp_path):
    _, path = saved
    given = tmp_path / "given.keras"
    given.write_bytes(path.read_bytes())
    photos = photo_sets.food_101(tmp_path / "photos", train=6, test=2)
    config = TrainingConfig(
        DataConfig("food-101", str(photos), validation_share=0.34),
        NetworkConfig(backbone=str(given)),
        ScheduleConfig(head_epochs=2, fine_tune_epochs=1, batch_size=8),
    )
    console, run = Console(file=io.StringIO()), start_run(tmp_path / "run", config)
    trained = train.train(config, run, console)
    given.unlink()  # the run has what it needs
    manifest = make_bundle(load_trained(*open_run(run.path)), open_run(run.path)[1], run, console)
    assert set(manifest.variants) == set(VARIANTS)
    assert not [row for row in manifest.variants.values() if "failed" in row]
    assert manifest.metrics["heatmap_error"] < 1e-4
    assert manifest.training["network"]["backbone"] == manifest.training["backbone"]["file"] == "given.keras"
    assert len(manifest.training["backbone"]["sha256"]) == 64
    assert (manifest.training["network"]["architecture"], manifest.input.width) == ("own", SIDE)
    model = Model((run.bundle / "model.tflite").read_bytes())
    photo = trained.photos.source.array(0)
    maps = np.stack([model.run(photo).heatmap(label) for label in range(3)])
    # The served file may be a quantised one.
    assert relative_error(maps, gradient_tape_heatmaps(trained.backbone, trained.head, photo)) < 0.2
    # As admin_cli retrain does: the version has the network.
    recipe = json.loads(json.dumps(manifest.training))
    recipe["network"] |= {"backbone": str(run.bundle / "model.keras"), "start": str(run.bundle), "weights": "own"}
    recipe["data"]["data_dir"] = str(photos)
    again = TrainingConfig.from_json({name: recipe[name] for name in ("data", "network", "schedule", "compute")})
    went_on = train.train(again, start_run(tmp_path / "again", again), console)
    assert [each.shape for each in went_on.backbone.get_weights()] == [
        each.shape for each in trained.backbone.get_weights()
    ]
    # Another file under the same name is not what the run began with.
    _inner().save(given)
    with pytest.raises(Refused, match="has changed since"):
        train.train(config, run, console)
