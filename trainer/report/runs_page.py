"""Runs beside each other as a page: the table, and the learning curves of all of them in one figure."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from classifier.wording import plural
from trainer.report.document import Block, Listing, Paragraph, Picture, Section, Table
from trainer.report.page import to_html
from trainer.report.runs import RunSummary, curves_of, data_letters, data_lines
from trainer.report.style import BLUE, GREEN, INK, ORANGE, VERMILION, drawable, fonts, new_figure, save, styled
from trainer.run.files import write_file

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, "#CC79A7", "#56B4E9", INK)
"""Okabe and Ito's, the palest left out."""
LINES = ("-", "--", ":", "-.")
CURVES = Path("curves.png")
HEADS = ("run", "network", "pixels", "data", "top-1", "95 %", "ECE", "epochs", "seconds", "file", "ms")
FORMATS = ("", "", "d", "", ".1%", "", ".1%", "d", ",.0f", "", ".1f")


def write_page(runs: Sequence[RunSummary], path: Path) -> None:
    """Write the page; it needs nothing besides itself."""
    letters = data_letters(runs)
    rows = tuple(
        (
            each.name, each.architecture, each.image_size, letters.get(str(each.data), ""), each.top_1, _interval(each),
            each.ece, each.epochs, each.seconds, each.variant or _state(each), each.latency_ms,
        )
        for each in runs
    )  # fmt: skip
    summary: list[Block] = [
        Table(
            "Test figures of the served file; ECE is the expected calibration error",
            HEADS,
            rows,
            FORMATS,
            sortable=True,
        ),
        Listing(tuple(data_lines(runs))),
    ]
    if len(letters) > 1:
        summary.append(Paragraph("Figures of different photos cannot be compared: see the column data.", warning=True))
    logs = {each.name: log for each in runs if (log := curves_of(Path(each.name))) is not None}
    with tempfile.TemporaryDirectory() as folder:
        sections = []
        if logs:
            save(curves(logs), Path(folder, CURVES))
            caption = "Validation photos, epoch by epoch of all phases; a dot is the best epoch by log-loss."
            picture = Picture(CURVES, caption, f"Learning curves of {', '.join(logs)}")
            sections.append(Section("Learning curves", (picture,)))
        text = to_html(plural(len(runs), "run"), summary, sections, Path(folder))
    write_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


@styled
def curves(logs: dict[str, pd.DataFrame]) -> Figure:
    """Draw accuracy and log-loss of the validation photos of each run over its epochs.

    Args:
        logs: by run ``val_accuracy``, ``val_log_loss``; a row an epoch.
    """
    names = drawable(list(logs), 40)
    with mpl.rc_context({"font.family": fonts(names)}):
        figure = new_figure(7.5, 5.4 + 0.16 * len(logs))
        above, below = figure.subplots(2, 1, sharex=True)
        for number, (name, log) in enumerate(zip(names, logs.values(), strict=True)):
            colour, line = COLOURS[number % len(COLOURS)], LINES[number // len(COLOURS) % len(LINES)]
            epochs, best = np.arange(1, len(log) + 1), int(np.nanargmin(log["val_log_loss"].fillna(np.inf)))
            for axes, column in ((above, "val_accuracy"), (below, "val_log_loss")):
                axes.plot(epochs, log[column], line, color=colour, label=name if axes is above else None)
                axes.plot(epochs[best], log[column].iloc[best], "o", color=colour, ms=4)
        for axes, title in ((above, "Accuracy"), (below, "Log-loss (nats)")):
            axes.set_title(title)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        above.yaxis.set_major_formatter(PercentFormatter(1))
        below.set_xlabel("epoch")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower left", ncols=2)
    return figure


def _state(run: RunSummary) -> str:
    return f"{run.state}: {run.problem}" if run.problem else run.state


def _interval(run: RunSummary) -> str:
    if run.top_1_low is None or run.top_1_high is None:
        return ""
    return f"{100 * run.top_1_low:.1f} to {100 * run.top_1_high:.1f}"
