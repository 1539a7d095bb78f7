"""The data-frame generator: batches for Keras from a data frame of paths and labels, on any Keras backend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifier.errors import InvalidRequest
from classifier.registry.manifest import InputSpec, Resize
from classifier.settings import available_cpus
from trainer.data.loaders import class_targets
from trainer.data.mixing import draw_mixes, mixed
from trainer.data.source import PhotoSource

CLASS_MODES = ("categorical", "sparse", None)


class PhotoSequence(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of photos as uint8 [batch, H, W, 3] with their targets, shuffled anew each epoch.

    The order of an epoch follows from the seed and the epoch's number alone, so that a resumed training sees what
    an undisturbed one would have seen. Use `flow_from_dataframe`, or build it from a `PhotoSource` already at hand.

    Args:
        source: the photos.
        rows: which rows of the source, in their order.
        targets: one a row: class numbers, or one-hot rows; None gives batches without targets.
        batch_size: photos a batch; the last one may be smaller.
        shuffle: whether each epoch has an order of its own.
        seed: of the shuffling and of mixing.
        mixup: see `draw_mixes`: each photo is mixed with another, and so are their targets, which then have to be
            one-hot rows.
        cutmix: likewise.
        workers: threads that make batches ahead; None means one a CPU.
    """

    def __init__(
        self,
        source: PhotoSource,
        rows: NDArray[np.intp],
        targets: NDArray[Any] | None,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        workers: int | None = None,
    ) -> None:
        super().__init__(workers=workers or available_cpus(), use_multiprocessing=False, max_queue_size=4)
        self.source, self.rows, self.targets = source, rows, targets
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.mixup, self.cutmix = mixup, cutmix
        self.epoch = 0
        self._shuffle()

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, batch: int) -> Any:
        return self.part(batch, np.arange(self.size(batch)))

    def size(self, batch: int) -> int:
        """Return how many photos a batch has."""
        return min(self.batch_size, len(self.rows) - batch * self.batch_size)

    def part(self, batch: int, which: NDArray[np.intp]) -> Any:
        """Return some photos of a batch, by their numbers in it, with their targets; the others are not read."""
        numbers = batch * self.batch_size + which
        positions = self._order[numbers]
        photos = self._photos(positions)
        if self.targets is None:
            return photos
        targets = self.targets[positions]
        if self._mixes is None:
            return photos, targets
        mixes = self._mixes[numbers]
        return mixed(photos, self._photos(mixes.partners), targets, self.targets[mixes.partners], mixes)

    def on_epoch_end(self) -> None:
        """Go to the next order; Keras calls this, once before the first epoch too."""
        self.start_epoch(self.epoch + 1)

    def start_epoch(self, epoch: int) -> None:
        """Take the order of the given epoch, counted from 0."""
        self.epoch = epoch
        self._shuffle()

    def _photos(self, positions: NDArray[np.intp]) -> NDArray[np.uint8]:
        return np.stack([self.source.array(row) for row in self.rows[positions].tolist()])

    def _shuffle(self) -> None:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = np.arange(len(self.rows))
        if self.shuffle:
            rng.shuffle(order)
        self._order = order
        self._mixes = draw_mixes(rng, len(self.rows), self.mixup, self.cutmix)


def flow_from_dataframe(
    dataframe: pd.DataFrame,
    directory: str | Path | None = None,
    x_col: str = "image_path",
    y_col: str = "label",
    target_size: tuple[int, int] = (299, 299),
    classes: Sequence[str] | None = None,
    class_mode: str | None = "categorical",
    batch_size: int = 32,
    shuffle: bool = True,
    seed: int = 0,
    subset: str | None = None,
    split_col: str = "split",
    resize: Resize = "stretch",
    workers: int | None = None,
    cache_bytes: int | None = None,
) -> PhotoSequence:
    """Return batches of a data frame's photos; the arguments are those of Keras's ``flow_from_dataframe``.

    Pixels come from `classifier.photo.preprocessing`, just as when serving, as uint8 in 0..255: scaling them is the
    network's business. They are decoded once and kept while there is room.

    Args:
        dataframe: one row a photo.
        directory: the folder that the paths are relative to; None means that they are absolute.
        x_col: column of paths.
        y_col: column of labels.
        target_size: (height, width) in pixels.
        classes: the labels in their order; None means those of the whole frame, sorted.
        class_mode: ``categorical`` (one-hot float32), ``sparse`` (class numbers, int32) or None (photos only).
        batch_size: photos a batch.
        shuffle: whether each epoch has an order of its own.
        seed: of the shuffling.
        subset: the value of `split_col` to take, such as ``train``; None takes every row.
        split_col: column of splits.
        resize: ``stretch`` or ``crop``.
        workers: threads that make batches ahead; None means one a CPU.
        cache_bytes: see `PhotoSource`.

    Raises:
        InvalidRequest: a column is missing, a label is not in `classes`, or no row is left.
    """
    needed = [x_col, *([y_col] if class_mode else []), *([split_col] if subset else [])]
    missing = [column for column in needed if column not in dataframe]
    if missing:
        raise InvalidRequest(f"Expected columns {needed}; received {list(dataframe.columns)}.")
    if class_mode not in CLASS_MODES:
        raise InvalidRequest(f"Expected class_mode to be one of {CLASS_MODES}; received {class_mode!r}.")
    labels = tuple(classes) if classes is not None else tuple(sorted(dataframe[y_col].unique())) if class_mode else ()
    chosen = dataframe if subset is None else dataframe[dataframe[split_col] == subset]
    if chosen.empty:
        raise InvalidRequest(f"Expected at least one photo with {split_col} {subset!r}; received none.")
    height, width = target_size
    folder = Path(directory) if directory is not None else Path()
    spec = InputSpec(width=width, height=height, resize=resize)
    source = PhotoSource([folder / path for path in chosen[x_col]], spec, cache_bytes=cache_bytes)
    targets = class_targets(chosen[y_col], labels, one_hot=class_mode == "categorical") if class_mode else None
    return PhotoSequence(
        source,
        np.arange(len(chosen)),
        targets,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        workers=workers,
    )
