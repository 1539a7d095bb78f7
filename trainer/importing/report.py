"""The report of an imported model: the sections of a run's report that need no training and no layers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console

from trainer.evaluation.served_bundle import open_bundle
from trainer.importing.bundle import Imported
from trainer.report import model_card, numbers, pictures, trust
from trainer.report.document import Paragraph, Section, to_markdown
from trainer.report.material import Material
from trainer.report.output import CARD, PAGE, Output
from trainer.report.page import to_html
from trainer.report.publication import publish_report
from trainer.run.config import TrainingConfig
from trainer.run.folder import RunFolder, remove_report
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig


def write_report(imported: Imported, run: RunFolder, folder: str, console: Console, *, photos: bool = True) -> Path:
    """Write the report and the model card into the run's folder and its bundle; returns the page.

    Args:
        imported: what was made; with labelled photos.
        run: the run.
        folder: of the photos.
        console: where progress is shown.
        photos: whether photos are in it.
    """
    labelled = imported.labelled
    if labelled is None:
        raise ValueError("Expected labelled photos.")
    config = TrainingConfig(DataConfig("folder", folder), NetworkConfig(), ScheduleConfig(augment=False))
    material = Material(
        run,
        config,
        open_bundle(run),
        labelled.photos,
        labelled.truth,
        labelled.rows,
        pd.DataFrame(),
        imported.evaluations,
    )
    remove_report(run)
    output = Output(run.report)
    with console.status("drawing the report"):
        values = numbers.split_figures(material)
        card = model_card.sections(material.manifest, values, None)
        told: list[Section | None] = [
            numbers.data(material, output),
            numbers.figures(material, output, values),
            numbers.confusion(material, output),
            pictures.pairs(material, output) if photos else None,
            pictures.predictions(material, output) if photos else None,
            pictures.explanations(material, output) if photos else None,
            trust.confidence(material, output),
            trust.unknown(material, output, None),
        ]
        name = material.manifest.training["network"]["architecture"]
        title = f"{name}, imported, for {len(material.labels)} classes"
        row = values["test"]
        first = Paragraph(
            f"Top-1 accuracy on {row['photos']:,} test photos: {row['top_1']:.1%} (95 % interval "
            f"{row['top_1_low']:.1%} to {row['top_1_high']:.1%}). Served file: {material.manifest.variant}, imported "
            f"{material.manifest.created_at}."
        )
        sections = [each for each in told if each]
        output.text(PAGE, to_html(title, (*model_card.warnings(material.manifest), first), sections, output.folder))
        output.text(CARD, to_markdown(f"Model card: {title}", card))
    output.remove_others()
    publish_report(run, output.folder, output.files)
    return output.folder / PAGE
