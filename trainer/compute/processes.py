"""One training shared by several processes, on one machine or many, through Keras's own settings and JAX.

KERAS_DISTRIBUTION_JOB_ADDRESSES   host:port of process 0, the chief, or of all processes with commas between
KERAS_DISTRIBUTION_NUM_PROCESSES   how many there are
KERAS_DISTRIBUTION_PROCESS_ID      this one's number, from 0

Every process does the same; only the chief writes the run's folder, which all read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from classifier.errors import InvalidSetting, Unavailable

SETTINGS = ("KERAS_DISTRIBUTION_JOB_ADDRESSES", "KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID")
BACKEND = "jax"
AGAIN = "Start all processes with the same commands again: the training goes on."


@dataclass(frozen=True)
class Workers:
    """The place of this process among those that share a training."""

    process: int = 0
    processes: int = 1

    @property
    def chief(self) -> bool:
        """Whether this process writes the run's folder."""
        return self.process == 0

    def meet(self) -> None:
        """Wait until every process is here: what the chief has written before can be read behind it."""
        if self.processes > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("trainer")

    def agreed(self, figures: dict[str, float]) -> dict[str, float]:
        """Return the chief's figures, in float32: processors round differently, and all have to decide the same."""
        if self.processes == 1:
            return figures
        import numpy as np
        from jax.experimental import multihost_utils

        found = multihost_utils.broadcast_one_to_all(np.array(list(figures.values()), np.float32))
        return dict(zip(figures, map(float, found), strict=True))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Turn what JAX raises where another process has ended into one line.

        Raises:
            Unavailable: another process cannot be reached any more.
        """
        if self.processes == 1:
            yield
            return
        import jax

        try:
            yield
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            # Handing out what all have to agree on, JAX raises a ValueError.
            if isinstance(error, ValueError) and "Gloo" not in str(error):
                raise
            raise Unavailable(
                f"Process {self.process} of {self.processes} has lost another one, whose own output says why "
                f"({_first_line(error)}). {AGAIN}"
            ) from error


ALONE = Workers()


def read_workers(env: Mapping[str, str] | None = None) -> Workers:
    """Return this process's place from the environment.

    Raises:
        InvalidSetting: a setting is missing or not what it has to be.
    """
    env = os.environ if env is None else env
    missing = [name for name in SETTINGS if not env.get(name)]
    if missing:
        raise InvalidSetting(f"--distribution multi-worker expects {' and '.join(missing)} in the environment.")
    addresses, processes, process = (env[name] for name in SETTINGS)
    if not all(re.fullmatch(r"\S+:\d+", each) for each in addresses.split(",")):
        raise InvalidSetting(f"Expected {SETTINGS[0]} such as 10.0.0.5:8476; received {addresses!r}.")
    if not processes.isdecimal() or int(processes) < 2:
        raise InvalidSetting(f"Expected {SETTINGS[1]} to be 2 or more; received {processes!r}.")
    if "," in addresses and len(addresses.split(",")) != int(processes):
        raise InvalidSetting(f"Expected one address or {processes} in {SETTINGS[0]}; received {addresses!r}.")
    if not process.isdecimal() or int(process) >= int(processes):
        raise InvalidSetting(f"Expected {SETTINGS[2]} from 0 to {int(processes) - 1}; received {process!r}.")
    return Workers(int(process), int(processes))


def join_workers() -> Workers:
    """Meet the other processes; call it before Keras computes anything. A second call changes nothing.

    Raises:
        InvalidSetting: see `read_workers`; or Keras does not run on JAX.
        Unavailable: they do not come within JAX's five minutes.
    """
    workers = read_workers()
    import keras

    if keras.backend.backend() != BACKEND:
        raise InvalidSetting(
            f"--distribution multi-worker needs KERAS_BACKEND={BACKEND}; received {keras.backend.backend()}: Keras 3 "
            "cannot fit a model under tf.distribute.MultiWorkerMirroredStrategy. TensorFlow has --distribution "
            "mirrored for the GPUs of one machine."
        )
    import jax

    if jax.distributed.is_initialized():
        return workers
    try:
        keras.distribution.initialize()
    except RuntimeError as error:
        raise Unavailable(
            f"Process {workers.process} has not met all {workers.processes} at "
            f"{os.environ[SETTINGS[0]]} ({_first_line(error)}). {AGAIN}"
        ) from error
    return workers


def _first_line(error: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
