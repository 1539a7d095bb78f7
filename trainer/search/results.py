"""What a search shows and leaves: a line a trial, the table, the plot and the best trial's configuration."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console
from rich.table import Table

from classifier.errors import Refused
from trainer.run.config import TrainingConfig
from trainer.run.files import write_file, write_json
from trainer.search.folder import OBJECTIVE, SearchFolder, Trial, ranking
from trainer.search.space import Parameter, Space, shown

FIGURES = (OBJECTIVE, "val_accuracy", "val_log_loss", "epochs")
PRINTED = 5
"""How many trials the printed table has; trials.csv has them all."""


class TrialLines:
    """Prints a line for each trial that ends; a star marks the best so far.

    Args:
        console: where.
        space: what is searched.
        folder: the search's; trials that it has already are not shown again.
    """

    def __init__(self, console: Console, space: Space, folder: SearchFolder) -> None:
        self.console, self.space, self.folder = console, space, folder
        before = folder.trials()
        self._seen = {trial.number for trial in before}
        self._best = min((trial.loss for trial in before), default=float("inf"))
        if before:
            console.print(f"going on after {len(before)} trials", highlight=False)
        console.print("trial    loss    acc    time  values", highlight=False)

    def show(self, trial: Trial) -> None:
        """Show one."""
        self._seen.add(trial.number)
        star = "*" if trial.loss < self._best else " "
        self._best = min(self._best, trial.loss)
        figures = f"{trial.loss:7.4f} {trial.figures['val_accuracy']:6.3f}" if trial.figures else "failed".ljust(14)
        share = "" if trial.share == 1 else f" ({trial.share:.0%} of the epochs)"
        failure = f": {trial.failure}" if trial.failure else ""
        self.console.print(
            f"{trial.number:>4} {star}{figures} {trial.seconds:5.1f} s  {self.space.describe(trial.values)}"
            f"{share}{failure}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip

    def show_new(self) -> None:
        """Show those that other processes have recorded since."""
        for trial in self.folder.trials():
            if trial.number not in self._seen:
                self.show(trial)

    @contextmanager
    def running(self, number: int) -> Iterator[None]:
        """Say, on a terminal, that a trial is going on."""
        if self.console.is_terminal:
            with self.console.status(f"trial {number}"):
                yield
        else:
            yield


def write_results(
    folder: SearchFolder, config: TrainingConfig, space: Space, trials: list[Trial], console: Console
) -> None:
    """Write the table, the plot and the best configuration, and print the best trials.

    Raises:
        Refused: no trial has a result.
    """
    write_file(folder.table, lambda path: _write_table(path, space, trials))
    best = ranking(trials)
    if not best or not best[0].figures:
        first = f" The first: {trials[0].failure}" if trials else ""
        raise Refused(
            f"None of the {len(trials)} trials has a result.{first} "
            f"{folder.table} lists them; start a new search with other options."
        )
    write_json(folder.best, space.apply(config, best[0].values).to_json())
    write_file(folder.plot, lambda path: _plot(path, space, trials))
    _print_best(best, len(trials), space, console)
    console.print(
        f"best: trial {best[0].number}; all in {folder.table} and {folder.plot}\n"
        f"next: trainer train --config {quote(str(folder.best))} --run FOLDER",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def print_space(space: Space, console: Console) -> None:
    """Print the table of what is searched."""
    table = Table(box=None, pad_edge=False)
    for column in ("parameter", "values", "sets"):
        table.add_column(column, overflow="fold")
    for row in space.rows:
        values = " to ".join(map(shown, row.values)) + f", {row.scale}"
        if row.kind == "choice":
            values = ", ".join(map(shown, row.values))
        option = row.sets.split(".")[1].replace("_", "-")
        table.add_row(f"{row.name}{' *' if row.backbone else ''}", values, f"--{option}")
    console.print(table)
    trial = "a head on cached features" if space.heads_only else "a whole training"
    rates = "; rates are Adam's, a hundred times that for sgd" if any(row.rate for row in space.rows) else ""
    marked = "; * takes a training of the backbone" if any(row.backbone for row in space.rows) else ""
    console.print(f"a trial is {trial}{marked}{rates}", highlight=False)


def _write_table(path: Path, space: Space, trials: list[Trial]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [row.name for row in space.rows]
        writer.writerow(["trial", "status", *FIGURES, "epoch_share", "seconds", "worker", *names, "failure"])
        for trial in trials:
            writer.writerow(
                [
                    trial.number,
                    "completed" if trial.figures else "failed",
                    *(trial.figures.get(name, "") for name in FIGURES),
                    round(trial.share, 4), trial.seconds, trial.worker,
                    *(trial.values.get(name, "") for name in names),
                    trial.failure,
                ]
            )  # fmt: skip


def _print_best(best: list[Trial], count: int, space: Space, console: Console) -> None:
    table = Table(box=None, pad_edge=False, title=f"the best of {count} trials", title_justify="left")
    for column in ("trial", "loss", "acc", "epochs"):
        table.add_column(column, justify="right")
    table.add_column("values", overflow="fold")
    for trial in [each for each in best if each.figures][:PRINTED]:
        table.add_row(
            str(trial.number), f"{trial.loss:.4f}", f"{trial.figures['val_accuracy']:.3f}",
            f"{trial.figures['epochs']:.0f}", space.describe(trial.values),
        )  # fmt: skip
    console.print(table)


def _plot(path: Path, space: Space, trials: list[Trial]) -> None:
    """Draw the loss over the trials, and over each parameter."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    good = [trial for trial in trials if trial.figures]
    best = ranking(good)[0]
    columns = 3
    rows = 1 + -(-len(space.rows) // columns)
    figure = Figure(figsize=(10, 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, columns)
    axes = figure.add_subplot(grid[0, :])
    so_far = [min(trial.loss for trial in good[: end + 1]) for end in range(len(good))]
    axes.plot([trial.number for trial in good], so_far, color="tab:blue", drawstyle="steps-post", label="best so far")
    axes.scatter([trial.number for trial in good], [trial.loss for trial in good], s=18, color="tab:gray")
    failed = [trial.number for trial in trials if not trial.figures]
    if failed:
        axes.scatter(
            failed, [max(trial.loss for trial in good)] * len(failed), marker="x", color="tab:red", label="failed"
        )
    axes.scatter([best.number], [best.loss], marker="*", s=140, color="tab:orange", zorder=3, label="best")
    axes.set(xlabel="trial", ylabel="validation log-loss, calibrated", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize="small")
    for position, row in enumerate(space.rows):
        panel = figure.add_subplot(grid[1 + position // columns, position % columns])
        _panel(panel, row, good, best)
    for each in figure.axes:
        each.spines[["top", "right"]].set_visible(False)
        low, high = each.get_ylim()
        each.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)) if high > 2 * low else MaxNLocator(4))
        each.yaxis.set_major_formatter(StrMethodFormatter("{x:.5g}"))
        each.yaxis.set_minor_locator(NullLocator())
    figure.savefig(path, dpi=110)


def _panel(axes: Any, row: Parameter, good: list[Trial], best: Trial) -> None:
    """Draw the loss over one parameter."""
    with_value = [trial for trial in good if row.name in trial.values]
    losses = [trial.loss for trial in with_value]
    if row.kind == "range":
        places = [trial.values[row.name] for trial in with_value]
        axes.set_xscale(row.scale)
        low, high = float(row.values[0]), float(row.values[1])
        room = (high - low) / 30
        axes.set_xlim(*((low * 0.8, high * 1.25) if row.scale == "log" else (low - room, high + room)))
    else:
        places = [row.values.index(trial.values[row.name]) for trial in with_value]
        axes.set_xticks(range(len(row.values)), [str(value) for value in row.values])
        axes.set_xlim(-0.5, len(row.values) - 0.5)
    axes.scatter(places, losses, s=18, color="tab:gray")
    if best in with_value:
        axes.scatter([places[with_value.index(best)]], [best.loss], marker="*", s=140, color="tab:orange", zorder=3)
    axes.set(xlabel=row.name, yscale="log")
