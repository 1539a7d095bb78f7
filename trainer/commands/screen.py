"""What commands print: a console, the tables of figures, and Keras without its remarks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import typer

SHOWN_TRADES = (0.8, 0.9, 0.95, 0.99)
"""Shares of known photos that pass, of which the share of OOD photos that are told is printed."""


def console(*, err: bool = False) -> Any:
    """Return a console on stdout or stderr."""
    from rich.console import Console

    return Console(stderr=err)


def load_keras(*, start: bool = True) -> None:
    """Import Keras and its backend, and keep TensorFlow's remarks from the screen.

    It remarks on being loaded, and on functions that are traced anew for another network; its errors are shown.

    Args:
        start: whether the backend begins to compute, which has to wait where several processes have to meet first.
    """
    from classifier.quiet import quiet

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with quiet(tell_on_error=True):
        import keras

        if start:
            keras.ops.zeros(1)


def print_result(manifest: Any, bundle: Path) -> None:
    """Print a new bundle's figures and what to do with it."""
    from trainer.metrics.separation import doubt

    print_figures({split: manifest.metrics[split] for split in ("validation", "test")})
    if doubtful := doubt(manifest.metrics["unknown"], manifest.training, manifest.data):
        console().print(f"warning: {doubtful}", style="yellow", highlight=False)
    # A version that follows another is made by `admin_cli retrain`, which publishes it.
    following = "" if manifest.parent_version else f"; {publishing(bundle.parent)}"
    typer.echo(f"bundle of the {manifest.variant} model in {bundle}{following}")


def publishing(run: Path) -> str:
    """Say what publishes a run's bundle: no next step, for whoever started the trainer may do that too."""
    return f"`admin_cli publish {quote(str(run))}` publishes it"


def print_views(views: Mapping[str, Mapping[str, float | int]]) -> None:
    """Print a line a choice of test-time augmentation: what it costs and gains."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("tta")
    for column in ("photos", "passes", "ms", "top-1", "gain", "log-loss"):
        table.add_column(column, justify="right")
    for name, row in views.items():
        table.add_row(
            name, str(row["photos"]), str(row["passes"]), f"{row['ms']:.1f}", f"{row['top_1']:.1%}",
            f"{row['gain'] * 100:+.1f}", f"{row['log_loss']:.3f}",
        )  # fmt: skip
    console().print(table)


def print_ood(told: Mapping[str, Mapping[str, Any]], split: str, near: Mapping[str, float] | None) -> None:
    """Print a line each kind of OOD photos, and what the export found of near ones: see `evaluation.ood`."""
    from rich.table import Table

    passing = next(iter(told.values()))
    shares = [share for share in passing["trade"] if float(share) in SHOWN_TRADES]
    table = Table(box=None, pad_edge=False)
    table.add_column("other things")
    for column in ("photos", "AUROC", "rejected", *(f"of {float(share):.0%}" for share in shares)):
        table.add_column(column, justify="right")
    for name, row in told.items():
        rates = (row["rejected"], *(row["trade"][share] for share in shares))
        table.add_row(name, str(row["photos"]), f"{row['auroc']:.3f}", *(f"{rate:.1%}" for rate in rates))
    console().print(table)
    typer.echo(
        f"rejected: with the status unknown, where {passing['accepted']:.1%} of the {split} photos are accepted;\n"
        "of 95%: that many would be, where 95% of them are (--pass-own of an export)"
    )
    if near:
        typer.echo(
            f"near, by classes that the score was kept from: AUROC {near['auroc']:.3f}, {near['rejected']:.1%} rejected"
        )


def print_figures(figures: dict[str, dict[str, float]]) -> None:
    """Print a line of figures a split; tta is with the mirror image too (test-time augmentation)."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("served file on")
    for column in ("photos", "top-1", "top-1 tta", "top-5", "log-loss", "F1"):
        table.add_column(column, justify="right")
    for split, row in figures.items():
        table.add_row(
            split, str(row["photos"]), f"{row['top_1']:.1%}", f"{row['tta_top_1']:.1%}", f"{row['top_5']:.1%}",
            f"{row['log_loss']:.3f}", f"{row['f1']:.3f}",
        )  # fmt: skip
    console().print(table)
