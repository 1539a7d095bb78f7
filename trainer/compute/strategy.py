"""On what a network is trained: the precision of its arithmetic, XLA, and how batches are shared out over devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifier.errors import InvalidRequest
from trainer.compute.processes import ALONE, Workers, join_workers
from trainer.run.sections import ComputeConfig, Precision

if TYPE_CHECKING:
    from trainer.data.generator import PhotoSequence

BACKENDS = {"data-parallel": "jax", "mirrored": "tensorflow"}
"""Keras's backend that a way of sharing out batches over one machine's devices belongs to."""


class Strategy:
    """How one run computes; `configure` makes it.

    Args:
        config: what was asked for.
        distribution: a `keras.distribution.DataParallel`, a `tf.distribute.Strategy`, or None.
        devices: how many share each batch, over all processes.
        workers: this process among those that share the training.
    """

    def __init__(
        self, config: ComputeConfig, distribution: Any = None, devices: int = 1, workers: Workers = ALONE
    ) -> None:
        self.config, self.distribution, self.devices, self.workers = config, distribution, devices, workers

    @property
    def plain(self) -> bool:
        """Whether the trained layers are already what is exported: float32, on one device."""
        return self.distribution is None and self.config.precision == "float32"

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which models are built, compiled, trained and asked."""
        return nullcontext() if self.distribution is None else self.distribution.scope()

    def jit_compile(self) -> bool:
        """Return Keras's option of that name: JAX is always compiled, and hardly usable when it is not."""
        return self.config.jit_compile or keras.backend.backend() == "jax"

    def optimizer(self, optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
        """Return the optimizer; for float16 with a loss scale, without which small gradients become zero.

        Keras only adds it by itself where the whole model is mixed; here the head is not.
        """
        if self.config.precision == "mixed_float16":
            return keras.optimizers.LossScaleOptimizer(optimizer)
        return optimizer

    def shared(self, batches: keras.utils.PyDataset) -> keras.utils.PyDataset:
        """Return batches that can be shared out evenly; a prediction on them has to be cut to the photos' number."""
        return batches if self.distribution is None else EvenBatches(batches, self.devices, self.workers)

    def gathered(self, model: keras.Model, rank: int = 2) -> keras.Model:
        """Return a model with outputs [batch, values] of which each process gets all, not its own share alone.

        `rank` is how many axes they have.
        """
        if self.workers.processes == 1:
            return model
        everywhere = keras.distribution.TensorLayout((None,) * rank, self.distribution.device_mesh)
        gather = keras.layers.Lambda(lambda shared: keras.distribution.distribute_tensor(shared, everywhere))
        return keras.Sequential([model, gather])

    def on_one_device(self, model: keras.Model) -> keras.Model:
        """Return the model, or its copy outside the distribution: for what is too small to be shared out."""
        if self.distribution is None:
            return model
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        return copy


class EvenBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches whose sizes are multiples of the devices' number: a last, smaller one is filled up with its own photos.

    Those that fill up have the weight 0 and the others the more, so that loss and gradients are exactly the means over
    the photos that are there. Each device takes an equal, adjacent share. Of several processes each reads and gives
    its own devices' share only.

    Args:
        batches: photos, or (photos, targets).
        devices: what a batch's size is made divisible by.
        workers: this process among those that share the batches.
    """

    def __init__(self, batches: PhotoSequence, devices: int, workers: Workers = ALONE) -> None:
        super().__init__(workers=batches.workers, use_multiprocessing=False, max_queue_size=batches.max_queue_size)
        self.batches, self.devices, self.shared_by = batches, devices, workers

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, batch: int) -> Any:
        count = self.batches.size(batch)
        taken = even(count, self.devices)
        share = len(taken) // self.shared_by.processes
        own = np.arange(share) + self.shared_by.process * share
        found = self.batches.part(batch, taken[own])
        if not isinstance(found, tuple):
            return found
        weights = (own < count) * np.float32(len(taken) / count)
        return *found, weights.astype(np.float32)

    def on_epoch_end(self) -> None:
        """Go to the next order."""
        self.batches.on_epoch_end()

    def start_epoch(self, epoch: int) -> None:
        """Take the order of the given epoch, counted from 0."""
        self.batches.start_epoch(epoch)


def configure(config: ComputeConfig) -> Strategy:
    """Prepare the devices; call it before any model is built.

    Raises:
        InvalidRequest: the options do not go together, or not with this machine; the message names the remedy.
    """
    kind, backend = config.distribution, keras.backend.backend()
    if kind == "none":
        return Strategy(config)
    if kind == "multi-worker":
        workers = join_workers()
        devices = keras.distribution.list_devices()
        shared = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
        return Strategy(config, shared, len(devices), workers)
    if BACKENDS[kind] != backend:
        fitting = [name for name, needed in BACKENDS.items() if needed == backend]
        raise InvalidRequest(
            f"--distribution {kind} needs KERAS_BACKEND={BACKENDS[kind]}; received {backend}"
            + (f", which has --distribution {' and '.join(fitting)}." if fitting else ".")
        )
    if backend == "jax":
        return _data_parallel(config)
    if config.jit_compile:
        raise InvalidRequest(
            "TensorFlow does not compile a training that is shared out: leave out --jit-compile or "
            f"--distribution {kind}."
        )
    return _mirrored(config)


@contextmanager
def arithmetic(precision: Precision) -> Iterator[None]:
    """Within it, layers are built that compute in this precision; their weights are float32 all the same."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def even(count: int, devices: int) -> NDArray[np.intp]:
    """Return the indices of `count` photos, and again from the first, up to a multiple of `devices`."""
    return np.arange(-(-count // devices) * devices) % count


def _data_parallel(config: ComputeConfig) -> Strategy:
    devices = keras.distribution.list_devices()
    if len(devices) < 2:
        raise InvalidRequest(_too_few(config, devices))
    return Strategy(config, keras.distribution.DataParallel(devices=devices), len(devices))


def _mirrored(config: ComputeConfig) -> Strategy:
    import tensorflow as tf

    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    if len(devices) < 2:
        raise InvalidRequest(_too_few(config, devices))
    return Strategy(config, tf.distribute.MirroredStrategy(devices), len(devices))


def _too_few(config: ComputeConfig, devices: list[str]) -> str:
    return (
        f"--distribution {config.distribution} needs two devices or more; found {', '.join(devices)}. "
        "Leave it out to train on one."
    )
