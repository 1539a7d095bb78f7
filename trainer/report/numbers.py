"""The sections of the report on data, training, figures and confusion."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from classifier.wording import plural
from trainer.metrics.calibration import expected_calibration_error
from trainer.metrics.intervals import f1_interval
from trainer.report import charts, choices
from trainer.report.document import Block, Cell, Paragraph, Section, Table
from trainer.report.material import Material
from trainer.report.output import Output

PAIRS = 20
FIGURES = (
    ("top_1", "top-1 accuracy", ".1%"),
    ("top_5", "top-5 accuracy", ".1%"),
    ("precision", "precision, mean of the classes", ".3f"),
    ("recall", "recall, mean of the classes", ".3f"),
    ("f1", "F1, mean of the classes", ".3f"),
    ("log_loss", "log-loss, nats", ".3f"),
    ("ece", "expected calibration error", ".1%"),
    ("tta_top_1", "top-1 with the mirrored photo too", ".1%"),
    ("tta_log_loss", "log-loss with the mirrored photo too", ".3f"),
)
"""Key, name and format of each figure."""
NAMES = {"mirror": "mirror image", "crops": "five crops", "all": "five crops and their mirror images"}


def split_figures(material: Material) -> dict[str, dict[str, float | None]]:
    """Return the figures of the served file by split, with the 95 % intervals of top-1 and F1."""
    figures: dict[str, dict[str, float | None]] = {}
    for split, evaluation in material.evaluations.items():
        own: dict[str, float | None] = dict(evaluation.figures())
        own["ece"] = expected_calibration_error(evaluation.probabilities, evaluation.truth)
        own["f1_low"], own["f1_high"] = f1_interval(evaluation.truth, evaluation.predicted, len(material.labels))
        figures[split] = own
    return figures


def figures_table(figures: Mapping[str, Mapping[str, float | None]]) -> Table:
    """Return the figures as a table: a row a figure, a column a split."""
    rows: list[tuple[Cell, ...]] = [("photos", *(str(each["photos"]) for each in figures.values()))]
    for key, name, form in FIGURES:
        rows.append((name, *(_with_interval(each, key, form) for each in figures.values())))
    return Table("The served file on each split, 95 % intervals in brackets", ("figure", *figures), tuple(rows))


def views_table(choices: Mapping[str, Mapping[str, float]]) -> list[Block]:
    """Return what each choice of ``tta`` costs and gains as a table; nothing of a bundle that did not measure it."""
    if not choices:
        return []
    rows = tuple(
        (
            NAMES.get(name, name),
            each["passes"],
            each["ms"],
            each["top_1"],
            f"{each['gain'] * 100:+.1f}",
            each["log_loss"],
        )
        for name, each in choices.items()
    )
    photos = next(iter(choices.values()))["photos"]
    return [
        Table(
            f"Test-time augmentation: views averaged, on {photos:,} test photos",
            ("tta", "forward passes", "ms, median", "top-1", "gain, points", "log-loss"),
            rows,
            ("", "d", ".1f", ".1%", "", ".3f"),
        )
    ]


def data(material: Material, output: Output) -> Section:
    """Tell how many photos there are of what."""
    counts = material.counts
    output.table("class_distribution", counts.rename_axis("label").reset_index())
    total = ", ".join(f"{int(counts[split].sum()):,} {split}" for split in counts)
    rejected = len(material.photos.rejected)
    return Section(
        "Photos of each class",
        (
            Paragraph(
                f"{len(counts)} classes, {total} photos. {rejected or 'No'} listed "
                f"{'photo was' if rejected == 1 else 'photos were'} left out as missing, unreadable or doubled."
            ),
            output.chart(
                "class_distribution",
                charts.class_distribution(counts),
                "Photos of each class by split.",
                f"Bars: {total} photos; the smallest class has {int(counts.sum(axis=1).min())} photos, "
                f"the largest {int(counts.sum(axis=1).max())}.",
            ),
        ),
    )


def training(material: Material, output: Output) -> Section:
    """Tell how the training went."""
    log, title = material.log, "How the training went"
    if log.empty:
        return Section(title, (Paragraph("The run has no log: not measured."),))
    output.table("log", log)
    best = material.manifest.training.get("best_epoch") or {}
    served = (str(best["phase"]), int(best["epoch"])) if {"phase", "epoch"} <= set(best) else None
    phases = ", then ".join(
        f"{phase} ({plural(len(of_phase), 'epoch')})" for phase, of_phase in log.groupby("phase", sort=False)
    )
    told = (
        f" Served are the weights of {served[0]}, epoch {served[1]}: the lowest log-loss on validation photos, "
        "calibrated as it is when served."
        if served
        else ""
    )
    return Section(
        title,
        (
            Paragraph(
                f"Phases: {phases}.{told} The accuracy on training photos is measured while the weights change, "
                "with dropout and, in fine-tuning, augmentation: it may lie below that on validation photos."
            ),
            output.chart(
                "learning_curves",
                charts.learning_curves(log, served),
                "Accuracy and log-loss of training and validation photos after each epoch; upright lines part phases, "
                "the star marks the weights that are served.",
                f"Curves over {plural(len(log), 'epoch')}; the accuracy on validation photos ends at "
                f"{log['val_accuracy'].iloc[-1]:.1%}.",
            ),
        ),
    )


def figures(material: Material, output: Output, values: Mapping[str, Mapping[str, float | None]]) -> Section:
    """Tell how good the served file is on each split, and on each class."""
    output.table("figures", pd.DataFrame(values).rename_axis("figure").reset_index())
    blocks: list[Block] = [
        Paragraph(
            "All figures are those of the file that is served, through the code that serves it. "
            + _what_photos_did(material)
        ),
        figures_table(values),
        *views_table(material.manifest.tta.get("choices", {})),
    ]
    counts = material.counts
    if "train" in material.rows and len(material.rows["train"]) < counts["train"].sum():
        blocks.append(Paragraph(f"Of the training photos, {len(material.rows['train']):,} were measured."))
    split = main_split(material)
    if split is not None:
        per_class = material.evaluations[split].per_class().assign(number=range(len(material.labels)))
        output.table(f"{split}_classes", per_class)
        known = per_class[per_class["photos"] > 0]
        blocks.append(
            output.chart(
                "class_f1",
                charts.class_scores(list(known["label"]), known["f1"].to_numpy(), f"F1 of each class, {split} photos"),
                "F1 of each class, best first.",
                f"Dots: from {_extreme(known, 'idxmax')} down to {_extreme(known, 'idxmin')}.",
            )
        )
        rows = per_class[["label", "number", "photos", "precision", "recall", "f1"]].itertuples(index=False)
        blocks.append(
            Table(
                f"Each class on the {split} photos (a click on a head sorts)",
                ("class", "number", "photos", "precision", "recall", "F1"),
                tuple(
                    (
                        row.label,
                        row.number,
                        row.photos,
                        *((row.precision, row.recall, row.f1) if row.photos else ("no photos",) * 3),
                    )
                    for row in rows
                ),
                ("", "d", "d", ".3f", ".3f", ".3f"),
                sortable=True,
            )
        )
    return Section("How good it is", tuple(blocks))


def confusion(material: Material, output: Output) -> Section:
    """Tell which classes are taken for which."""
    title, split = "What it confuses", main_split(material)
    if split is None:
        return Section(title, (Paragraph("There are no photos to measure it on."),))
    evaluation = material.evaluations[split]
    counts, labels = evaluation.confusion_matrix(), material.labels
    output.table(f"{split}_confusion_matrix", counts.reset_index())
    blocks: list[Block] = [
        output.chart(
            "confusion_matrix",
            charts.confusion_matrix(counts, f"What each class is taken for, {split} photos"),
            "Rows are true classes, columns what they were taken for; the colour is the share of the row.",
            f"Matrix of {len(labels)} classes; {np.trace(counts.to_numpy())} of {counts.to_numpy().sum()} photos are "
            "on the diagonal, which is right.",
        )
    ]
    pairs = choices.confused_pairs(evaluation, PAIRS)
    named = pairs.assign(first=[labels[k] for k in pairs["first"]], second=[labels[k] for k in pairs["second"]])
    output.table("confused_pairs", named)
    if len(named):
        rows = tuple(
            (f"{row.first} / {row.second}", row.first_as_second, row.second_as_first, row.photos)
            for row in named.itertuples(index=False)
        )
        heads = ("first / second class", "first taken for second", "second taken for first", "photos of both")
        blocks.append(Table("Pairs that are confused most", heads, rows, ("", "d", "d", "d")))
    else:
        blocks.append(Paragraph("No photo was taken for another class."))
    return Section(title, tuple(blocks))


def main_split(material: Material) -> str | None:
    """Return the split that most is told of: test, else validation."""
    return next((split for split in ("test", "validation") if split in material.evaluations), None)


def _what_photos_did(material: Material) -> str:
    if "imported" in material.manifest.training:
        return (
            "The network was trained elsewhere: whether it was trained on some of these photos is not known here, and "
            "where it was, the figures are too good. Validation photos chose the scaling and the temperature."
        )
    return (
        "Test photos were never looked at while training; validation photos chose the epoch, the temperature and the "
        "variant."
    )


def _with_interval(figures: Mapping[str, float | None], key: str, form: str) -> str | None:
    value, low, high = figures.get(key), figures.get(f"{key}_low"), figures.get(f"{key}_high")
    if value is None:
        return None
    if low is None or high is None:
        return format(value, form)
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def _extreme(known: pd.DataFrame, which: str) -> str:
    row = known.loc[getattr(known["f1"], which)()]
    return f"{row['label']} ({row['f1']:.2f})"
