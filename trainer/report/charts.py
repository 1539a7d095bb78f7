"""The charts of the report: each function takes numbers and returns a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from classifier.wording import plural
from trainer.report.style import BLUE, INK, MUTED, SPLIT_COLOURS, VERMILION, drawable, fonts, new_figure, styled

COUNTED_CLASSES = 25
"""Up to so many classes, the confusion matrix has its counts written in."""
CELL = 0.155
"""Side of a cell of a large confusion matrix in inches: a line of its labels."""


@styled
def class_distribution(counts: pd.DataFrame) -> Figure:
    """Draw how many photos each class has in each split.

    Args:
        counts: a row a class (the index holds the labels), a column a split.
    """
    labels = list(counts.index)
    with mpl.rc_context({"font.family": fonts(labels)}):
        figure = new_figure(7.5, 1.3 + max(0.17 * len(labels), 0.8))
        axes = figure.subplots()
        left = np.zeros(len(labels))
        for split in counts.columns:
            axes.barh(range(len(labels)), counts[split], left=left, label=split, color=SPLIT_COLOURS[split], height=0.8)
            left += counts[split].to_numpy()
        axes.set_yticks(range(len(labels)), drawable(labels), fontsize=9 if len(labels) <= 40 else 7.5)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("photos")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper left", ncols=len(counts.columns))
    return figure


@styled
def learning_curves(log: pd.DataFrame, best: tuple[str, int] | None) -> Figure:
    """Draw accuracy and log-loss of training and validation over the epochs of all phases.

    Args:
        log: ``phase``, ``epoch``, ``accuracy``, ``val_accuracy``, ``log_loss``, ``val_log_loss``; a row an epoch.
        best: phase and epoch of the weights that are served.
    """
    figure = new_figure(7.5, 5.4)
    above, below = figure.subplots(2, 1, sharex=True)
    epochs = np.arange(1, len(log) + 1)
    marker = "o" if len(log) < 40 else ""
    for axes, name, title in ((above, "accuracy", "Accuracy"), (below, "log_loss", "Log-loss (nats)")):
        for column, split, line in ((name, "train", "--"), (f"val_{name}", "validation", "-")):
            axes.plot(
                epochs, log[column], line, color=SPLIT_COLOURS[split], label=f"{split} photos", marker=marker, ms=3
            )
        axes.set_title(title)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
    if "val_calibrated_log_loss" in log:
        below.plot(
            epochs, log["val_calibrated_log_loss"], ":", color=SPLIT_COLOURS["validation"],
            label="validation photos, calibrated",
        )  # fmt: skip
    above.yaxis.set_major_formatter(PercentFormatter(1))
    below.set_ylim(bottom=0)
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    above.set_xlim(0.5, len(log) + max(1, 0.04 * len(log)))
    starts = np.flatnonzero(log["phase"].ne(log["phase"].shift()))
    for number, start in enumerate(starts.tolist()):
        for axes in (above, below):
            if number:
                axes.axvline(start + 0.5, color=MUTED, lw=1, ls=":")
        above.text(
            start + 0.5, 0.03, f" {log['phase'].iloc[start]}", color=MUTED,
            transform=above.get_xaxis_transform(),
        )  # fmt: skip
    if best is not None:
        lowest = "val_calibrated_log_loss" if "val_calibrated_log_loss" in log else "val_log_loss"
        at = np.flatnonzero((log["phase"] == best[0]) & (log["epoch"] == best[1]))
        for axes, name in ((above, "val_accuracy"), (below, lowest)):
            axes.plot(epochs[at], log[name].to_numpy()[at], "*", color=INK, ms=11, label="served", ls="")
    figure.legend(*below.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


@styled
def confusion_matrix(counts: pd.DataFrame, title: str) -> Figure:
    """Draw which class was taken for which, as shares of the true class's photos.

    The colour rises with the square root of the share, so that single mistakes among many classes can be seen. Up to
    `COUNTED_CLASSES` the counts are written in; beyond, every class still has a line of its own on both sides.

    Args:
        counts: photos of each true class (rows) that were taken for each class (columns); the index holds the labels.
        title: what it shows.
    """
    labels, number = list(counts.index), len(counts)
    few = number <= COUNTED_CLASSES
    matrix = counts.to_numpy(np.float64)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    cell = 0.36 if few else CELL
    size = 9 if number <= 12 else 8 if few else 7
    with mpl.rc_context({"font.family": fonts(labels)}):
        side = max(2.4, cell * number)
        figure = new_figure(side + 2.6, side + 2.3)
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", norm=mpl.colors.PowerNorm(0.5, 0, 1), aspect="equal")
        names = drawable(labels)
        axes.set_yticks(range(number), names, fontsize=size)
        axes.set_xticks(range(number), names, fontsize=size, rotation=90)
        axes.set_xlabel("taken for")
        axes.set_ylabel("true class")
        axes.set_title(title, loc="left")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xticks(np.arange(number + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(number + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#eceff2" if few else "#f4f6f8", lw=0.8 if few else 0.4)
        axes.tick_params(which="minor", length=0)
        if few:
            for row, column in zip(*np.nonzero(matrix), strict=True):
                colour = "white" if shares[row, column] > 0.3 else INK
                axes.text(column, row, f"{matrix[row, column]:.0f}", ha="center", va="center", color=colour, size=size)
        bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 4 / side), aspect=18, ticks=[0, 0.05, 0.2, 0.5, 1])
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1))
        bar.set_label("of the true class's photos")
        bar.outline.set_visible(False)
    return figure


@styled
def reliability_diagram(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw how often labels given with a certain confidence were right, for each split.

    Args:
        tables: `trainer.metrics.calibration.reliability` of each split.
    """
    figure = new_figure(7.5, 4.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=":", label="as confident as right")
    width = 0.8 / max(1, len(tables))
    for number, (split, table) in enumerate(tables.items()):
        filled = table[table["photos"] > 0]
        colour = SPLIT_COLOURS[split]
        above.plot(filled["confidence"], filled["accuracy"], "-", color=colour, lw=1, label=f"{split} photos")
        above.scatter(
            filled["confidence"], filled["accuracy"], s=12 + 120 * filled["photos"] / filled["photos"].max(),
            color=colour, alpha=0.8, lw=0,
        )  # fmt: skip
        step = table["high"] - table["low"]
        below.bar(table["low"] + step * (0.1 + width * (number + 0.5)), table["photos"], step * width, color=colour)
    above.set_xlim(0, 1)
    above.set_ylim(0, 1.03)
    above.set_title("How often a label given with this confidence is right")
    above.set_ylabel("right")
    below.set_ylabel("photos")
    below.set_xlabel("confidence of the label given")
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axis in (above.yaxis, below.xaxis):
        axis.set_major_formatter(PercentFormatter(1))
    for axes in (above, below):
        axes.grid(axis="y")
        axes.set_axisbelow(True)
    figure.legend(*above.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


@styled
def score_histogram(
    scores: Mapping[str, NDArray[np.float64]], threshold: float | None, xlabel: str, title: str
) -> Figure:
    """Draw how a score that tells known photos from others is spread, each group with an axis of its own.

    Args:
        scores: by group, such as ``test`` and ``OOD``; each [photos].
        threshold: beyond which a photo counts as unknown.
        xlabel: what the score is.
        title: what it shows.
    """
    figure = new_figure(7.5, 1.1 + 1.25 * len(scores))
    rows = figure.subplots(len(scores), 1, sharex=True, squeeze=False)[:, 0]
    together = np.concatenate(list(scores.values()))
    edges = np.linspace(float(together.min()), max(float(together.max()), float(together.min()) + 1e-6), 41)
    for axes, (group, values) in zip(rows, scores.items(), strict=True):
        axes.hist(values, edges, color=SPLIT_COLOURS.get(group, VERMILION))
        axes.set_title(f"{group} ({plural(len(values), 'photo')})", fontweight="normal", fontsize=9)
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        if threshold is not None:
            axes.axvline(threshold, color=INK, lw=1, ls="--")
    if threshold is not None:
        rows[0].annotate(
            " threshold", (threshold, 1), xycoords=("data", "axes fraction"), va="top", fontsize=8, color=INK
        )
    rows[-1].set_xlabel(xlabel)
    figure.supylabel("photos", fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return figure


@styled
def trade_curve(passing: Sequence[float], told: Mapping[str, Sequence[float]], of: str) -> Figure:
    """Draw the share of photos of other things that is told against the share of known photos that passes.

    Args:
        passing: shares of known photos.
        told: shares of the photos of other things at each of these, by kind.
        of: what the known photos are.
    """
    figure = new_figure(7.5, 3.0)
    axes = figure.subplots()
    for (name, shares), style in zip(told.items(), cycle(("-", "--", ":", "-.")), strict=False):
        axes.plot(passing, shares, style, marker="o", ms=4, label=name)
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel(f"{of} that pass as known")
    axes.set_ylabel("photos of other things told")
    axes.set_title("What telling photos of other things costs")
    axes.legend(loc="best")
    return figure


@styled
def class_scores(labels: Sequence[str], f1: NDArray[np.float64], title: str) -> Figure:
    """Draw each class's F1, best first.

    Args:
        labels: the classes.
        f1: [classes].
        title: what it shows.
    """
    order = np.argsort(-f1, kind="stable")
    with mpl.rc_context({"font.family": fonts(labels)}):
        figure = new_figure(7.5, 0.9 + max(0.17 * len(labels), 0.8))
        axes = figure.subplots()
        axes.hlines(range(len(labels)), 0, f1[order], color="#c9d6e2", lw=1.5)
        axes.plot(f1[order], range(len(labels)), "o", color=BLUE, ms=4)
        names = drawable(labels)
        axes.set_yticks(range(len(labels)), [names[k] for k in order], fontsize=9 if len(labels) <= 40 else 7.5)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("F1")
        axes.set_title(title)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
    return figure
