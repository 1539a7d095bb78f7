"""`trainer tune`: searches for the options that train best."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from trainer.commands.options import SEARCH, CacheOption, WorkersOption, declared_options
from trainer.commands.screen import console, load_keras
from trainer.run.config import TrainingConfig

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
searched = functools.partial(typer.Option, rich_help_panel=SEARCH)
"""An option of the search alone."""


@declared_options
def tune(
    config: TrainingConfig,
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder of the search; an interrupted one is resumed.")
    ] = None,
    search: Annotated[
        Literal["random", "hyperband", "bayesian"],
        searched(help="random, hyperband (most trials are short) or bayesian (learns where to look)."),
    ] = "random",
    parameters: Annotated[
        str,
        searched(help="What is searched, such as learning_rate,dropout. Default: all of the head."),
    ] = "",
    fine_tune: Annotated[
        bool,
        searched(
            "--fine-tune",
            help="Train the backbone in each trial and search its parameters too.",
            rich_help_panel=SEARCH,
        ),
    ] = False,
    show_space: Annotated[bool, searched("--show-space", help="Show what would be searched, and end.")] = False,
    max_trials: Annotated[int, searched(help="Trials at most; more later continue the search.", min=1)] = 30,
    time_budget: Annotated[str | None, searched(help="No trial is begun after it: 90s, 30m, 2h or 90.")] = None,
    keep: Annotated[int, searched(help="Checkpoints that stay: of the best trials.", min=1)] = 3,
    worker_timeout: Annotated[float, searched(help="Seconds without a sign after which a worker is lost.", min=1)] = 60,
    cache_gb: CacheOption = None,
    workers: WorkersOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again if the folder is in use.")] = False,
) -> None:
    """Search for the options that train best.

    Keras Tuner searches; the best options are left in best.json for `trainer train --config`. Without --fine-tune a
    trial is a head on features that are computed once: seconds. Validation photos decide, by the log-loss that a
    training decides by; test photos are never looked at. An interrupted search goes on when it is run again.

    Several processes share a search: give all the same options and --run folder, and in the environment
    KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT of the chief, and KERASTUNER_TUNER_ID: chief for the one that
    leads and trains nothing, another name for each worker.

    Example: trainer tune --dataset folder --data-dir photos --architecture mobilenet_v2 --run tunings/mine
    """
    from trainer.search.space import choose_parameters

    budget = None if time_budget is None else read_seconds(time_budget)
    names = [name.strip() for name in parameters.split(",") if name.strip()]
    space = choose_parameters(config, names, fine_tune=fine_tune)
    if show_space:
        from trainer.search.results import print_space

        print_space(space, console())
        return
    if run is None:
        raise typer.BadParameter("Missing option '--run': the folder of the search")
    from trainer.search.folder import SearchFolder
    from trainer.search.processes import read_role
    from trainer.training.preflight import require_trainable

    role = read_role()
    if role.kind != "worker" and (overwrite or not SearchFolder(run).oracle.exists()):
        require_trainable(config)
    load_keras()
    from trainer.search import tune

    tune.tune(
        config,
        run,
        space,
        tune.SearchOptions(
            kind=search, max_trials=max_trials, time_budget=budget, keep=keep, lost_after=worker_timeout,
            overwrite=overwrite, cache_bytes=None if cache_gb is None else int(cache_gb * 1e9), workers=workers,
        ),
        role,
        console(),
    )  # fmt: skip


def read_seconds(text: str) -> float:
    """Return the seconds of ``90s``, ``30m``, ``2h`` or ``90``.

    Raises:
        typer.BadParameter: it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not found or float(found[1]) == 0:
        raise typer.BadParameter(f"Expected --time-budget such as 90s, 30m or 2h; received {text!r}.")
    return float(found[1]) * UNITS[found[2]]
