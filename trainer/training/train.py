"""Trains a network in two phases: a head on the frozen backbone's cached features, then the upper layers with it.

A network from scratch has one phase, in which everything is trained. The best epoch on the validation photos over
both phases is the result: fine-tuning can never make it worse.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import keras
import numpy as np
from rich.console import Console

from classifier.errors import Refused
from classifier.storage.names import bucket_of
from trainer.compute.strategy import Strategy, configure
from trainer.data.changes import changes_since, lines_of
from trainer.data.checks import CheckedPhotos, require_unchanged
from trainer.data.expected_labels import expect_labels
from trainer.data.loaders import list_photos, require_dataset
from trainer.data.preparation import load_photos, prepare_photos
from trainer.networks import backbones, heads
from trainer.networks.augmentation import scheduled_augmentation
from trainer.networks.backbones import input_spec
from trainer.networks.teacher import Teacher
from trainer.run.config import TrainingConfig
from trainer.run.effect import require_effect
from trainer.run.folder import RunFolder, keep_backbone
from trainer.run.sections import NetworkConfig, ScheduleConfig
from trainer.training.batches import Batches
from trainer.training.checkpoints import TrainingDivergedError, TrainingState
from trainer.training.features import Features, cached_features, usual_head_decay
from trainer.training.phases import (
    FINE_TUNING_PHASE,
    HEAD_PHASE,
    TRAINING_PHASE,
    Networks,
    finish_head,
    train_backbone,
    train_head,
)
from trainer.training.start import load_backbone, load_head
from trainer.training.teacher import KeptTeacher, keep_teacher, kept_teacher

SCRATCH_HEAD_DECAY = 1e-4


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
    photos: CheckedPhotos | None = None,
    cache_bytes: int | None = None,
    workers: int | None = None,
    on_epoch: Callable[[int, dict[str, Any]], None] | None = None,
) -> Trained:
    """Train as configured, or go on where the run was interrupted, and return the best network.

    Args:
        config: what to train, on what, and how.
        run: the run's folder, from `trainer.run.folder.start_run`.
        console: where progress is shown.
        photos: where they are prepared already.
        cache_bytes: how many bytes of decoded photos are kept in memory.
        workers: threads that decode.
        on_epoch: called with each epoch that is recorded, and its number, which counts on over the phases.

    Raises:
        PointerError: the data or the options cannot be used; the message says why.
        TrainingDivergedError: the loss is no longer a number. What was best until then can be exported.
    """
    require_effect(config)
    require_dataset(config.data)
    if bucket_of(config.data.data_dir) is None:
        list_photos(config.data)  # a mistyped folder, table or class is told before weights are downloaded
    strategy = configure(config.compute)
    with strategy.workers.together():
        if strategy.workers.chief:
            config = keep_backbone(run, config)
        return _train(config, run, console, strategy, photos, cache_bytes, workers, on_epoch)


def accepted_photos(
    version: Path | None,
    gate: Path | None,
    config: TrainingConfig,
    run: RunFolder,
    console: Console,
    *,
    cache_bytes: int | None = None,
    workers: int | None = None,
) -> CheckedPhotos:
    """Prepare a run's photos, refuse labels that a gate would refuse, and say which photos have changed.

    Args:
        version: the folder of the version since which they have; None: nothing is said.
        gate: see `expect_labels`; None: there is none.
        config: see `train`.
        run: see `train`.
        console: where it is said, a line a class.
        cache_bytes: see `train`.
        workers: see `train`.

    Raises:
        Refused: none has, or the gate would refuse their labels.
        Also what `prepare_photos` and `changes_since` raise.
    """

    def accept(photos: CheckedPhotos) -> None:
        if gate is not None:
            expect_labels(gate, photos.frame["label"])
        if version is None:
            return
        changes = changes_since(version, photos.frame)
        if changes.empty:
            raise Refused(
                f"No photo and no label has changed since {version} was trained. --unchanged (or --force of admin_cli "
                "retrain) trains all the same."
            )
        for line in lines_of(changes):
            console.print(line, highlight=False, markup=False)

    return prepare_photos(
        config,
        input_spec(config.network),
        run,
        console,
        cache_bytes=cache_bytes,
        workers=workers,
        accept=accept,
    )


def _train(
    config: TrainingConfig,
    run: RunFolder,
    console: Console,
    strategy: Strategy,
    photos: CheckedPhotos | None,
    cache_bytes: int | None,
    workers: int | None,
    on_epoch: Callable[[int, dict[str, Any]], None] | None,
) -> Trained:
    scratch = config.network.from_scratch
    if not strategy.workers.chief:
        console = Console(file=io.StringIO())
    keras.utils.set_random_seed(config.schedule.seed)
    state = TrainingState(run, strategy.workers)
    if on_epoch is not None and strategy.workers.chief:
        state.on_epoch = on_epoch
    phase = TRAINING_PHASE if scratch else FINE_TUNING_PHASE
    epochs, patience = config.fine_tune_epochs(), config.schedule.patience
    state.reopen(phase, epochs, patience)
    headless = not scratch and HEAD_PHASE not in state.finished
    fresh = headless or (scratch and state.best is None)
    start = Path(config.network.start) if config.network.start and fresh else None
    # Before the photos: what is wrong with the options is said at once.
    kept = _keep_teacher(config, run, strategy)
    # Behind the head's phase, a checkpoint follows.
    with strategy.scope():
        backbone = backbones.build_backbone(
            config.network,
            load_weights=HEAD_PHASE not in state.finished and start is None,
            precision=config.compute.precision,
        )
    photos = photos or _photos(config, run, console, strategy, cache_bytes, workers)
    labels = tuple(sorted(photos.frame["label"].unique()))
    data = Batches(photos, labels, config.schedule, workers, strategy)
    if start is not None:  # before the features, which are those of its backbone
        load_backbone(start, backbone)
    if kept and (seen := kept.test_photos_seen(photos.frame)):
        console.print(
            f"warning: the teacher was trained on {seen} of the test photos, whose figures will flatter. Train it with "
            "the same split: for data without test photos of its own, the same --seed.", style="yellow",
        )  # fmt: skip
    with strategy.scope():
        teacher = kept.layer(labels, config.compute.precision) if kept and phase not in state.finished else None
    features = _features(config, run, backbone, data, (kept, teacher), console) if headless else {}
    if state.head_decay is None:
        state.head_decay = _head_decay(config.schedule, features, len(data.rows["train"]))
    with strategy.scope():
        head = heads.build_head(
            backbone.output_shape[-1], len(labels), config.network.hidden, config.network.dropout, state.head_decay
        )
        if start is not None:
            new = load_head(start, head, labels)
            console.print(
                f"going on from {start}" + (f"; new: {', '.join(new)}" if new else ""), highlight=False, markup=False
            )
        networks = Networks(backbone, head, _top(backbone, head), heads.classifier(backbone, head), teacher)
    try:
        if headless:
            train_head(config.schedule, state, networks, features, data, console)
        if phase not in state.finished:
            if phase == FINE_TUNING_PHASE:
                state.load_best(networks.plain)
            with strategy.scope():
                train_backbone(config, phase, state, networks, data, console)
    except TrainingDivergedError as error:
        if state.best is None:
            raise
        if not scratch and HEAD_PHASE not in state.finished:
            finish_head(config.schedule, state, networks)
        state.finish(phase, epochs, patience)
        folder = quote(str(run.path))
        raise TrainingDivergedError(f"{error} `trainer export {folder}` makes a bundle of the best.") from error
    if not strategy.plain:
        return Trained(*_best(state, config.network, len(labels)), labels, photos)
    state.load_best(networks.plain)
    return Trained(backbone, head, labels, photos)


def load_trained(run: RunFolder, config: TrainingConfig) -> Trained:
    """Return the best network of a run whose training is complete.

    Raises:
        Refused: it is not, or photos of its validation and test splits have changed.
        NotFound: some of those are missing.
    """
    state = TrainingState(run)
    last = TRAINING_PHASE if config.network.from_scratch else FINE_TUNING_PHASE
    if last not in state.finished:
        raise Refused(
            f"The training in {run.path} is not complete; run its `trainer train` command again to resume it."
        )
    photos = load_photos(run, config, input_spec(config.network))
    require_unchanged(photos, np.flatnonzero(photos.frame["split"] != "train"))
    labels = tuple(sorted(photos.frame["label"].unique()))
    return Trained(*_best(state, config.network, len(labels)), labels, photos)


def _best(state: TrainingState, config: NetworkConfig, classes: int) -> tuple[keras.Model, keras.Model]:
    """Return backbone and head of the best epoch as they are exported: float32, on one device."""
    backbone = backbones.build_backbone(config, load_weights=False)
    head = heads.build_head(backbone.output_shape[-1], classes, config.hidden, config.dropout)
    state.load_best(heads.classifier(backbone, head))
    return backbone, head


def _top(backbone: keras.Model, head: keras.Model) -> keras.Model:
    """Return what is trained on the frozen backbone's features."""
    convolution = backbones.convolution_of(backbone)
    if convolution is None:
        return head
    return heads.convolved(convolution, head, convolution.input.shape[1:])


def _photos(
    config: TrainingConfig,
    run: RunFolder,
    console: Console,
    strategy: Strategy,
    cache_bytes: int | None,
    workers: int | None,
) -> CheckedPhotos:
    """Return the photos, which the chief prepares; another process takes the same ones, from its own data folder."""
    spec = input_spec(config.network)
    if strategy.workers.chief:
        photos = prepare_photos(config, spec, run, console, cache_bytes=cache_bytes, workers=workers)
        strategy.workers.meet()
        return photos
    strategy.workers.meet()
    photos = load_photos(run, config, spec, cache_bytes=cache_bytes, unlabelled=True)
    require_unchanged(photos, np.arange(len(photos.frame)))
    return photos


def _keep_teacher(config: TrainingConfig, run: RunFolder, strategy: Strategy) -> KeptTeacher | None:
    """Return the teacher, which the chief has put into the run's folder."""
    if config.schedule.teacher is None:
        return None
    if strategy.workers.chief:
        kept = keep_teacher(config.schedule.teacher, run)
        strategy.workers.meet()
        return kept
    strategy.workers.meet()
    return kept_teacher(run)


def _features(
    config: TrainingConfig,
    run: RunFolder,
    backbone: keras.Model,
    data: Batches,
    taught: tuple[KeptTeacher | None, Teacher | None],
    console: Console,
) -> Features:
    schedule, kind = config.schedule, backbones.architecture_of(config.network)
    kept, teacher = taught
    with data.strategy.scope():  # its random states are variables too
        augmentation = scheduled_augmentation(schedule, kind.zoom)
    return cached_features(
        run, backbone, data, console, views=schedule.head_views, augmentation=augmentation, teacher=teacher,
        taught_by="" if kept is None else f"{kept.sha256} {data.photos.unlabelled_fingerprint}".strip(),
    )  # fmt: skip


def _head_decay(schedule: ScheduleConfig, features: Features, photos: int) -> float:
    if schedule.head_decay is not None:
        return schedule.head_decay
    return usual_head_decay(features["train"], photos) if features else SCRATCH_HEAD_DECAY
