"""Searches for the options that train best: asks the oracle, runs the trials, keeps what they found."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from classifier.errors import InvalidRequest, NotFound, PointerError, Refused
from trainer.data.checks import CheckedPhotos
from trainer.data.preparation import load_photos, prepare_photos
from trainer.networks.backbones import input_spec
from trainer.run.config import TrainingConfig
from trainer.run.effect import require_effect
from trainer.run.files import PARTIAL
from trainer.search.folder import SearchFolder, Trial, join_search, leading, start_search
from trainer.search.oracle import COMPLETED, FAILED, IDLE, STOPPED, LastingOracle, build_oracle, epoch_share, number
from trainer.search.processes import Role, connect, heartbeats, serve
from trainer.search.results import TrialLines, write_results
from trainer.search.space import AUGMENTATION, Space
from trainer.search.trials import HeadRunner, Runner, TrainingRunner, save_weights

COMPLETE = "the search is complete; a larger --max-trials or --time-budget continues it"


@dataclass(frozen=True)
class SearchOptions:
    """How a search is done."""

    kind: str = "random"
    """``random``, ``hyperband`` or ``bayesian``."""
    max_trials: int = 30
    time_budget: float | None = None
    """Seconds, after which no trial is begun."""
    keep: int = 3
    """How many checkpoints stay."""
    lost_after: float = 60.0
    """Seconds without a heartbeat after which a worker's trial is given to another."""
    overwrite: bool = False
    cache_bytes: int | None = None
    workers: int | None = None
    """Threads that decode."""


def tune(
    config: TrainingConfig, path: Path, space: Space, options: SearchOptions, role: Role, console: Console
) -> list[Trial]:
    """Search as asked for, or go on where the search was interrupted; return all trials, by number.

    Args:
        config: what the trials have in common.
        path: the search's folder.
        space: what they differ in.
        options: how it is searched.
        role: what this process does.
        console: where a line a trial is shown.

    Raises:
        PointerError: the data or the options cannot be used, or no trial has a result.
    """
    require_effect(config)
    if config.schedule.teacher is not None:
        raise InvalidRequest(
            "--teacher is for `trainer train`: search without one, then `trainer train --config best.json --teacher`."
        )
    if config.compute.distribution == "multi-worker":
        raise InvalidRequest(
            "--distribution multi-worker is for `trainer train`: processes share a search through Keras Tuner's "
            "settings, which `trainer tune --help` names."
        )
    if role.kind == "worker":
        if not options.overwrite and is_complete(path, config, space, options):
            console.print(COMPLETE, highlight=False)
            return SearchFolder(path).trials()
        console.print(f"waiting for the chief at {role.address}", highlight=False)
        chief = connect(role)
        search = Search(config, join_search(path, config, space, options.kind), space, options)
        photos = load_photos(search.folder.photos, config, input_spec(config.network))
        runner = _runner(search, photos, role, console)
        work(chief, role.name, search, runner, TrialLines(console, space, search.folder))
        return search.folder.trials()
    with leading(SearchFolder(path)):
        folder = start_search(path, config, space, options.kind, overwrite=options.overwrite)
        search = Search(config, folder, space, options)
        photos = prepare_photos(
            config,
            input_spec(config.network),
            search.folder.photos,
            console,
            cache_bytes=options.cache_bytes,
            workers=options.workers,
        )
        runner = _runner(search, photos, role, console)
        lines = TrialLines(console, space, search.folder)
        oracle = open_oracle(search)
        if role.kind == "chief":
            _lead(oracle, role, options, lines, console)
        else:
            work(oracle, role.name, search, runner, lines)
        trials = search.folder.trials()
        write_results(search.folder, config, space, trials, console)
    return trials


@dataclass(frozen=True)
class Search:
    """What is searched, where and how."""

    config: TrainingConfig
    folder: SearchFolder
    space: Space
    options: SearchOptions


def open_oracle(search: Search) -> LastingOracle:
    """Return the search's oracle where it was left, and remove from the folder what a kill left half done."""
    oracle = _oracle(search)
    oracle.save()
    _tidy(search.folder, search.options.keep)
    return oracle


def is_complete(path: Path, config: TrainingConfig, space: Space, options: SearchOptions) -> bool:
    """Return whether the folder holds this very search, at its end: a chief that finds it so will not answer."""
    if not SearchFolder(path).oracle.is_file():
        return False
    try:
        folder = join_search(path, config, space, options.kind)
    except (NotFound, Refused):
        # A chief may still replace it; what it leaves is looked at when it answers.
        return False
    return _oracle(Search(config, folder, space, options)).over


def _oracle(search: Search) -> LastingOracle:
    options = search.options
    oracle = build_oracle(options.kind, search.space, max_trials=options.max_trials, seed=search.config.schedule.seed)
    oracle.time_budget = options.time_budget
    oracle.keep_in(search.folder.oracle)
    return oracle


def work(oracle: Any, name: str, search: Search, runner: Runner, lines: TrialLines) -> None:
    """Run trials until the oracle has no more.

    Args:
        oracle: a `LastingOracle`, or the chief's as `connect` gives it.
        name: this worker's.
        search: what is searched.
        runner: what runs a trial.
        lines: where it is shown.
    """
    while True:
        trial = oracle.create_trial(name)
        if trial.status == STOPPED:
            return
        if trial.status == IDLE:
            time.sleep(1)
            continue
        # It may have ended when the search was killed, and only the oracle does not know.
        saved = search.folder.trial(number(trial))
        if saved is not None:
            done = saved
        else:
            beats = heartbeats(oracle, trial, search.options.lost_after / 6)
            with lines.running(number(trial)), beats:
                done = _run(trial, name, search, runner)
            lines.show(done)
        if done.figures:
            oracle.update_trial(trial.trial_id, done.figures)
        trial.status, trial.message = (COMPLETED, None) if done.figures else (FAILED, done.failure)
        oracle.end_trial(trial)


def _runner(search: Search, photos: CheckedPhotos, role: Role, console: Console) -> Runner:
    config, folder, options = search.config, search.folder, search.options
    if search.space.heads_only:
        return HeadRunner(config, folder, photos, console, workers=options.workers)
    # Features depend on these; and several workers would write the one file at the same time.
    own = {"image_size", *AUGMENTATION} & {row.name for row in search.space.rows} or role.kind != "alone"
    return TrainingRunner(
        config, folder, photos,
        worker=role.name, cache_bytes=options.cache_bytes, workers=options.workers, share_features=not own,
    )  # fmt: skip


def _run(trial: Any, name: str, search: Search, runner: Runner) -> Trial:
    """Run one trial and record it; one that another worker has recorded meanwhile stays as it is."""
    drawn = trial.hyperparameters.values
    values = {row.name: drawn[row.name] for row in search.space.rows if row.name in drawn}
    began = time.perf_counter()
    share = epoch_share(trial)
    done = Trial(number(trial), values, 0.0, name, {}, share=share)
    outcome = None
    try:
        outcome = runner.run(number(trial), search.space.apply(search.config, values), share)
    except (PointerError, MemoryError) as error:
        done = replace(done, failure=" ".join(str(error).split()) or type(error).__name__)
    except Exception as error:
        # What a device says that is too small for this trial; any other error is one of the program.
        if "RESOURCE_EXHAUSTED" not in str(error) and type(error).__name__ != "ResourceExhaustedError":
            raise
        done = replace(done, failure="Too little memory on the device.")
    else:
        done = replace(done, figures=outcome.figures)
    done = replace(done, seconds=round(time.perf_counter() - began, 2))
    with search.folder.recording():
        saved = search.folder.trial(done.number)
        if saved is None:
            if outcome is not None and search.folder.ranks(done.loss, search.options.keep):
                save_weights(outcome, search.folder.checkpoint(done.number))
            search.folder.keep(done, search.options.keep)
    runner.clear(done.number)
    return saved or done


def _lead(oracle: LastingOracle, role: Role, options: SearchOptions, lines: TrialLines, console: Console) -> None:
    """Hand out trials to workers until there are no more; a search that is complete waits for nobody."""
    if oracle.over:
        console.print(COMPLETE, highlight=False)
        return
    console.print(f"chief at {role.address}, for workers with the same --run and options", highlight=False)

    def lost(worker: str, trial: int | None) -> None:
        given = "" if trial is None else f"; trial {trial} goes to another"
        console.print(f"{worker} is lost: nothing heard for {options.lost_after:g} s{given}", highlight=False)

    serve(oracle, role.address, lost_after=options.lost_after, on_lost=lost, poll=lines.show_new)


def _tidy(folder: SearchFolder, keep: int) -> None:
    """Remove what a kill has left: half-written files, folders of trials that ended, checkpoints beyond the best."""
    for file in (folder.path / "checkpoints").glob(f"{PARTIAL}*"):
        file.unlink()
    trials = folder.trials()
    for trial in trials:
        for work_folder in folder.works(trial.number):
            shutil.rmtree(work_folder, ignore_errors=True)
    folder.prune(keep)
