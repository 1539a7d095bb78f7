"""Trains a network in two phases: a head on the frozen backbone's cached features, then the upper layers with it.

A network from scratch has one phase, in which everything is trained. The best epoch on the validation photos over
both phases is the result: fine-tuning can never make it worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from classifier.errors import InvalidRequest, Refused
from trainer import network
from trainer.config import ScheduleConfig, TrainingConfig
from trainer.datasets import class_targets
from trainer.generator import PhotoSequence
from trainer.keeper import Keeper, TrainingDivergedError, TrainingState, Validation
from trainer.photos import CheckedPhotos, require_unchanged
from trainer.preparation import input_spec, load_photos, prepare_photos
from trainer.progress import counting
from trainer.run_folder import RunFolder, write_file
from trainer.training_progress import TrainingProgress

HEAD_PHASE, FINE_TUNING_PHASE, TRAINING_PHASE = "head", "fine-tuning", "training"
FEATURE_BATCH = 32


@dataclass(frozen=True)
class Trained:
    """A trained network with the photos that it was trained on."""

    backbone: keras.Model
    head: keras.Model
    labels: tuple[str, ...]
    photos: CheckedPhotos


def train(
    config: TrainingConfig,
    run: RunFolder,
    console: Console,
    *,
    cache_bytes: int | None = None,
    workers: int | None = None,
) -> Trained:
    """Train as configured, or go on where the run was interrupted, and return the best network.

    Args:
        config: what to train, on what, and how.
        run: the run's folder, from `trainer.run_folder.start_run`.
        console: where progress is shown.
        cache_bytes: how many bytes of decoded photos are kept in memory.
        workers: threads that decode.

    Raises:
        PointerError: the data or the options cannot be used; the message says why.
        TrainingDivergedError: the loss is no longer a number. What was best until then can be exported.
    """
    scratch = network.from_scratch(config.network)
    if scratch and config.schedule.fine_tune_epochs == 0:
        raise InvalidRequest(
            "With --weights none, everything is learnt in fine-tuning: --fine-tune-epochs has to be 1 or more."
        )
    keras.utils.set_random_seed(config.schedule.seed)
    state = TrainingState(run)
    # Before the photos: what is wrong with the options is said at once. Behind the head's phase, a checkpoint follows.
    backbone = network.build_backbone(config.network, load_weights=HEAD_PHASE not in state.finished)
    photos = prepare_photos(config, run, console, cache_bytes=cache_bytes, workers=workers)
    labels = tuple(sorted(photos.frame["label"].unique()))
    data = _Batches(photos, labels, config.schedule, workers)
    usual_decay = 1e-4 if scratch else 50 / len(data.rows["train"])
    head = network.build_head(
        backbone.output_shape[-1],
        len(labels),
        config.network.hidden,
        config.network.dropout,
        _first(config.schedule.head_decay, usual_decay),
    )
    plain = network.classifier(backbone, head)
    phase = TRAINING_PHASE if scratch else FINE_TUNING_PHASE
    try:
        if not scratch and HEAD_PHASE not in state.finished:
            _train_head(config.schedule, run, state, backbone, head, plain, data, photos.fingerprint, console)
        if phase not in state.finished:
            if phase == FINE_TUNING_PHASE:
                state.load_best(plain)
            _train_backbone(config, phase, state, backbone, head, plain, data, console)
    except TrainingDivergedError as error:
        if state.best is None:
            raise
        if not scratch and HEAD_PHASE not in state.finished:
            _finish_head(state, head, plain)
        state.finish(phase)
        raise TrainingDivergedError(f"{error} `trainer export {run.path}` makes a bundle of the best.") from error
    state.load_best(plain)
    return Trained(backbone, head, labels, photos)


def load_trained(run: RunFolder, config: TrainingConfig) -> Trained:
    """Return the best network of a run whose training is complete.

    Raises:
        Refused: it is not, or photos of its validation and test splits have changed.
        NotFound: some of those are missing.
    """
    state = TrainingState(run)
    last = TRAINING_PHASE if network.from_scratch(config.network) else FINE_TUNING_PHASE
    if last not in state.finished:
        raise Refused(
            f"The training in {run.path} is not complete; run its `trainer train` command again to resume it."
        )
    photos = load_photos(run, config, input_spec(config.network))
    require_unchanged(photos, np.flatnonzero(photos.frame["split"] != "train"))
    labels = tuple(sorted(photos.frame["label"].unique()))
    backbone = network.build_backbone(config.network, load_weights=False)
    head = network.build_head(backbone.output_shape[-1], len(labels), config.network.hidden, config.network.dropout)
    state.load_best(network.classifier(backbone, head))
    return Trained(backbone, head, labels, photos)


def learning_rates(
    highest: float, epochs: int, steps: int, *, warm_up: bool
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return rates that fall along a cosine over `epochs` of `steps` batches, to 2 %.

    With `warm_up` they rise from a tenth in the first epoch, where it is not the only one.
    """
    warm = steps if warm_up and epochs > 1 else 0
    return keras.optimizers.schedules.CosineDecay(
        highest / 10 if warm else highest, epochs * steps - warm, alpha=0.02,
        warmup_target=highest if warm else None, warmup_steps=warm,
    )  # fmt: skip


class _Batches:
    """The photos of a run as batches and class numbers, by split."""

    def __init__(
        self, photos: CheckedPhotos, labels: tuple[str, ...], schedule: ScheduleConfig, workers: int | None
    ) -> None:
        self.source, self.labels, self.schedule, self.workers = photos.source, labels, schedule, workers
        split = photos.frame["split"].to_numpy()
        numbers = class_targets(photos.frame["label"], labels, one_hot=False)
        self.rows = {name: np.flatnonzero(split == name) for name in ("train", "validation")}
        self.targets = {name: numbers[rows] for name, rows in self.rows.items()}

    def shuffled(self, split: str) -> PhotoSequence:
        return PhotoSequence(
            self.source, self.rows[split], self.targets[split], batch_size=self.schedule.batch_size,
            seed=self.schedule.seed, workers=self.workers,
        )  # fmt: skip

    def photos_only(self, split: str) -> PhotoSequence:
        return PhotoSequence(
            self.source, self.rows[split], None, batch_size=FEATURE_BATCH, shuffle=False, workers=self.workers
        )


def _train_head(
    schedule: ScheduleConfig,
    run: RunFolder,
    state: TrainingState,
    backbone: keras.Model,
    head: keras.Model,
    plain: keras.Model,
    data: _Batches,
    data_fingerprint: str,
    console: Console,
) -> None:
    features = _features(run, backbone, data, data_fingerprint, console)
    state.resume(HEAD_PHASE, head)
    _compile(head, keras.optimizers.Adam(schedule.head_learning_rate))
    keeper = Keeper(state, HEAD_PHASE, schedule.patience, head, resumable=False)
    validation = Validation(keras.Model(head.input, head.output), features["validation"], data.targets["validation"])
    progress = TrainingProgress(console, HEAD_PHASE, schedule.head_epochs, len(data.rows["train"]), lines=False)
    try:
        head.fit(
            features["train"], data.targets["train"],
            batch_size=schedule.batch_size, epochs=schedule.head_epochs, verbose=0,
            callbacks=[validation, keeper, progress],
        )  # fmt: skip
    finally:
        progress.close()
    _finish_head(state, head, plain)
    best = state.best or {}
    console.print(
        f"head: {len(state.history)} epochs on cached features, best epoch {best['epoch']}: "
        f"val loss {best['val_log_loss']:.3f} acc {best['val_accuracy']:.3f}",
        highlight=False,
    )


def _finish_head(state: TrainingState, head: keras.Model, plain: keras.Model) -> None:
    state.load_best(head)
    state.keep_whole(plain)
    state.finish(HEAD_PHASE)


def _features(
    run: RunFolder, backbone: keras.Model, data: _Batches, data_fingerprint: str, console: Console
) -> dict[str, NDArray[np.float32]]:
    """Return the pooled features [photos, channels] of each split, computed once a run."""
    if run.features.is_file():
        with np.load(run.features) as saved:
            if str(saved["fingerprint"]) == data_fingerprint:
                return {split: saved[split] for split in data.rows}
    features = {}
    pooled = keras.Sequential([backbone, keras.layers.GlobalAveragePooling2D(dtype="float32")])
    for split in data.rows:
        batches = data.photos_only(split)
        with counting(console, f"features of {split} photos", len(batches)) as step:
            callback = keras.callbacks.LambdaCallback(on_predict_batch_end=lambda batch, logs: step())
            features[split] = np.asarray(pooled.predict(batches, verbose=0, callbacks=[callback]), np.float32)
    arrays: dict[str, Any] = dict(features)
    write_file(run.features, lambda path: np.savez(path, fingerprint=np.array(data_fingerprint), **arrays))
    return features


def _train_backbone(
    config: TrainingConfig,
    phase: str,
    state: TrainingState,
    backbone: keras.Model,
    head: keras.Model,
    plain: keras.Model,
    data: _Batches,
    console: Console,
) -> None:
    schedule, kind = config.schedule, network.architecture(config.network.architecture)
    scratch = network.from_scratch(config.network)
    epochs = _first(schedule.fine_tune_epochs, kind.fine_tune_epochs)
    if epochs == 0:
        state.finish(phase)
        return
    wanted = -1 if scratch else _first(schedule.fine_tune_layers, kind.fine_tune_layers)
    count = network.set_trainable_layers(backbone, wanted, scratch=scratch)
    training = data.shuffled("train")
    rate = _first(schedule.fine_tune_learning_rate, kind.fine_tune_learning_rate)
    optimizer = keras.optimizers.Adam(learning_rates(rate, epochs, len(training), warm_up=scratch))
    augmentation = network.build_augmentation(schedule.seed) if schedule.augment else None
    whole = network.classifier(backbone, head, augmentation)
    _compile(whole, optimizer)
    done = state.resume(phase, whole)
    console.print(
        f"{phase}: {count} layers of {config.network.architecture} and the head, at most {epochs} epochs"
        + (f", resuming after epoch {done}" if done else ""),
        highlight=False,
    )
    validation = Validation(plain, data.photos_only("validation"), data.targets["validation"])
    progress = TrainingProgress(console, phase, epochs, len(data.rows["train"]), first_epoch=done)
    # The order follows from the epoch's number: Keras looks into a data set before the first epoch, which would count
    # as one, and its own shuffling of batches (shuffle=True) draws from a state that is lost when a run is killed.
    in_order = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: training.start_epoch(epoch))
    keeper = Keeper(state, phase, schedule.patience, plain, resumable=True)
    stopped = state.epochs_without_gain(phase) >= schedule.patience
    try:
        if done < epochs and not stopped:
            whole.fit(
                training,
                initial_epoch=done, epochs=epochs, shuffle=False, verbose=0,
                callbacks=[in_order, validation, keeper, progress],
            )  # fmt: skip
    finally:
        progress.close()
    state.finish(phase)


def _compile(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            # The loss that Keras reports includes L2 terms; this one is comparable between phases and networks.
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="log_loss"),
        ],
        jit_compile=False,
    )


def _first(chosen: Any, default: Any) -> Any:
    return default if chosen is None else chosen
