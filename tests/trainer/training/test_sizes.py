"""Small photos first: how large they are in which epoch, that it changes what is learnt, and that it can be resumed."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console

from classifier.errors import InvalidRequest
from tests.support import photo_sets
from tests.support.interrupted_training import QUICK_TO_COMPILE, trainings
from tests.support.tiny_backbone import tiny_architecture, tiny_weights  # noqa: F401  # fixture
from trainer.networks import backbones
from trainer.networks.smaller import Smaller, smaller_backbone
from trainer.run.config import TrainingConfig
from trainer.run.effect import require_effect
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import open_run, start_run
from trainer.training import train
from trainer.training.checkpoints import TrainingState
from trainer.training.sizes import sides, stretches


def _schedule(**options) -> ScheduleConfig:
    return ScheduleConfig(**{"head_epochs": 2, "batch_size": 8, **options})


def test_photos_grow_in_steps_or_at_once():
    assert sides(_schedule(), 3, 224) == [224, 224, 224]
    assert sides(_schedule(first_image_size=128), 12, 224) == [128, 128, 128, 160, 160, 160, 192, 192, *[224] * 4]
    constant = _schedule(first_image_size=160, image_size_schedule="constant", full_size_epochs=2)
    assert sides(constant, 6, 224) == [160, 160, 160, 160, 224, 224]
    assert sides(_schedule(first_image_size=64, full_size_epochs=0), 4, 300) == [64, 96, 160, 224]
    assert sides(_schedule(first_image_size=64, full_size_epochs=9), 4, 96) == [96] * 4
    assert stretches([128, 128, 160, 224, 224]) == [(128, 2), (160, 3), (224, 5)]
    assert stretches([]) == []


@pytest.mark.parametrize(("first", "said"), [(224, "below the image size of 224"), (100, "a multiple of 32")])
def test_a_size_that_cannot_be_is_told(first, said):
    with pytest.raises(InvalidRequest, match=said):
        sides(_schedule(first_image_size=first), 3, 224)


def test_options_that_change_nothing_are_refused():
    config = TrainingConfig(DataConfig("folder", "photos"), NetworkConfig(), _schedule(full_size_epochs=2))
    with pytest.raises(InvalidRequest, match="--full-size-epochs needs --first-image-size"):
        require_effect(config)
    config = replace(config, schedule=_schedule(first_image_size=64, fine_tune_epochs=0))
    with pytest.raises(InvalidRequest, match="--fine-tune-epochs 0 leaves --first-image-size without effect"):
        require_effect(config)


def test_a_smaller_backbone_is_the_same_network_on_smaller_photos():
    config = NetworkConfig("mobilenet_v2", "none", image_size=96, alpha=0.35, head_convolution=8)
    backbone = backbones.build_backbone(config)
    small = smaller_backbone(backbone, 32)
    assert (backbone.output_shape, small.output_shape) == ((None, 3, 3, 8), (None, 1, 1, 8))
    assert {id(each) for each in small.weights} == {id(each) for each in backbone.weights}
    photos = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    alone = backbones.build_backbone(replace(config, image_size=32))
    alone.set_weights(backbone.get_weights())
    np.testing.assert_allclose(small(photos), alone(np.asarray(Smaller(32)(photos))), atol=1e-5)
    # Nothing is left out: a pixel is the mean of those that it covers.
    stripes = np.tile(np.uint8([0, 255]), (1, 64, 48))[..., None].repeat(3, axis=-1)[:, :, :96]
    assert np.ptp(np.asarray(Smaller(32)(stripes))[:, :, 2:-2]) < 60


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> TrainingConfig:
    folder = tmp_path_factory.mktemp("sizes")
    return TrainingConfig(
        DataConfig("food-101", str(photo_sets.food_101(folder / "photos")), validation_share=0.25),
        NetworkConfig("tiny", str(tiny_weights(folder / "tiny.weights.h5")), image_size=96),
        _schedule(fine_tune_epochs=3, first_image_size=32, full_size_epochs=1, average_epochs=1.0, mixup=0.3),
    )


def _train(config: TrainingConfig, path: Path, until: int | None = None) -> list[np.ndarray]:
    """Train, or until an epoch of fine-tuning at whose end the process dies; return all weights of the best epoch."""

    def die(number: int, entry: dict) -> None:
        if entry["phase"] == "fine-tuning" and entry["epoch"] == until:
            raise KeyboardInterrupt

    trained = train.train(config, start_run(path, config), Console(file=io.StringIO()), on_epoch=die)
    return [*trained.backbone.get_weights(), *trained.head.get_weights()]


def _last(path: Path) -> list[np.ndarray]:
    """All that the last checkpoint has, the optimizer's state too, but not that of the head's own phase."""
    import h5py

    run = open_run(path)[0]
    found: list[np.ndarray] = []

    def add(name: str, each: object) -> None:
        if isinstance(each, h5py.Dataset) and "/optimizer/" not in name:
            found.append(each[()])

    with h5py.File(run.checkpoints / TrainingState(run).last["weights"]) as file:
        file.visititems(add)
    return found


@pytest.mark.long
def test_interrupted_between_and_within_sizes_it_ends_as_if_undisturbed(config, tmp_path):
    whole = _train(config, tmp_path / "whole")
    seen = [entry["epoch"] for entry in TrainingState(open_run(tmp_path / "whole")[0]).history[2:]]
    assert seen == [1, 2, 3]
    for epoch in (1, 2):  # of 32 and 64 pixels; the third is of 96
        with pytest.raises(KeyboardInterrupt):
            _train(config, tmp_path / "broken", until=epoch)
        keras.utils.clear_session()
    resumed = _train(config, tmp_path / "broken")
    assert all(np.array_equal(a, b) for a, b in zip(resumed, whole, strict=True))
    first, second = _last(tmp_path / "broken"), _last(tmp_path / "whole")
    assert len(first) > 3 * len(whole)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    plain = _train(replace(config, schedule=replace(config.schedule, first_image_size=None, full_size_epochs=None)),
                   tmp_path / "plain")  # fmt: skip
    assert not all(np.array_equal(a, b) for a, b in zip(plain, whole, strict=True))


@pytest.mark.long
def test_under_jax_a_run_that_is_killed_ends_as_if_undisturbed(config, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("XLA_FLAGS", QUICK_TO_COMPILE)
    schedule = ScheduleConfig(
        batch_size=8, fine_tune_epochs=3, first_image_size=32, full_size_epochs=1, average_epochs=1.0, mixup=0.3
    )
    config = replace(config, network=NetworkConfig("base_cnn", "none", image_size=64), schedule=schedule)
    ends = []
    for name, killed in (("whole", False), ("broken", True)):
        with trainings(config.to_json(), tmp_path / name) as running:
            if killed:
                running.killed_after(2)
            running.finished()
        ends.append(_last(tmp_path / name))
    assert len(ends[0]) > 20
    assert all(np.array_equal(a, b) for a, b in zip(*ends, strict=True))
