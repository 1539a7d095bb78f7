"""Keras Tuner's oracles, which decide what is tried next, made to survive a kill and the loss of a worker.

Keras Tuner 1.4.8 keeps an oracle in several files that a kill can leave contradicting each other or cut off, counts an
ended trial among the ongoing ones, draws the Bayesian search's candidates anew after a restart, and waits for a lost
worker without end. Here the whole state is one file, replaced atomically.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from trainer.run.files import read_json, write_json
from trainer.search.folder import OBJECTIVE
from trainer.search.space import Space

FACTOR = 3
"""By which Hyperband cuts down the trials, and multiplies the epochs, from one round to the next."""
FIT_RESTARTS, CANDIDATES, STARTS = 2, 2000, 3
"""Of the Bayesian search: restarts of the Gaussian process's fit; points whose bound is looked at, and improved."""
UNITS, EPOCHS = "units", "tuner/epochs"
"""Among a Hyperband trial's values: into how many units the epochs are divided, and how many of them it is given."""
STOPPED, IDLE, RUNNING = (getattr(TrialStatus, name) for name in ("STOPPED", "IDLE", "RUNNING"))
COMPLETED, FAILED = (getattr(TrialStatus, name) for name in ("COMPLETED", "FAILED"))


def build_oracle(kind: str, space: Space, *, max_trials: int, seed: int) -> LastingOracle:
    """Return the oracle of a search.

    Args:
        kind: ``random``, ``hyperband`` (Li et al. 2018) or ``bayesian`` (a Gaussian process and its upper confidence
            bound).
        space: what is searched.
        max_trials: how many trials there are at most.
        seed: of the values drawn.
    """
    shared = {
        "objective": keras_tuner.Objective(OBJECTIVE, "min"),
        "hyperparameters": hyperparameters(space),
        # Keras Tuner takes 0 for "any", and NumPy no negative ones.
        "seed": seed % 2**31 + 1,
        "max_consecutive_failed_trials": None,
    }
    if kind == "hyperband":
        units = hyperband_units(max_trials)
        # Goes to the workers, and stays when the search is continued with more trials.
        shared["hyperparameters"].Fixed(UNITS, units)
        oracle = _Hyperband(max_epochs=units, factor=FACTOR, hyperband_iterations=None, **shared)
        oracle.max_trials = max_trials
    elif kind == "bayesian":
        points = max(3, min(3 * len(space.rows), max_trials // 3))
        oracle = _Bayesian(max_trials=max_trials, num_initial_points=points, **shared)
    else:
        oracle = _Random(max_trials=max_trials, **shared)
    oracle.verbose = 0
    return oracle


def hyperband_units(max_trials: int) -> int:
    """Return into how many units Hyperband divides the epochs: the power of 3 whose brackets fit into the trials.

    3 units take 6 trials, 9 take 23 and 27 take 70; with more trials than that the brackets begin again.
    """
    return 27 if max_trials >= 70 else 9 if max_trials >= 23 else 3


def hyperparameters(space: Space) -> Any:
    """Return the space as Keras Tuner's `HyperParameters`."""
    declared = keras_tuner.HyperParameters()
    for row in space.rows:
        condition = {} if row.needs is None else {"parent_name": row.needs[0], "parent_values": list(row.needs[1])}
        if row.kind == "range":
            declared.Float(row.name, *row.values, sampling=row.scale, **condition)
        else:
            declared.Choice(row.name, list(row.values), **condition)
    return declared


class LastingOracle(keras_tuner.Oracle):  # type: ignore[misc]
    """What the three oracles have in common."""

    file: Path
    trials: dict[str, Any]
    ongoing_trials: dict[str, Any]
    _retry_queue: list[str]
    time_budget: float | None = None
    """Seconds, over all the calls that the search took; no trial is begun after them."""
    shared = False
    """Whether workers in other processes ask it."""

    def keep_in(self, file: Path) -> None:
        """Keep the state in this file, and go on with what is in it."""
        self.file = file
        self._began = time.monotonic()
        self._spent = 0.0
        self.heard: dict[str, float] = {}
        if file.is_file():
            self.reload()

    @property
    def spent(self) -> float:
        """Seconds that the search has taken, over all calls."""
        return self._spent + time.monotonic() - self._began

    @property
    def over(self) -> bool:
        """Whether no trial is left to be handed out, nor waited for."""
        spent = self.time_budget is not None and self.spent >= self.time_budget
        every = self.max_trials is not None and len(self.trials) >= self.max_trials and not self._retry_queue
        return not self.ongoing_trials and (spent or every)

    def create_trial(self, tuner_id: str) -> Any:
        """Return the next trial, or an empty one with the status ``STOPPED`` or ``IDLE``."""
        self.heard[tuner_id] = time.monotonic()
        over = self.time_budget is not None and self.spent >= self.time_budget
        if over and tuner_id not in self.ongoing_trials:
            trial = Trial(self.hyperparameters.copy(), trial_id="", status=STOPPED)
            self.tuner_ids.discard(tuner_id)
        else:
            with _without_remarks():
                trial = super().create_trial(tuner_id)
            # Somebody has to be there when another worker is lost and its trial is to be done again.
            if trial.status == STOPPED and self.shared and self.ongoing_trials:
                trial.status = IDLE
                self.tuner_ids.add(tuner_id)
        return trial

    def update_trial(self, trial_id: str, metrics: dict[str, float], step: int = 0) -> Any:
        """Take a trial's figures."""
        with _without_remarks():
            return super().update_trial(trial_id, metrics, step=step)

    def end_trial(self, trial: Any) -> None:
        """Take a trial's end; one that somebody else has ended already is ignored."""
        if any(ongoing.trial_id == trial.trial_id for ongoing in self.ongoing_trials.values()):
            with _without_remarks():
                super().end_trial(trial)

    def get_trial(self, trial_id: str) -> Any:
        """Return a trial; its worker asks for it now and then as a heartbeat."""
        for tuner_id, ongoing in list(self.ongoing_trials.items()):
            if ongoing.trial_id == trial_id:
                self.heard[tuner_id] = time.monotonic()
        return super().get_trial(trial_id)

    def drop_lost_workers(self, after: float) -> list[tuple[str, int | None]]:
        """Take the trials of workers not heard of for so many seconds back; return the workers and their trials."""
        with _without_remarks():
            found: list[tuple[str, int | None]] = self._drop_lost_workers(after)
            return found

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def _drop_lost_workers(self, after: float) -> list[tuple[str, int | None]]:
        lost = [name for name in list(self.tuner_ids) if time.monotonic() - self.heard.get(name, 0.0) > after]
        found = []
        for tuner_id in lost:
            self.tuner_ids.discard(tuner_id)
            trial = self.ongoing_trials.pop(tuner_id, None)
            if trial is not None:
                self._retry_queue.append(trial.trial_id)
            found.append((tuner_id, None if trial is None else number(trial)))
        return found

    def save(self) -> None:
        """Replace the file by the state of now."""
        state = {"spent": self.spent, "oracle": self.get_state()}
        state["trials"] = [trial.get_state() for trial in self.trials.values()]
        write_json(self.file, state)

    def reload(self) -> None:
        """Read the state; trials that were going on are done again first, with the same values."""
        saved = read_json(self.file)
        for state in saved["trials"]:
            trial = Trial.from_state(state)
            self.trials[trial.trial_id] = trial
        self.set_state(saved["oracle"])
        self._spent = saved["spent"]
        ongoing = {trial.trial_id for trial in self.ongoing_trials.values() if trial.status == RUNNING}
        # Taken from the end.
        self._retry_queue = sorted(ongoing | set(self._retry_queue), key=int, reverse=True)
        self.ongoing_trials = {}

    def _save_trial(self, trial: Any) -> None:
        """Write nothing: `save` keeps the trials too."""


class _Random(LastingOracle, keras_tuner.oracles.RandomSearchOracle):  # type: ignore[misc]
    pass


class _Hyperband(LastingOracle, keras_tuner.oracles.HyperbandOracle):  # type: ignore[misc]
    pass


class _Bayesian(LastingOracle, keras_tuner.oracles.BayesianOptimizationOracle):  # type: ignore[misc]
    def populate_space(self, trial_id: str) -> Any:
        # Follows from the seed and the trial alone, so that a search that goes on draws what it would have drawn.
        self._random_state = _Candidates((self.seed + int(trial_id)) % 2**32, self.gpr, self.beta)
        return super().populate_space(trial_id)

    def _make_gpr(self) -> Any:
        process = super()._make_gpr()
        process.n_restarts_optimizer = FIT_RESTARTS
        return process


class _Candidates:
    """Stands for the random state from which Keras Tuner draws the points where its search for the best bound starts.

    It would start from 50 points anywhere, one after the other: seconds a trial. These are few and already good: the
    best of many, asked for together.
    """

    def __init__(self, seed: int, process: Any, beta: float) -> None:
        self.random, self.process, self.beta = np.random.RandomState(seed), process, beta

    def uniform(self, low: Any, high: Any, size: tuple[int, int]) -> Any:
        """Return points [`STARTS`, dimensions] between `low` and `high`, [dimensions] each."""
        points = self.random.uniform(low, high, size=(CANDIDATES, size[1]))
        mean, spread = self.process.predict(points, return_std=True)
        return points[np.argsort(mean - self.beta * spread, kind="stable")[:STARTS]]


def epoch_share(trial: Any) -> float:
    """Return the share of the epochs asked for that a trial is given."""
    values = trial.hyperparameters.values
    return float(values[EPOCHS] / values[UNITS]) if EPOCHS in values else 1.0


def number(trial: Any) -> int:
    """Return a trial's number, from 1."""
    return int(trial.trial_id) + 1


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Hold back warnings: of threading names long deprecated, and of scikit-learn's fits that could be better."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
