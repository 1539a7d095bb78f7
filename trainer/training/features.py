"""Features of the frozen backbone: computed once a run, of photos and of augmented views of them, and kept.

They are pooled, unless a convolution is trained before the pooling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from classifier.errors import InvalidRequest
from trainer.compute.strategy import Strategy
from trainer.data.checks import CheckedPhotos
from trainer.data.source import usable_memory
from trainer.networks import backbones
from trainer.networks.augmentation import Always, scheduled_augmentation
from trainer.networks.teacher import Teacher
from trainer.run.config import TrainingConfig
from trainer.run.files import write_file
from trainer.run.folder import RunFolder
from trainer.run.progress import counting
from trainer.run.sections import ScheduleConfig
from trainer.training.batches import Batches

FULL_PRECISION_BYTES = 2**30
"""Above this, training photos' features are kept as float16: half the memory, and a rounding far below their noise."""
MEMORY_SHARE = 4
"""They may take this part of the usable memory: one in four."""
RELATIVE_PENALTY = 140.0
"""What `usual_head_decay` takes for features of variance 1, times the number of photos."""
SCRATCH_HEAD_DECAY = 1e-4
LARGE_SAMPLE = 10_000
"""How many features are enough for their variance."""

Features = dict[str, NDArray[np.floating[Any]]]


def cached_features(
    run: RunFolder,
    backbone: keras.Model,
    data: Batches,
    console: Console,
    *,
    views: int = 1,
    augmentation: keras.Model | None = None,
    teacher: Teacher | None = None,
    taught_by: str = "",
) -> Features:
    """Return features of the training and validation photos, from the run's folder if they are there already.

    Of a backbone with a head convolution they are what that takes.

    Args:
        run: the run's folder.
        backbone: the frozen backbone.
        data: the photos.
        console: where progress is shown.
        views: of each training photo: the photo itself and augmented ones.
        augmentation: what makes the others.
        teacher: what is asked about the same views.
        taught_by: tells that teacher, and the photos without labels, from others.

    Returns:
        ``train`` [views * photos, channels], view by view, float32, or float16 where there are many; and ``validation``
        [photos, channels], of the photos themselves. With a head convolution [.., rows, columns, channels]. With a
        teacher also ``taught`` [views * photos, classes], its logits of the training views, float32.

    Raises:
        InvalidRequest: they would take too much memory.
    """
    whole = backbones.without_convolution(backbone)
    pooled = whole is backbone
    shape = (views, len(data.rows["train"]), *whole.output_shape[-1 if pooled else 1 :])
    kind = training_dtype(shape, usable_memory())
    asked = {"fingerprint": data.photos.fingerprint, "views": str(views), "taught_by": taught_by}
    if run.features.is_file():
        with np.load(run.features) as saved:
            made = {name: str(saved[name]) for name in ("fingerprint", "views", "taught_by") if name in saved}
            if {"taught_by": ""} | made == asked:
                return {name: saved[name] for name in (*data.rows, "taught") if name in saved}
    plain = feature_model(whole, data.strategy, pooled=pooled)
    asked_of = plain if teacher is None else feature_model(whole, data.strategy, pooled=pooled, teacher=teacher)
    augmented = feature_model(whole, data.strategy, augmentation, pooled=pooled, teacher=teacher) if views > 1 else None
    train = np.empty(shape, kind)
    taught = None if teacher is None else np.empty((*shape[:2], teacher.classes), np.float32)
    for view in range(views):
        what = "features of train photos" + (f", view {view + 1} of {views}" if views > 1 else "")
        with _shown(console, what, data, "train") as (batches, step):
            computed = computed_features(augmented if view else asked_of, batches, step)[: shape[1]]
        if taught is not None:
            computed, taught[view] = computed[:, : -taught.shape[-1]], computed[:, -taught.shape[-1] :]
        train[view] = computed.reshape(shape[1:])
    with _shown(console, "features of validation photos", data, "validation") as (batches, step):
        validation = computed_features(plain, batches, step)[: len(data.rows["validation"])]
    features: Features = {"train": train.reshape(-1, *shape[2:]), "validation": validation}
    if taught is not None:
        features["taught"] = taught.reshape(-1, taught.shape[-1])
    arrays: dict[str, Any] = {**{name: np.array(value) for name, value in asked.items()}, **features}
    if data.strategy.workers.chief:
        write_file(run.features, lambda path: np.savez(path, **arrays))
    return features


def head_features(
    config: TrainingConfig,
    run: RunFolder,
    backbone: keras.Model,
    data: Batches,
    console: Console,
    *,
    teacher: Teacher | None = None,
    taught_by: str = "",
) -> Features:
    """Return `cached_features` in the views that a configuration asks for."""
    zoom = backbones.architecture_of(config.network).zoom
    with data.strategy.scope():  # its random states are variables too
        augmentation = scheduled_augmentation(config.schedule, zoom)
    return cached_features(
        run, backbone, data, console,
        views=config.schedule.head_views, augmentation=augmentation, teacher=teacher, taught_by=taught_by,
    )  # fmt: skip


def features_of_backbone(
    run: RunFolder, config: TrainingConfig, photos: CheckedPhotos
) -> tuple[NDArray[np.intp], NDArray[np.floating[Any]]] | None:
    """Return what a run has kept of its trained backbone: rows of the photos, and their features [rows, channels].

    None where there is nothing, or where the backbone was trained or computed otherwise than it is exported, its head
    convolution included.
    """
    frozen = not config.network.from_scratch and config.fine_tune_epochs() == 0 and not config.network.head_convolution
    if not frozen or config.compute.precision != "float32" or not run.features.is_file():
        return None
    with np.load(run.features) as saved:
        if str(saved["fingerprint"]) != photos.fingerprint:
            return None
        split = photos.frame["split"].to_numpy()
        rows = [np.flatnonzero(split == name) for name in ("train", "validation")]
        return np.concatenate(rows), np.concatenate([saved["train"][: len(rows[0])], saved["validation"]])


def feature_model(
    backbone: keras.Model,
    strategy: Strategy,
    augmentation: keras.Model | None = None,
    *,
    pooled: bool = True,
    teacher: Teacher | None = None,
) -> keras.Model:
    """Return photos [n, H, W, 3] -> features [n, channels], or [n, rows, columns, channels] where not `pooled`.

    With `augmentation` they are of changed photos each time. With a teacher they are [n, all values], and its logits of
    the same view stand behind them.
    """
    if teacher is not None:
        with strategy.scope():
            return strategy.gathered(_taught_features(backbone, augmentation, teacher, pooled=pooled))
    changes = [] if augmentation is None else [Always(augmentation)]
    pooling = [keras.layers.GlobalAveragePooling2D(dtype="float32")] if pooled else []
    with strategy.scope():
        return strategy.gathered(keras.Sequential([*changes, backbone, *pooling]), rank=2 if pooled else 4)


def computed_features(
    model: keras.Model, batches: keras.utils.PyDataset, on_batch: Callable[[], None] = lambda: None
) -> NDArray[np.float32]:
    """Return the features [photos, ...] that `feature_model` gives batches of photos, in their order."""
    callback = keras.callbacks.LambdaCallback(on_predict_batch_end=lambda batch, logs: on_batch())
    return np.asarray(model.predict(batches, verbose=0, callbacks=[callback]), np.float32)


def head_decay(schedule: ScheduleConfig, features: Features, photos: int) -> float:
    """Return the L2 of the head's kernels: as asked for, or as suits its features; from scratch there are none."""
    if schedule.head_decay is not None:
        return schedule.head_decay
    return usual_head_decay(features["train"], photos) if features else SCRATCH_HEAD_DECAY


def usual_head_decay(features: NDArray[np.floating[Any]], photos: int) -> float:
    """Return the L2 of a head's kernels that suits features [n, channels] of so many photos.

    Of features before a convolution, [n, rows, columns, channels], it is that of their means: what the convolution will
    make of them is not known yet.

    It grows with the features' mean variance, so that a network whose features are small is not penalised more than one
    whose features are large: the same as features scaled to a common size under one penalty.
    """
    # From all over: the photos are sorted by path, which often means by class.
    sample = features[:: -(-len(features) // LARGE_SAMPLE)]
    if sample.ndim == 4:
        sample = sample.mean(axis=(1, 2), dtype=np.float32)
    variance = sample.astype(np.float32).var(axis=0).mean()
    return RELATIVE_PENALTY * float(variance) / photos


def training_dtype(shape: tuple[int, ...], memory: int) -> type[np.floating[Any]]:
    """Return the type that features of training photos are kept in.

    Args:
        shape: of all of them.
        memory: usable bytes.

    Raises:
        InvalidRequest: they would take more than their part of the memory even so.
    """
    values = math.prod(shape)
    if values * 4 <= FULL_PRECISION_BYTES:
        return np.float32
    if values * 2 > memory // MEMORY_SHARE:
        convolution = " with --head-convolution" if len(shape) > 3 else ""
        raise InvalidRequest(
            f"Expected the features of the training photos to fit into {memory // MEMORY_SHARE / 1e9:.1f} GB of "
            f"memory; --head-views {shape[0]}{convolution} takes {values * 2 / 1e9:.1f} GB. Ask for fewer views or "
            f"photos{', or leave --head-convolution out' if convolution else ''}."
        )
    return np.float16


class FeatureSequence(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of features [batch, ...] as float32 with their targets, in an order of each epoch's own.

    It follows from the seed and the epoch's number alone, as that of `PhotoSequence`.

    Args:
        features: of every view of every photo, view by view.
        targets: one a photo.
        batch_size: how many views a batch.
        seed: of the order.
        taught: a teacher's logits of every view, [views * photos, classes], which become a second input.
    """

    def __init__(
        self,
        features: NDArray[np.floating[Any]],
        targets: NDArray[Any],
        *,
        batch_size: int,
        seed: int,
        taught: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        super().__init__()
        self.taught = taught
        self.features, self.targets, self.batch_size, self.seed = features, targets, batch_size, seed
        self.start_epoch(0)

    def __len__(self) -> int:
        return -(-len(self.features) // self.batch_size)

    def __getitem__(self, batch: int) -> tuple[Any, NDArray[Any]]:
        rows = self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
        features = self.features[rows].astype(np.float32)
        inputs = features if self.taught is None else (features, self.taught[rows])
        return inputs, self.targets[rows % len(self.targets)]

    def start_epoch(self, epoch: int) -> None:
        """Take the order of the given epoch, counted from 0."""
        self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self.features))


def _taught_features(
    backbone: keras.Model, augmentation: keras.Model | None, teacher: Teacher, *, pooled: bool
) -> keras.Model:
    image = keras.Input(backbone.input_shape[1:], dtype="uint8")
    view = image if augmentation is None else Always(augmentation)(image)
    last = keras.layers.GlobalAveragePooling2D if pooled else keras.layers.Flatten
    return keras.Model(
        image, keras.layers.Concatenate(dtype="float32")([last(dtype="float32")(backbone(view)), teacher(view)])
    )


@contextmanager
def _shown(console: Console, what: str, data: Batches, split: str) -> Iterator[tuple[keras.utils.PyDataset, Any]]:
    batches = data.photos_only(split)
    with data.strategy.scope(), counting(console, what, len(batches)) as step:
        yield batches, step
