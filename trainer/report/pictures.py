"""The sections of the report that show photos of the data set, and the network's insides."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from classifier.quiet import quiet
from classifier.serving.model import Model
from classifier.wording import plural
from trainer.evaluation.served import Evaluation
from trainer.networks import backbones
from trainer.networks.augmentation import scheduled_augmentation
from trainer.report import choices, insides, layer_pictures, mosaics
from trainer.report.document import Block, Paragraph, Section
from trainer.report.material import Material
from trainer.report.mosaics import Tile, Triptych
from trainer.report.numbers import main_split
from trainer.report.output import Output
from trainer.report.style import drawable

SAMPLES, PREDICTIONS, MISTAKES, PAIRS, OF_PAIR, EXPLAINED = 24, 20, 16, 4, 4, 8
AUGMENTED_PHOTOS, VIEWS = 3, 6
CAPTION = 28
"""Characters of a line over a photo of a grid."""


def samples(material: Material, output: Output) -> Section:
    """Show photos of the classes, and what the augmentation makes of some."""
    names = drawable(material.labels, CAPTION)
    split = "train" if "train" in material.rows else next(iter(material.rows))
    rows = material.rows[split]
    chosen = rows[choices.samples(material.truth[rows], len(names), SAMPLES)]
    tiles = [Tile(material.picture(row), (names[material.truth[row]],)) for row in chosen.tolist()]
    blocks: list[Block] = [
        output.photos(
            "samples",
            mosaics.photo_grid(tiles),
            f"Some {split} photos, each under its label.",
            f"{plural(len(tiles), 'photo')} of {plural(len({tile.lines for tile in tiles}), 'class')}.",
        )
    ]
    if material.config.schedule.augment:
        spread = chosen[np.unique(np.linspace(0, len(chosen) - 1, AUGMENTED_PHOTOS).astype(int))]
        blocks.append(
            output.photos(
                "augmentation",
                mosaics.photo_rows(_views(material, spread, names)),
                "At the left the photo as the network gets it, then views of it that the training makes up.",
                f"{plural(len(spread), 'photo')} with {VIEWS} augmented views of each.",
            )
        )
    else:
        blocks.append(Paragraph("The training used no augmentation."))
    return Section("What the photos look like", tuple(blocks))


def predictions(material: Material, output: Output) -> Section:
    """Show right and wrong predictions as they come, and the most confident wrong ones."""
    title, split = "What it says of photos it never saw", main_split(material)
    if split is None:
        return Section(title, (Paragraph("There are no such photos."),))
    evaluation = material.evaluations[split]
    some = choices.predictions(evaluation, PREDICTIONS)
    blocks: list[Block] = [
        output.photos(
            "predictions",
            mosaics.photo_grid(_predicted(material, split, some)),
            f"{split.capitalize()} photos drawn at random: the label given and its confidence; below, where it is "
            "wrong, the true one.",
            f"{plural(len(some), 'photo')}; {int((evaluation.predicted == evaluation.truth)[some].sum())} "
            "labels are right.",
        )
    ]
    wrong = choices.worst_mistakes(evaluation, MISTAKES)
    if len(wrong):
        blocks.append(
            output.photos(
                "worst_mistakes",
                mosaics.photo_grid(_predicted(material, split, wrong)),
                "The most confident mistakes. Some may be photos with a wrong or a second label: worth a look.",
                f"{plural(len(wrong), 'photo')}, each with a wrong label.",
            )
        )
    else:
        blocks.append(Paragraph(f"No {split} photo got a wrong label."))
    return Section(title, tuple(blocks))


def pairs(material: Material, output: Output) -> Section | None:
    """Show photos of the pairs that are confused most; None if there are none."""
    split = main_split(material)
    if split is None:
        return None
    evaluation = material.evaluations[split]
    tiles: list[Tile] = []
    for pair in choices.confused_pairs(evaluation, PAIRS).itertuples(index=False):
        positions = choices.photos_of_pair(evaluation, int(pair.first), int(pair.second), OF_PAIR)
        own = _predicted(material, split, positions)
        tiles += own + [Tile(np.full((1, 1, 3), 255, np.uint8), ())] * (OF_PAIR - len(own))
    if not tiles:
        return None
    picture = output.photos(
        "confused_pairs",
        mosaics.photo_grid(tiles, OF_PAIR),
        "A row for each of the pairs that are confused most: the label given, and below it the true one.",
        f"Wrongly labelled photos of the {len(tiles) // OF_PAIR} pairs of classes that are confused most.",
    )
    return Section("The pairs it confuses most", (picture,))


def explanations(material: Material, output: Output) -> Section:
    """Show where in the photo each label comes from."""
    title, split = "Where it looks", main_split(material)
    if split is None:
        return Section(title, (Paragraph("There are no photos to explain."),))
    evaluation, names = material.evaluations[split], drawable(material.labels, CAPTION)
    with quiet(tell_on_error=True):
        model = Model(material.content)
    shown = []
    for position in choices.explained(evaluation, EXPLAINED).tolist():
        label = int(evaluation.predicted[position])
        images = material.explain(model, int(material.rows[split][position]), label)
        lines = _lines(evaluation, position, names)
        shown.append(Triptych(images, lines, label == evaluation.truth[position]))
    return Section(
        title,
        (
            Paragraph(
                "Grad-CAM (Selvaraju et al. 2017) by the code that serves: photo, heatmap of the label given, and "
                "both together. Bright parts speak for that label."
            ),
            output.photos(
                "grad_cam",
                mosaics.triptychs(shown),
                "Right labels of different classes, then the most confident mistakes.",
                f"{plural(len(shown), 'photo')}, each with its heatmap and the overlay of both.",
            ),
        ),
    )


def inside(material: Material, output: Output, backbone: keras.Model, names: Sequence[str], *, photos: bool) -> Section:
    """Show what layers of the backbone make of a photo (if `photos` may be shown), and what their filters answer to."""
    kind = backbones.architecture_of(material.config.network)
    split = main_split(material) or "train"
    best = int(material.evaluations[split].probabilities.max(axis=1).argmax())
    row = int(material.rows[split][best])
    photo = material.photos.source.array(row)
    found = insides.activations(backbone, kind, names, photo)
    blocks: list[Block] = []
    if photos:
        blocks.append(
            output.photos(
                "activations",
                layer_pictures.activations(photo, found),
                "A photo and what channels of some layers make of it: those that differ most over the photo.",
                f"Activations of the layers {', '.join(names)} as heatmaps.",
            )
        )
    if keras.backend.backend() == "tensorflow":
        blocks.append(
            output.photos(
                "filter_patterns",
                layer_pictures.filter_patterns(backbone, kind, found, material.config.schedule.seed),
                "What some of these channels answer to most: pictures found by gradient ascent from noise.",
                f"Patterns of filters of the layers {', '.join(names)}: edges and colours first, then textures.",
            )
        )
    else:
        blocks.append(Paragraph("The patterns of filters need KERAS_BACKEND=tensorflow: not drawn."))
    return Section("Inside the network", tuple(blocks))


def _views(
    material: Material, rows: NDArray[np.intp], names: Sequence[str]
) -> list[tuple[str, list[NDArray[np.uint8]]]]:
    """Return for each photo its label, the photo as the network gets it, and views through the augmentation."""
    schedule, kind = material.config.schedule, backbones.architecture_of(material.config.network)
    augmentation = scheduled_augmentation(schedule, kind.zoom)
    shown = []
    for row in rows.tolist():
        photo = material.photos.source.array(row)
        views = augmentation(np.repeat(photo[None].astype(np.float32), VIEWS, axis=0), training=True)
        pixels = np.clip(np.round(keras.ops.convert_to_numpy(views)), 0, 255).astype(np.uint8)
        shown.append((names[material.truth[row]], [photo, *pixels]))
    return shown


def _predicted(material: Material, split: str, positions: NDArray[np.intp]) -> list[Tile]:
    evaluation, names = material.evaluations[split], drawable(material.labels, CAPTION)
    right = evaluation.predicted == evaluation.truth
    rows = material.rows[split]
    return [
        Tile(material.picture(int(rows[position])), _lines(evaluation, position, names), bool(right[position]))
        for position in positions.tolist()
    ]


def _lines(evaluation: Evaluation, position: int, names: Sequence[str]) -> tuple[str, ...]:
    label, truth = int(evaluation.predicted[position]), int(evaluation.truth[position])
    given = f"{names[label]} {evaluation.probabilities[position, label]:.0%}"
    return (given, f"true: {names[truth]}" if label != truth else "")
