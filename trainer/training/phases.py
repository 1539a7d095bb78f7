"""The two phases of a training: a head on the frozen backbone's features, then the upper layers together with it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from classifier.wording import plural
from trainer.networks import backbones, heads
from trainer.networks.augmentation import scheduled_augmentation
from trainer.networks.smaller import smaller_backbone
from trainer.networks.teacher import taught_classifier, taught_head
from trainer.run.config import TrainingConfig
from trainer.run.finished import HEAD_PHASE
from trainer.run.sections import ScheduleConfig
from trainer.training import optimizers
from trainer.training.assembly import Networks
from trainer.training.batches import Batches, soft_targets
from trainer.training.checkpoints import Checkpointing, TrainingState, Validation, merit
from trainer.training.class_weights import WeightedCrossentropy, weights_of
from trainer.training.distillation import DistillationLoss, LabelledAccuracy, LabelledLogLoss
from trainer.training.features import Features, FeatureSequence
from trainer.training.progress import TrainingProgress
from trainer.training.sizes import sides, stretches

HEAD_LEARNING_RATE = 3e-4
"""Of Adam."""


def train_head(
    schedule: ScheduleConfig,
    state: TrainingState,
    networks: Networks,
    features: Features,
    data: Batches,
    console: Console,
) -> None:
    """Train the head on cached features, and give it the weights of its best epoch on the validation photos."""
    top, strategy = networks.top, data.strategy
    state.resume(HEAD_PHASE, top)
    alone = strategy.on_one_device(top)
    training = FeatureSequence(
        features["train"], data.targets(soft=soft_targets(schedule)),
        batch_size=schedule.batch_size, seed=schedule.seed, taught=features.get("taught"),
    )  # fmt: skip
    trained = alone if networks.teacher is None else taught_head(alone)
    _compile(trained, optimizers.build_optimizer(schedule.optimizer, head_rate(schedule)), data, schedule)
    keeper = Checkpointing(state, HEAD_PHASE, schedule.patience, alone, resumable=False)
    validation = Validation(keras.Model(alone.input, alone.output), features["validation"], data.truth("validation"))
    progress = TrainingProgress(console, HEAD_PHASE, schedule.head_epochs, len(features["train"]), lines=False)
    try:
        trained.fit(
            training,
            epochs=schedule.head_epochs, shuffle=False, verbose=0,
            callbacks=[in_order(training), validation, keeper, progress],
        )  # fmt: skip
    finally:
        progress.close()
    finish_head(schedule, state, networks)
    best = state.best or {}
    console.print(
        f"head: {plural(len(state.history), 'epoch')} on cached features, best epoch {best['epoch']}: "
        f"val loss {best['val_log_loss']:.3f} acc {best['val_accuracy']:.3f}",
        highlight=False,
    )


def finish_head(schedule: ScheduleConfig, state: TrainingState, networks: Networks) -> None:
    """Give the head its best weights and record that its phase is complete."""
    state.load_best(networks.top)
    state.keep_whole(networks.plain)
    state.finish(HEAD_PHASE, schedule.head_epochs, schedule.patience)


def train_backbone(
    config: TrainingConfig,
    phase: str,
    state: TrainingState,
    networks: Networks,
    data: Batches,
    console: Console,
) -> None:
    """Train the backbone's last layers, or all of them from scratch, and the head; call it in the strategy's scope."""
    schedule, kind = config.schedule, backbones.architecture_of(config.network)
    scratch = config.network.from_scratch
    epochs = config.fine_tune_epochs()
    if epochs == 0:
        state.finish(phase, epochs, schedule.patience)
        return
    wanted = -1 if scratch else chosen(schedule.fine_tune_layers, kind.preset.fine_tune_layers)
    count = backbones.set_trainable_layers(networks.backbone, wanted, scratch=scratch)
    training = data.shuffled()
    planned = stretches(sides(schedule, epochs, networks.backbone.input_shape[1]))
    reached = state.epochs_done(phase)
    side, _ = next((each for each in planned if each[1] > reached), planned[-1])
    whole = _whole(config, networks, data, len(training), side)
    done = state.resume(phase, whole)
    console.print(
        f"{phase}: {plural(count, 'layer')} of {config.network.architecture} and the head, at most "
        + plural(epochs, "epoch")
        + (f", resuming after epoch {done}" if done else ""),
        highlight=False,
    )
    strategy = data.strategy
    asked = strategy.gathered(networks.plain)
    validation = Validation(asked, data.photos_only("validation"), data.truth("validation"), strategy.workers)
    best = min((-merit(entry) for entry in state.history if entry["phase"] == phase), default=float("inf"))
    progress = TrainingProgress(console, phase, epochs, len(data.rows["train"]), first_epoch=done, best=best)
    keeper = Checkpointing(state, phase, schedule.patience, networks.plain, resumable=True)
    if done < epochs and state.epochs_without_gain(phase) >= schedule.patience:
        console.print(
            f"{phase}: {plural(schedule.patience, 'epoch')} brought no gain; a larger --patience lets it go on",
            highlight=False,
        )
    try:
        for size, end in planned:
            if done >= end or state.epochs_without_gain(phase) >= schedule.patience:
                continue
            if size != side:
                # The same weights on another grid; optimizer and generators go on by way of the last checkpoint, as
                # they would after an interruption here.
                side, whole = size, _whole(config, networks, data, len(training), size)
                state.resume(phase, whole)
            if len(planned) > 1:
                console.print(f"{phase}: photos of {size} pixels until epoch {end}", highlight=False)
            _build_figures(whole, training)
            whole.fit(
                training,
                initial_epoch=done, epochs=end, shuffle=False, verbose=0,
                callbacks=[in_order(training), validation, keeper, progress],
            )  # fmt: skip
            done = progress.first_epoch = end
    finally:
        progress.close()
    state.finish(phase, epochs, schedule.patience)


def _build_figures(model: keras.Model, training: keras.utils.PyDataset) -> None:
    """Build what a model's loss and figures keep, from the shapes of a batch.

    Under JAX, Keras (3.15) otherwise takes a batch from the threads that make them ahead, and the first epoch then
    begins with what they had made by another epoch's order.
    """
    if keras.backend.backend() == "jax":
        model._symbolic_build(data_batch=training[0])


def _whole(config: TrainingConfig, networks: Networks, data: Batches, steps: int, side: int) -> keras.Model:
    """Return what is fine-tuned on photos of a side, compiled; it shares all weights with the networks.

    Args:
        config: how it is trained.
        networks: its parts.
        data: the photos.
        steps: batches an epoch.
        side: pixels.
    """
    schedule, kind = config.schedule, backbones.architecture_of(config.network)
    augmentation = scheduled_augmentation(schedule, kind.zoom) if schedule.augment else None
    full = networks.backbone
    backbone = full if side == full.input_shape[1] else smaller_backbone(full, side)
    if networks.teacher is None:
        whole = heads.classifier(backbone, networks.head, augmentation)
    else:
        whole = taught_classifier(backbone, networks.head, networks.teacher, augmentation)
    epochs = config.fine_tune_epochs()
    optimizer = _fine_tuning_optimizer(config, whole, full, epochs * steps, epochs)
    _compile(whole, data.strategy.optimizer(optimizer), data, schedule)
    return whole


def loss_of(schedule: ScheduleConfig, weights: NDArray[np.float32] | None) -> keras.losses.Loss:
    """Return the loss of logits: of class numbers, or of shares of the classes if `soft_targets`.

    Args:
        schedule: how it is trained.
        weights: of the classes, from `weights_of`.
    """
    label_smoothing = schedule.label_smoothing
    if schedule.teacher is not None:
        return DistillationLoss(schedule.teacher_share, schedule.teacher_temperature, label_smoothing, weights)
    if weights is not None:
        return WeightedCrossentropy(weights, label_smoothing)
    if soft_targets(schedule):
        return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def head_rate(schedule: ScheduleConfig) -> float:
    """Return the head's learning rate."""
    usual = HEAD_LEARNING_RATE * optimizers.RATE_FACTORS[schedule.optimizer]
    return float(chosen(schedule.head_learning_rate, usual))


def in_order(training: Any) -> keras.callbacks.Callback:
    """Return what sets the order at the start of each epoch, from the epoch's number.

    Keras looks into a data set before the first epoch, which would count as one, and its own shuffling of batches
    (shuffle=True) draws from a state that is lost when a run is killed.
    """
    return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: training.start_epoch(epoch))


def chosen(value: Any, default: Any) -> Any:
    """Return what was asked for, or else the default."""
    return default if value is None else value


def _fine_tuning_optimizer(
    config: TrainingConfig, whole: keras.Model, backbone: keras.Model, steps: int, epochs: int
) -> keras.optimizers.Optimizer:
    schedule, kind = config.schedule, backbones.architecture_of(config.network)
    usual = kind.preset.fine_tune_learning_rate * optimizers.RATE_FACTORS[schedule.optimizer]
    rates = optimizers.learning_rates(
        chosen(schedule.fine_tune_learning_rate, usual), epochs, steps // epochs,
        warm_up=True, schedule=schedule.learning_rate_schedule,
    )  # fmt: skip
    scales = optimizers.rate_scales(whole, backbone, schedule.layer_decay)
    return optimizers.build_optimizer(schedule.optimizer, rates, scales, schedule.average_epochs * (steps // epochs))


def _compile(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, data: Batches, schedule: ScheduleConfig
) -> None:
    metrics, soft = keras.metrics, soft_targets(schedule)
    # The loss that Keras reports includes L2 terms; the log-loss is comparable between phases and networks.
    if schedule.teacher is not None:
        shown: list[keras.metrics.Metric] = [LabelledAccuracy(name="accuracy"), LabelledLogLoss(name="log_loss")]
    else:
        accuracy = metrics.CategoricalAccuracy if soft else metrics.SparseCategoricalAccuracy
        log_loss = metrics.CategoricalCrossentropy if soft else metrics.SparseCategoricalCrossentropy
        shown = [accuracy(name="accuracy"), log_loss(from_logits=True, name="log_loss")]
    # Weighted, because photos that only fill a batch up for several devices have the weight 0.
    loss = loss_of(schedule, weights_of(schedule, data))
    model.compile(optimizer, loss=loss, weighted_metrics=shown, jit_compile=data.strategy.jit_compile())
