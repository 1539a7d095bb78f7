"""Trains a network in two phases: a head on the frozen backbone's cached features, then the upper layers with it.

A network from scratch has one phase, in which everything is trained. The best epoch on the validation photos over
both phases is the result: fine-tuning can never make it worse.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from shlex import quote
from typing import Any

import keras
from rich.console import Console

from classifier.storage.names import bucket_of
from trainer.compute.strategy import Strategy, configure
from trainer.data.checks import CheckedPhotos
from trainer.data.loaders import list_photos, require_dataset
from trainer.networks.backbones import build_backbone
from trainer.run.config import TrainingConfig
from trainer.run.effect import require_effect
from trainer.run.finished import FINE_TUNING_PHASE, HEAD_PHASE
from trainer.run.folder import RunFolder
from trainer.run.starting import keep_backbone
from trainer.training.assembly import Networks, networks_of
from trainer.training.batches import Batches
from trainer.training.checkpoints import TrainingDivergedError, TrainingState
from trainer.training.features import Features, head_decay, head_features
from trainer.training.phases import finish_head, train_backbone, train_head
from trainer.training.plan import Plan, plan_of
from trainer.training.run_photos import run_photos
from trainer.training.start import load_backbone
from trainer.training.teacher import run_teacher
from trainer.training.trained import Trained, best_of


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
        run: the run's folder, from `trainer.run.starting.start_run`.
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
    if photos is None and bucket_of(config.data.data_dir) is None:
        list_photos(config.data)  # a mistyped folder, table or class is told before weights are downloaded
    strategy = configure(config.compute)
    with strategy.workers.together():
        if strategy.workers.chief:
            config = keep_backbone(run, config)
        return _train(config, run, console, strategy, photos, cache_bytes, workers, on_epoch)


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
    if not strategy.workers.chief:
        console = Console(file=io.StringIO())
    keras.utils.set_random_seed(config.schedule.seed)
    state = TrainingState(run, strategy.workers)
    if on_epoch is not None and strategy.workers.chief:
        state.on_epoch = on_epoch
    plan = plan_of(config, state)
    # Teacher and network before the photos: what is wrong with the options is said at once.
    kept = run_teacher(config.schedule.teacher, run, strategy.workers)
    with strategy.scope():
        backbone = build_backbone(config.network, load_weights=plan.load_weights, precision=config.compute.precision)
    if photos is None:
        photos = run_photos(config, run, console, strategy.workers, cache_bytes=cache_bytes, threads=workers)
    data = Batches(photos, photos.labels, config.schedule, workers, strategy)
    if plan.start is not None:  # before the features, which are those of its backbone
        load_backbone(plan.start, backbone)
    teacher, taught_by = None, ""
    if kept is not None:
        kept.warn_of_photos_seen(photos.frame, console)
        taught_by = f"{kept.sha256} {photos.unlabelled_fingerprint}".strip()
        if plan.backbone:
            with strategy.scope():
                teacher = kept.layer(photos.labels, config.compute.precision)
    features: Features = {}
    if plan.head:
        features = head_features(config, run, backbone, data, console, teacher=teacher, taught_by=taught_by)
    if state.head_decay is None:
        state.head_decay = head_decay(config.schedule, features, len(data.rows["train"]))
    networks = networks_of(config, plan, backbone, state.head_decay, data, teacher, console)
    _train_phases(config, plan, state, networks, features, data, console)
    if not strategy.plain:
        return best_of(state, config.network, photos)
    state.load_best(networks.plain)
    return Trained(networks.backbone, networks.head, photos.labels, photos)


def _train_phases(
    config: TrainingConfig,
    plan: Plan,
    state: TrainingState,
    networks: Networks,
    features: Features,
    data: Batches,
    console: Console,
) -> None:
    """Train what is left; where the loss stops being a number, keep what was best until then.

    Raises:
        TrainingDivergedError: it did, and the run is complete but for its export.
    """
    try:
        if plan.head:
            train_head(config.schedule, state, networks, features, data, console)
        if plan.backbone:
            if plan.last == FINE_TUNING_PHASE:
                state.load_best(networks.plain)
            with data.strategy.scope():
                train_backbone(config, plan.last, state, networks, data, console)
    except TrainingDivergedError as error:
        if state.best is None:
            raise
        if plan.last == FINE_TUNING_PHASE and HEAD_PHASE not in state.finished:
            finish_head(config.schedule, state, networks)
        state.finish(plan.last, config.fine_tune_epochs(), config.schedule.patience)
        folder = quote(str(state.run.path))
        raise TrainingDivergedError(f"{error} `trainer export {folder}` makes a bundle of the best.") from error
