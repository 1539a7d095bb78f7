"""A search without networks: `main` takes FOLDER KIND TRIALS from the command line; a trial is a formula."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

from rich.console import Console

from trainer.run.config import TrainingConfig
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.search.folder import OBJECTIVE, Trial, start_search
from trainer.search.results import TrialLines
from trainer.search.space import choose_parameters
from trainer.search.trials import Outcome, TrialFailedError
from trainer.search.tune import Search, SearchOptions, open_oracle, work

CONFIG = TrainingConfig(
    DataConfig("folder", "photos"), NetworkConfig("mobilenet", "weights.h5"), ScheduleConfig(seed=3)
)
SPACE = choose_parameters(CONFIG)


class Formula:
    """Best at a rate of 1e-3 and no dropout; what was run is listed in a file."""

    def __init__(self, folder: Path, fails=lambda number: False) -> None:
        self.folder, self.fails = folder, fails

    def run(self, number: int, config: TrainingConfig, share: float) -> Outcome:
        with (self.folder / ".partial-runs").open("a") as file:
            file.write(f"{number}\n")
        if self.fails(number):
            raise TrialFailedError("The loss became nan in epoch 1.")
        rate = config.schedule.head_learning_rate / (100 if config.schedule.optimizer == "sgd" else 1)
        loss = (math.log10(rate) + 3) ** 2 + config.network.dropout + 0.1 / share
        figures = {OBJECTIVE: loss, "val_accuracy": 1 / (1 + loss), "val_log_loss": loss, "epochs": 1.0}
        return Outcome(figures, lambda path: path.write_bytes(bytes(1000)))

    def clear(self, number: int) -> None:
        pass


def search(folder: Path, kind: str = "random", max_trials: int = 6, *, fails=lambda number: False, **options):
    """Search, or go on; return the trials."""
    started = start_search(folder, CONFIG, SPACE, kind)
    search = Search(CONFIG, started, SPACE, SearchOptions(kind, max_trials, **options))
    lines = TrialLines(Console(file=io.StringIO()), SPACE, started)
    work(open_oracle(search), "alone", search, Formula(folder, fails), lines)
    return started.trials()


def runs(folder: Path) -> list[int]:
    """The numbers of the trials that were run, in order, over all calls."""
    return [int(line) for line in (folder / ".partial-runs").read_text().split()]


def without_times(trials: list[Trial]) -> list[tuple]:
    return [(trial.number, trial.values, trial.figures, trial.share, trial.failure) for trial in trials]


def main() -> None:
    search(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
