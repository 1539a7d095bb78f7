"""The options of a training: each has an effect, and an interrupted run with them ends as if undisturbed."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console

from tests.support import photo_sets
from tests.support.interrupted_training import trainings
from tests.support.tiny_backbone import add_tiny_architecture, tiny_architecture, tiny_weights  # noqa: F401  # fixture
from trainer.data.loaders import class_targets
from trainer.metrics.calibration import log_loss
from trainer.networks import heads
from trainer.run.config import TrainingConfig
from trainer.run.finished import FINE_TUNING_PHASE
from trainer.run.sections import ComputeConfig, DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import open_run, start_run
from trainer.training import checkpoints, phases, train
from trainer.training.checkpoints import Checkpointing, TrainingState

OPTIONS = {
    "optimizer": {"optimizer": "adamw"},
    "momentum": {"optimizer": "sgd"},
    "rates": {"learning_rate_schedule": "constant"},
    "layers": {"layer_decay": 0.3},
    "smoothing": {"label_smoothing": 0.2},
    "mixup": {"mixup": 0.5},
    "cutmix": {"cutmix": 1.0},
    "average": {"average_epochs": 1.0},
    "strength": {"augmentation_strength": 2.0},
    "operations": {"randaugment": 2},
    "views": {"head_views": 3},
    "penalty": {"head_decay": 0.1},
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return photo_sets.food_101(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.weights.h5")


def _config(photos: Path, weights: Path, **schedule) -> TrainingConfig:
    return TrainingConfig(
        DataConfig("food-101", str(photos), validation_share=0.25),
        NetworkConfig("tiny", str(weights)),
        ScheduleConfig(**{"head_epochs": 2, "batch_size": 8, **schedule}),
    )


def _train(config: TrainingConfig, path: Path) -> list[np.ndarray]:
    """Train, and return the weights of the last epoch, and behind them those of the best."""
    last: list[np.ndarray] = []

    class Last(Checkpointing):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            last[:] = self.plain.get_weights()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phases, "Checkpointing", Last)
        trained = train.train(config, start_run(path, config), Console(file=io.StringIO()))
    return [*last, *trained.backbone.get_weights(), *trained.head.get_weights()]


def _same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def usual(photos, weights, tmp_path_factory) -> list[np.ndarray]:
    """The weights that the usual options give."""
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_architecture(patch)
        return _train(_config(photos, weights), tmp_path_factory.mktemp("usual") / "run")


@pytest.mark.long
@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_has_an_effect(name, usual, photos, weights, tmp_path):
    found = _train(_config(photos, weights, **OPTIONS[name]), tmp_path / "run")
    assert not _same(found, usual)
    assert all(np.isfinite(array).all() for array in found)


@pytest.mark.parametrize("precision", ["float32", pytest.param("mixed_float16", marks=pytest.mark.long)])
@pytest.mark.long
def test_the_average_of_the_weights_is_validated_and_kept(precision, photos, weights, tmp_path, monkeypatch):
    """The kept weights are the average of those after each step, computed here again; the training goes on without."""
    plain = _config(photos, weights, fine_tune_epochs=3, average_epochs=0.5)
    config = replace(plain, compute=ComputeConfig(precision=precision))
    steps: list[list[np.ndarray]] = []

    class Steps(Checkpointing):
        def on_train_batch_end(self, batch, logs=None):
            if self.phase == FINE_TUNING_PHASE:
                steps.append([keras.ops.convert_to_numpy(each).copy() for each in self.model.trainable_variables])

    monkeypatch.setattr(phases, "Checkpointing", Steps)
    # The last epoch counts as the best, whatever chance says.
    monkeypatch.setattr(checkpoints, "merit", lambda entry: (entry["phase"] == FINE_TUNING_PHASE, entry["epoch"]))
    trained = train.train(config, start_run(tmp_path / "run", config), Console(file=io.StringIO()))

    momentum = 1 - 1 / (0.5 * len(steps) / 3)
    average = steps[0]
    for values in steps[1:]:
        average = [momentum * mean + (1 - momentum) * value for mean, value in zip(average, values, strict=True)]
    kept = [*trained.backbone.get_weights(), *trained.head.get_weights()]
    assert all(np.allclose(mean, value, atol=1e-6) for mean, value in zip(average, kept, strict=True))
    assert not all(np.allclose(last, value, atol=1e-6) for last, value in zip(steps[-1], kept, strict=True))

    validation = trained.photos.frame["split"].to_numpy() == "validation"
    seen = np.stack([trained.photos.source.array(row) for row in np.flatnonzero(validation)])
    logits = heads.classifier(trained.backbone, trained.head).predict(seen, verbose=0)
    truth = class_targets(trained.photos.frame["label"], trained.labels, one_hot=False)[validation]
    best = TrainingState(open_run(tmp_path / "run")[0]).best
    assert best["val_log_loss"] == pytest.approx(log_loss(logits, truth), rel=0.02 if precision != "float32" else 1e-4)


def test_an_interrupted_run_ends_as_if_undisturbed(photos, weights, tmp_path, monkeypatch):
    """With the options that the killed run below does not have."""
    config = _config(
        photos, weights, optimizer="adamw", learning_rate_schedule="constant", augment=False, mixup=0.4, cutmix=1.0
    )
    undisturbed = _train(config, tmp_path / "undisturbed")

    class InterruptedError(Exception):
        pass

    class Interrupted(Checkpointing):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if (self.phase, epoch) == (FINE_TUNING_PHASE, 0):
                raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(phases, "Checkpointing", Interrupted)
        with pytest.raises(InterruptedError):
            train.train(config, start_run(tmp_path / "resumed", config), Console(file=io.StringIO()))
    assert TrainingState(open_run(tmp_path / "resumed")[0]).last["epoch"] == 1
    assert _same(_train(config, tmp_path / "resumed"), undisturbed)


@pytest.mark.long
def test_a_run_that_stopped_between_the_phases_ends_as_if_undisturbed(photos, weights, tmp_path, monkeypatch):
    config = _config(photos, weights)
    undisturbed = _train(config, tmp_path / "undisturbed")

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_backbone", stopped)
        with pytest.raises(KeyboardInterrupt):
            _train(config, tmp_path / "resumed")
    assert TrainingState(open_run(tmp_path / "resumed")[0]).finished == ["head"]
    assert _same(_train(config, tmp_path / "resumed"), undisturbed)


def test_rates_of_sgd_are_a_hundred_times_those_of_adam(photos, weights, tmp_path):
    _train(_config(photos, weights, optimizer="sgd"), tmp_path)
    rates = {entry["phase"]: entry["learning_rate"] for entry in TrainingState(open_run(tmp_path)[0]).history[::2]}
    assert rates == pytest.approx({"head": 0.03, "fine-tuning": 0.1}, rel=0.2)


@pytest.mark.long
def test_a_run_killed_in_either_phase_resumes_with_all_options(photos, tmp_path):
    keras.utils.set_random_seed(11)
    file = tmp_path / "mobilenet.weights.h5"
    keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3), alpha=0.25).save_weights(
        file
    )
    config = TrainingConfig(
        DataConfig("food-101", str(photos), validation_share=0.25),
        NetworkConfig("mobilenet", str(file), image_size=32, alpha=0.25, hidden=(8,)),
        ScheduleConfig(
            head_epochs=3, fine_tune_epochs=2, fine_tune_layers=3, fine_tune_learning_rate=1e-3, batch_size=8,
            head_views=2, optimizer="sgd", layer_decay=0.5, label_smoothing=0.1, mixup=0.3, augmentation_strength=1.5,
            average_epochs=1.5, cutmix=0.5, randaugment=2, class_weights="balanced",
        ),
    )  # fmt: skip
    undisturbed = _train(config, tmp_path / "undisturbed")
    with trainings(config.to_json(), tmp_path / "killed") as interrupted:
        for phase, epoch in (("head", 2), ("fine-tuning", 1)):
            interrupted.killed_after(epoch, phase)
    assert TrainingState(open_run(tmp_path / "killed")[0]).finished == ["head"]
    assert _same(_train(config, tmp_path / "killed"), undisturbed)
