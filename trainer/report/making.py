"""Makes a run's report: gathers, draws, writes, and adds it to the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from classifier.registry.manifest import KERAS_FILE
from trainer.data.ood_photos import read_ood_photos
from trainer.evaluation.ood import ood_scores
from trainer.report import insides, model_card, numbers, pictures, trust
from trainer.report.document import Block, Paragraph, Section, to_markdown
from trainer.report.material import Material, gather, measured
from trainer.report.output import CARD, PAGE, Output
from trainer.report.page import to_html
from trainer.report.publication import publish_report
from trainer.run.files import read_json, write_json
from trainer.run.folder import RunFolder

REMEMBERED = ("layers", "photos", "licence")


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows."""

    layers: tuple[str, ...] = ()
    """Whose activations and patterns are shown; empty for three spread over the backbone."""
    ood: Mapping[str, Path] | None = None
    """Folders of photos of other things, by name."""
    photos: bool = True
    """Whether photos of the data set are in it."""
    licence: str | None = None
    """Terms of the photos."""
    out: Path | None = None
    """Where to; None for the run's folder and its bundle."""


def remembered(run: RunFolder) -> ReportOptions:
    """Return the options of the run's last report, so that a new export shows no photo that the last one left out."""
    if not run.report_options.is_file():
        return ReportOptions()
    kept = read_json(run.report_options)
    return ReportOptions(tuple(kept["layers"]), photos=kept["photos"], licence=kept["licence"])


def make_report(run: Path, console: Console, options: ReportOptions = ReportOptions()) -> Path:
    """Write a run's ``report.html``, ``model_card.md``, figures and tables, and return the page's path.

    Without `ReportOptions.out` they are published with the run's bundle.

    Raises:
        PointerError: as `gather`; or there is no such layer, or no OOD photo can be read.
    """
    material = gather(run)
    # What was asked for wrongly is said before minutes of measuring.
    backbone = insides.load_backbone(material.bundle.folder / KERAS_FILE)
    layers = insides.choose_layers(backbone, options.layers)
    ood = _scores_of_ood_photos(options.ood, material, console) if options.ood else None
    material = measured(material, console, keep=options.out is None)
    output = Output(options.out or material.run.report)
    with console.status("drawing the report"):
        values = numbers.split_figures(material)
        card = model_card.sections(material.manifest, values, options.licence)
        told: list[Section | None] = [
            numbers.data(material, output),
            pictures.samples(material, output) if options.photos else None,
            numbers.training(material, output),
            numbers.figures(material, output, values),
            numbers.confusion(material, output),
            pictures.pairs(material, output) if options.photos else None,
            pictures.predictions(material, output) if options.photos else None,
            pictures.explanations(material, output) if options.photos else None,
            pictures.inside(material, output, backbone, layers, photos=options.photos),
            trust.confidence(material, output),
            trust.unknown(material, output, ood),
            trust.variants(material, output),
        ]
        name = material.manifest.training.get("network", {}).get("architecture", "model")
        title = f"{name} for {len(material.labels)} classes of {material.manifest.data.get('dataset', 'photos')}"
        card_parts = [replace(section, title=f"Model card: {section.title.lower()}") for section in card]
        sections = [*(section for section in told if section), *card_parts]
        output.text(PAGE, to_html(title, _summary(material, values, options), sections, output.folder))
        output.text(CARD, to_markdown(f"Model card: {title}", card))
    if options.out is None:
        output.remove_others()
        write_json(material.run.report_options, {name: getattr(options, name) for name in REMEMBERED})
        publish_report(material.run, output.folder, output.files)
    return output.folder / PAGE


def _scores_of_ood_photos(
    folders: Mapping[str, Path], material: Material, console: Console
) -> dict[str, NDArray[np.float64]]:
    scores = {}
    for name, folder in folders.items():
        photos = read_ood_photos(folder, material.manifest.input, console)
        scores[name] = ood_scores(material.content, material.labels, photos, console)
    return scores


def _summary(material: Material, values: dict[str, dict[str, float | None]], options: ReportOptions) -> Sequence[Block]:
    blocks: list[Block] = list(model_card.warnings(material.manifest))
    split = numbers.main_split(material)
    if split is not None:
        row = values[split]
        blocks.append(
            Paragraph(
                f"Top-1 accuracy on {row['photos']:,} {split} photos: {row['top_1']:.1%} "
                f"(95 % interval {row['top_1_low']:.1%} to {row['top_1_high']:.1%}); F1 {row['f1']:.3f}. "
                f"Served file: {material.manifest.variant}, exported {material.manifest.created_at}."
            )
        )
    if not options.photos:
        blocks.append(Paragraph("Photos of the data set are left out of this report."))
    return blocks
