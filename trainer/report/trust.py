"""The sections of the report on what can be relied on: confidence, photos of other things, the file that is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainer.evaluation.ood import UNKNOWN, familiarity
from trainer.metrics.calibration import calibration_error, reliability
from trainer.metrics.separation import ACCEPTED, DOUBTFUL, TRADES, doubt_of_measured, separation, trade
from trainer.report import charts
from trainer.report.document import Block, Listing, Paragraph, Section, Table
from trainer.report.material import Material
from trainer.report.numbers import main_split
from trainer.report.output import Output


def confidence(material: Material, output: Output) -> Section:
    """Tell whether the confidence can be believed."""
    measured = {split: material.evaluations[split] for split in ("validation", "test") if split in material.evaluations}
    if not measured:
        return Section("Can its confidence be believed", (Paragraph("There are no photos to measure it on."),))
    tables = {split: reliability(each.probabilities, each.truth) for split, each in measured.items()}
    output.table("reliability", pd.concat([table.assign(split=split) for split, table in tables.items()]))
    before = material.manifest.metrics.get("calibration", {})
    found = {split: calibration_error(each.probabilities, each.truth) for split, each in measured.items()}
    errors = ", ".join(
        f"{each.error:.1%} on {split} photos"
        + (f" ({before[split]['ece_before']:.1%} before scaling)" if split in before else "")
        for split, each in found.items()
    )
    beyond = " and ".join(
        f"{each.chance:.1%} on so many {split} photos, which leaves {max(each.beyond, 0):.1%} (95 % interval "
        f"{each.low:.1%} to {each.high:.1%})"
        for split, each in found.items()
    )
    temperature = material.manifest.training.get("temperature")
    scaled = f" The logits are divided by a temperature of {temperature:.2f}, {_fitted(before)}." if temperature else ""
    return Section(
        "Can its confidence be believed",
        (
            Paragraph(
                "Of the labels that are given with 80 % confidence, 80 % should be right. The expected calibration "
                f"error, the mean distance from that, is {errors}; validation photos flatter it. Of perfectly "
                f"honest probabilities chance alone would show {beyond}.{scaled}"
            ),
            output.chart(
                "reliability",
                charts.reliability_diagram(tables),
                "Above: confidence against how often it was right, larger dots for more photos. Below: how many "
                "photos got each confidence.",
                f"Reliability diagram; expected calibration error {errors}.",
            ),
        ),
    )


def _fitted(calibration: Mapping[str, Any]) -> str:
    """Say what a temperature was fitted on."""
    photos = calibration.get("fitted_on_photos")
    count = f"{photos} " if photos else ""
    if calibration.get("fitted_on") == "cross-validation":
        return f"fitted by cross-validation on {count}training and validation photos"
    return f"fitted on {count}validation photos"


def unknown(material: Material, output: Output, ood: Mapping[str, NDArray[np.float64]] | None) -> Section:
    """Tell how photos of the classes and photos of other things differ to the model."""
    groups = {
        split: familiarity(material.evaluations[split])
        for split in ("validation", "test")
        if split in material.evaluations
    }
    told = ["The score says how familiar a photo is to the model, from 0 to 1."]
    if ood is None:
        told.append("Photos of other things were not measured; --ood FOLDER adds them.")
        told.extend(_substitutes(material.manifest.metrics.get("unknown") or {}))
    else:
        split = main_split(material)
        for name, scores in ood.items():
            if split is not None:
                above = separation(groups[split], scores, 0.0)["auroc"]
                told.append(
                    f"A photo of another thing ({name}: {len(scores):,} were measured) scores lower than a {split} "
                    f"photo in {above:.1%} of all pairs, which is the area under the ROC curve."
                )
        groups |= ood
    doubts = []
    threshold = material.manifest.thresholds.get(UNKNOWN)
    if ood is not None and threshold is not None:
        for name, scores in ood.items():
            accepted = float((scores >= threshold).mean())
            told.append(f"{accepted:.1%} of the photos of other things ({name}) pass as known ones.")
            if accepted > DOUBTFUL:
                doubts.append(Paragraph(doubt_of_measured(len(scores), accepted), warning=True))
    if threshold is None:
        told.append("The bundle has no threshold: no answer is marked as unknown.")
    else:
        below = ", ".join(f"{(values < threshold).mean():.1%} of {group}" for group, values in groups.items())
        told.append(f"Below {threshold:.3f} the status of an answer is unknown: that is {below}.")
    rows = [(group, round(float(value), 6)) for group, values in groups.items() for value in values]
    output.table("unknown_scores", pd.DataFrame(rows, columns=["group", "score"]))
    medians = ", ".join(f"{group} {np.median(values):.2f}" for group, values in groups.items())
    return Section(
        "Photos of something else",
        (
            *doubts,
            Paragraph(" ".join(told)),
            output.chart(
                "unknown_scores",
                charts.score_histogram(groups, threshold, "score", "How familiar photos are"),
                "Scores of photos of the model's classes" + (" and of other things." if ood else "."),
                f"Histograms; medians: {medians}.",
            ),
            *_trade(material, output, ood, groups),
        ),
    )


def _trade(
    material: Material,
    output: Output,
    ood: Mapping[str, NDArray[np.float64]] | None,
    groups: Mapping[str, NDArray[np.float64]],
) -> list[Block]:
    """Draw what telling more photos of other things costs: measured ones, or else the substitutes of the export."""
    split, kept = main_split(material), (material.manifest.metrics.get("unknown") or {}).get("trade") or {}
    if ood and split is not None:
        told = {name: trade(groups[split], scores) for name, scores in ood.items()}
        of = f"{split} photos"
    else:
        told = {by.replace("_", " "): tuple(shares) for by, shares in kept.items() if by != "pass"}
        of = "validation photos"
    if not told or any(len(shares) != len(TRADES) for shares in told.values()):
        return []
    table = pd.DataFrame({"pass": TRADES, **told})
    output.table("unknown_trade", table)
    at = ", ".join(f"{shares[TRADES.index(ACCEPTED)]:.1%} of {name}" for name, shares in told.items())
    return [
        output.chart(
            "unknown_trade",
            charts.trade_curve(TRADES, told, of),
            f"What it costs to tell more: the threshold may be put where another share of the {of} passes, by "
            "--pass-own of an export.",
            f"Curves; where {ACCEPTED:.0%} of the {of} pass, {at} are told.",
        )
    ]


def _substitutes(unknown: Mapping[str, Any]) -> list[str]:
    """Tell how many substitutes for OOD photos were accepted, where a manifest says so."""
    accepted = unknown.get("ood_accepted") or {}
    return [
        f"Of {what} {accepted[by]:.1%} pass as known ones."
        for by, what in (
            ("shuffled_tiles", "validation photos that were cut into tiles and shuffled"),
            ("classes_left_out", "the photos of classes that the score was kept from"),
        )
        if by in accepted
    ]


def variants(material: Material, output: Output) -> Section:
    """Tell what the exported files measured, and which is served."""
    manifest, title = material.manifest, "Which file is served"
    measured: dict[str, dict[str, Any]] = {name: dict(row) for name, row in manifest.variants.items()}
    if not measured:
        return Section(title, (Paragraph("The variants were not measured."),))
    output.table("variants", pd.DataFrame.from_dict(measured, orient="index").rename_axis("variant").reset_index())
    rows = tuple(
        (
            f"{name} (served)" if name == manifest.variant else name,
            row.get("top_1"), row.get("log_loss_increase"), row.get("agreement"), row.get("heatmap_correlation"),
            row.get("latency_ms"), row.get("latency_all_cpus_ms"),
            *(row[size] / 1e6 if size in row else None for size in ("bytes", "memory_bytes")),
        )
        for name, row in measured.items()
        if "failed" not in row
    )  # fmt: skip
    failed = tuple(f"{name} could not be made: {row['failed']}" for name, row in measured.items() if "failed" in row)
    asked = measured.get(manifest.variant, {}).get("overridden")
    how = "it was asked for by name" if asked else "the fastest whose top-1 stays within the tolerance of float32's"
    photos = manifest.metrics.get("variants_measured_on")
    bounds = _bounds(measured.get(manifest.variant, {}))
    cpus = _cpus(manifest.metrics.get("latency_cpus", {}))
    return Section(
        title,
        (
            Paragraph(
                f"The network was exported in several precisions; {manifest.variant} is served: {how}. Each is "
                f"compared with float32 on the same photos{_compared(manifest.metrics)}: agreement is how often it "
                f"gives float32's label, the correlation that of its heatmaps with float32's. {bounds}Time and memory "
                f"are those of one photo on the exporting machine, {cpus}."
            ),
            Table(
                f"The exported files on {f'{photos} ' if photos else ''}validation photos",
                (
                    "file",
                    "top-1",
                    "log-loss more",
                    "agreement",
                    "heatmap correlation",
                    "ms as served",
                    "ms, all CPUs",
                    "megabytes",
                    "MB in memory",
                ),
                rows,
                ("", ".1%", "+.3f", ".1%", ".3f", ".1f", ".1f", ".1f", ".0f"),
            ),
            *((Listing(failed),) if failed else ()),
        ),
    )


def _bounds(row: Mapping[str, Any]) -> str:
    """Say what the photos do not rule out for the served file; nothing of a bundle that has no such figures."""
    if not row.get("top_1_loss_high"):
        return ""
    return (
        f"These photos do not rule out that the served file loses {row['top_1_loss_high'] * 100:.1f} points of top-1 "
        f"and {row['log_loss_increase_high']:.3f} in log-loss (95 % bounds of the paired differences). "
    )


def _compared(metrics: Mapping[str, Any]) -> str:
    """Say on which photos; nothing of a bundle that does not tell."""
    photos = metrics.get("variants_compared_on")
    if not photos:
        return ""
    learnt = (
        f" and {photos['learnt']} training photos, which count as far as float32 is as unsure of them"
        if photos["learnt"]
        else ""
    )
    return (
        f", {photos['unseen']} that were not trained on{learnt}, by float32's own probabilities and not by labels (the "
        "column top-1 apart)"
    )


def _cpus(measured: Mapping[str, Any]) -> str:
    serving, every = measured.get("serving"), measured.get("all")
    if serving is None:
        return "with all its CPUs"
    return f"as a function with {serving} CPU{'' if serving == 1 else 's'} serves, and with all {every}"
