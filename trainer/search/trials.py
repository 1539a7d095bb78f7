"""Runs one trial of a search: a head on cached features, or a whole training where the backbone is touched."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from classifier.errors import PointerError
from trainer.compute.strategy import configure
from trainer.data.checks import CheckedPhotos
from trainer.data.source import PhotoSource
from trainer.metrics.calibration import calibrated_log_loss, log_loss
from trainer.networks import backbones, heads
from trainer.networks.backbones import input_spec
from trainer.run.config import TrainingConfig
from trainer.run.files import write_file
from trainer.run.folder import RunFolder
from trainer.search.folder import OBJECTIVE, SearchFolder
from trainer.training import train
from trainer.training.batches import Batches, soft_targets
from trainer.training.checkpoints import TrainingDivergedError, TrainingState
from trainer.training.class_weights import balanced_weights
from trainer.training.features import FeatureSequence, head_features, usual_head_decay
from trainer.training.optimizers import build_optimizer
from trainer.training.phases import chosen, head_rate, in_order, loss_of

STEPS_PER_CALL = 32
"""Training steps of a head in one call of the backend."""


class TrialFailedError(PointerError):
    """A trial has no result; the message is the reason."""


@dataclass(frozen=True)
class Outcome:
    """A trial that went well."""

    figures: dict[str, float]
    """Of the best epoch: `OBJECTIVE`, ``val_accuracy``, ``val_log_loss``, ``epochs``."""
    save: Callable[[Path], Any]
    """Writes its weights to a file."""


class Runner(Protocol):
    """What runs the trials of a search, one after the other."""

    def run(self, number: int, config: TrainingConfig, share: float) -> Outcome:
        """Run one.

        Args:
            number: the trial's.
            config: with the trial's values.
            share: of the epochs asked for that it is given.

        Raises:
            TrialFailedError: it has no result.
        """

    def clear(self, number: int) -> None:
        """Remove what the trial has left in its folder."""


class HeadRunner:
    """Trains heads on features that are computed once.

    Args:
        config: what is asked for.
        folder: the search's, where the features are kept.
        photos: its photos.
        console: where the progress of the features is shown.
        workers: threads that decode.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: SearchFolder,
        photos: CheckedPhotos,
        console: Console,
        *,
        workers: int | None = None,
    ) -> None:
        schedule, strategy = config.schedule, configure(config.compute)
        self.classes = photos.labels
        data = Batches(photos, self.classes, schedule, workers, strategy)
        with strategy.scope():
            backbone = backbones.build_backbone(config.network, precision=config.compute.precision)
        self.features = head_features(config, folder.photos, backbone, data, console)
        self.targets = {soft: data.targets(soft=soft) for soft in (False, True)}
        self.truth = data.truth("validation")
        self.weights = balanced_weights(data.truth("train"), len(self.classes))
        self.usual_decay = usual_head_decay(self.features["train"], len(data.rows["train"]))

    def run(self, number: int, config: TrainingConfig, share: float) -> Outcome:
        """Train one head as `trainer.training.phases.train_head` does, with its figures and weights kept in memory."""
        schedule = config.schedule
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(schedule.seed)
        head = self._head(config)
        soft = soft_targets(schedule)
        train = FeatureSequence(
            self.features["train"], self.targets[soft], batch_size=schedule.batch_size, seed=schedule.seed
        )
        head.compile(
            build_optimizer(schedule.optimizer, head_rate(schedule)),
            loss_of(schedule, self.weights if schedule.class_weights != "none" else None),
            # A step is so small that calling it takes a third of the time.
            steps_per_execution=min(STEPS_PER_CALL, len(train)),
            jit_compile=keras.backend.backend() == "jax",
        )
        best = _BestEpoch(head, self.features["validation"], self.truth, schedule.patience)
        epochs = max(1, math.ceil(share * schedule.head_epochs))
        head.fit(train, epochs=epochs, shuffle=False, verbose=0, callbacks=[in_order(train), best])
        head.set_weights(best.weights)
        return Outcome(best.figures, head.save_weights)

    def clear(self, number: int) -> None:
        """Remove nothing: a head trial leaves no folder."""

    def _head(self, config: TrainingConfig) -> keras.Model:
        """Return a new head for the features, with its convolution if it has one."""
        network, shape = config.network, self.features["train"].shape[1:]
        head = heads.build_head(
            network.head_convolution or shape[-1], len(self.classes), network.hidden, network.dropout,
            chosen(config.schedule.head_decay, self.usual_decay),
        )  # fmt: skip
        if not network.head_convolution:
            return head
        convolution = backbones.head_convolution(network.head_convolution, network.head_convolution_size)
        return heads.convolved(convolution, head, shape)


class TrainingRunner:
    """Trains backbone and head, both phases, each trial in a folder of its own in which it can be resumed.

    Args:
        config: what is asked for.
        folder: the search's.
        photos: its photos, at the size asked for.
        worker: the name of the process, in whose own folders it trains.
        cache_bytes: how many bytes of decoded photos are kept in memory.
        workers: threads that decode.
        share_features: whether the heads of all trials start from the same features.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: SearchFolder,
        photos: CheckedPhotos,
        *,
        worker: str = "alone",
        cache_bytes: int | None = None,
        workers: int | None = None,
        share_features: bool = False,
    ) -> None:
        self.config, self.folder, self.photos, self.worker = config, folder, photos, worker
        self.cache_bytes, self.workers, self.share_features = cache_bytes, workers, share_features

    def run(self, number: int, config: TrainingConfig, share: float) -> Outcome:
        """Train one network."""
        kind = backbones.architecture_of(config.network)
        asked = config.schedule.fine_tune_epochs
        epochs = math.ceil(share * (kind.preset.fine_tune_epochs if asked is None else asked))
        config = replace(config, schedule=replace(config.schedule, fine_tune_epochs=epochs))
        run = _TrialRun(
            self.folder.work(number, self.worker), self.folder.photos.features if self.share_features else None
        )
        keras.utils.clear_session()
        try:
            train.train(
                config, run, Console(file=io.StringIO()),
                workers=self.workers, photos=self._at_size(config),
            )  # fmt: skip
        except TrainingDivergedError as error:
            raise TrialFailedError(str(error.__cause__ or error)) from error
        best = TrainingState(run).best
        if best is None:
            raise TrialFailedError("No epoch was completed.")
        figures = {name: float(best[name]) for name in (OBJECTIVE, "val_accuracy", "val_log_loss")}
        weights = run.checkpoints / best["weights"]
        return Outcome({**figures, "epochs": float(best["epoch"])}, lambda path: shutil.copyfile(weights, path))

    def clear(self, number: int) -> None:
        """Remove the trial's folder."""
        shutil.rmtree(self.folder.work(number, self.worker), ignore_errors=True)

    def _at_size(self, config: TrainingConfig) -> CheckedPhotos:
        """Return the photos at a trial's own size, decoded as they are needed."""
        spec = input_spec(config.network)
        if spec == self.photos.source.spec:
            return self.photos
        return replace(self.photos, source=PhotoSource(self.photos.source.paths, spec, cache_bytes=self.cache_bytes))


@dataclass(frozen=True)
class _TrialRun(RunFolder):
    """A run whose features are those of the whole search, if there is a file for them."""

    shared_features: Path | None = None

    @property
    def features(self) -> Path:
        """Cached features."""
        return self.shared_features or super().features


class _BestEpoch(keras.callbacks.Callback):  # type: ignore[misc]
    """Validates each epoch, keeps the weights of the best one, and stops when nothing improves any more."""

    def __init__(
        self, head: keras.Model, features: NDArray[np.float32], truth: NDArray[np.int32], patience: int
    ) -> None:
        super().__init__()
        self.head, self.inputs, self.truth, self.patience = head, features, truth, patience
        self.figures: dict[str, float] = {}
        self.weights: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Validate.

        Raises:
            TrialFailedError: the loss is not finite.
        """
        loss = float((logs or {}).get("loss", 0.0))
        # Called, not predicted: on a few thousand rows that takes a tenth of the time.
        logits = np.asarray(keras.ops.convert_to_numpy(self.head(self.inputs, training=False)), np.float32)
        if not (math.isfinite(loss) and np.isfinite(logits).all()):
            raise TrialFailedError(f"The loss became {loss:g} in epoch {epoch + 1}.")
        found = calibrated_log_loss(logits, self.truth)
        if not self.figures or found < self.figures[OBJECTIVE]:
            self.figures = {
                OBJECTIVE: round(found, 6),
                "val_accuracy": round(float((logits.argmax(axis=1) == self.truth).mean()), 6),
                "val_log_loss": round(log_loss(logits, self.truth), 6),
                "epochs": float(epoch + 1),
            }
            self.weights = self.head.get_weights()
        if epoch + 1 - self.figures["epochs"] >= self.patience:
            self.head.stop_training = True


def save_weights(outcome: Outcome, path: Path) -> None:
    """Write a trial's weights."""
    write_file(path, outcome.save)
