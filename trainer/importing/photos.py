"""Labelled photos of an imported model: which scaling fits it, how honest its probabilities are, and its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from classifier.errors import InvalidRequest
from classifier.labels import folded, trimmed
from classifier.quiet import quiet
from classifier.registry.manifest import InputSpec
from classifier.serving.model import Model
from classifier.wording import plural
from trainer.data.checks import CheckedPhotos
from trainer.data.listing import SPLIT_NAMES
from trainer.data.loaders import class_targets
from trainer.data.preparation import check_dataset
from trainer.data.sampling import calibration_rows, spread
from trainer.evaluation.served import run_model
from trainer.importing.scaling import Scaling
from trainer.run.sections import DataConfig

SHARE = 0.5
"""Of photos without splits: this part is for the figures, the rest for scaling and temperature."""
TRIED = 200
"""Photos that every scaling is tried on."""
COLLAPSE = 0.05
"""By how much a told scaling may be worse than the best one, beyond chance."""


@dataclass(frozen=True)
class Labelled:
    """Photos whose labels are known."""

    photos: CheckedPhotos
    truth: NDArray[np.int32]
    """Class number of every photo of the frame."""
    rows: Mapping[str, NDArray[np.intp]]
    """Of the frame, by split: validation and test."""
    tried: NDArray[np.intp]
    """The rows that scalings are tried on."""

    @property
    def untried(self) -> NDArray[np.intp]:
        """Return other rows, at most `TRIED`."""
        rows = np.concatenate([self.rows[split] for split in ("validation", "test")])
        others: NDArray[np.intp] = spread(np.setdiff1d(rows, self.tried), TRIED)
        return others


def read_labelled(folder: str, labels: tuple[str, ...], spec: InputSpec, console: Console) -> Labelled:
    """Return the photos of a folder with a folder for each label.

    Folders test and validation are taken as that; of a folder without them, half of each label's photos are for tests.

    Args:
        folder: a path, or ``gs://bucket/folder``.
        labels: of the model; a folder may be named in another spelling, as far as it means one label only.
        spec: the model's input.
        console: where progress is shown.

    Raises:
        InvalidRequest: a folder is named like no label, or there are too few photos.
    """
    config = DataConfig(dataset="folder", data_dir=folder, test_share=SHARE, validation_share=SHARE)
    photos, _ = check_dataset(config, spec, console)
    frame = photos.frame.copy()
    known = {name: _label_of(name, labels) for name in frame["label"].unique()}
    strange = sorted(name for name, label in known.items() if label is None)
    if strange:
        raise InvalidRequest(
            f"Expected folders in {folder} named like the model's labels ({', '.join(labels[:5])}…); received "
            f"{', '.join(strange[:5])}. Rename them, or correct --labels."
        )
    frame["label"] = frame["label"].map(known)
    if not any(
        len(Path(path).parts) > 2 and Path(path).parts[0].lower() in SPLIT_NAMES for path in frame["image_path"]
    ):
        frame.loc[frame["split"] == "train", "split"] = "validation"
    rows = {split: np.flatnonzero(frame["split"] == split) for split in ("validation", "test")}
    if any(not len(each) for each in rows.values()):
        raise InvalidRequest(f"Expected at least two photos of a label in {folder}; received fewer.")
    truth = class_targets(frame["label"], labels, one_hot=False)
    tried = calibration_rows(list(frame["label"]), rows["validation"], TRIED)
    return Labelled(replace(photos, frame=frame), truth, rows, tried)


def fitting_scaling(
    labelled: Labelled,
    candidates: list[Scaling],
    told: Scaling | None,
    composed: Callable[[Scaling], bytes],
    classes: int,
    console: Console,
) -> Scaling:
    """Try every scaling on the same photos, show how many each labels rightly, and return the one to take.

    Args:
        labelled: the photos.
        candidates: the scalings, the told one among them.
        told: by an option or by the file; None where nobody tells, and the best one is taken.
        composed: makes the file that serves with a scaling.
        classes: of the model.
        console: where the table is shown.

    Raises:
        InvalidRequest: the told one labels far fewer photos rightly than another, or none is better than chance.
    """
    truth, source = labelled.truth[labelled.tried], labelled.photos.source
    with quiet(tell_on_error=True):
        Model(composed(candidates[0]))  # LiteRT says what it does once a process
    right, certainty = {}, {}
    for scaling in candidates:
        given = np.stack([each for each, _ in run_model(composed(scaling), source, labelled.tried)])
        right[scaling.name] = given.argmax(axis=1) == truth
        certainty[scaling.name] = float(np.log(np.clip(given[np.arange(len(truth)), truth], 1e-7, 1)).mean())
    order = sorted(candidates, key=lambda each: (right[each.name].mean(), certainty[each.name]), reverse=True)
    best = order[0]
    _show(console, order, right, certainty, told, len(truth))
    shares = {name: float(hits.mean()) for name, hits in right.items()}
    chance = float(np.bincount(truth, minlength=classes).max() / len(truth))
    if shares[best.name] <= chance + 2 * (chance * (1 - chance) / len(truth)) ** 0.5:
        raise InvalidRequest(
            f"Expected a scaling that fits; the best one, {best.name}, labels {shares[best.name]:.1%} of {len(truth)} "
            f"photos rightly, and who always says the same label {chance:.1%}. Are the labels in the order of the "
            "model's outputs, and the photos in the folders of their labels? Another rule is told with --scaling "
            "mean:std."
        )
    if told is None:
        alike = [each.name for each in order[1:] if not _is_worse(right[each.name], right[best.name])]
        if alike:
            console.print(
                f"These photos do not tell {best.name} from {', '.join(alike)}: if you know it, tell --scaling.",
                highlight=False,
            )
        return best
    if shares[best.name] - shares[told.name] > COLLAPSE and _is_worse(right[told.name], right[best.name]):
        fitting = [each.name for each in order if not _is_worse(right[each.name], right[best.name])]
        raise InvalidRequest(
            f"Expected the scaling {told.name} to fit; with it {shares[told.name]:.1%} of {len(truth)} photos are "
            f"labelled rightly, with {best.name} {shares[best.name]:.1%}. Tell --scaling {' or '.join(fitting)}, "
            "whichever the network was trained with."
        )
    return told


def _is_worse(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Say whether one is right less often than the other, by two standard errors of the paired difference."""
    lost, won = int((other & ~one).sum()), int((one & ~other).sum())
    return bool(lost - won > 2 * (lost + won) ** 0.5)


def _label_of(name: str, labels: tuple[str, ...]) -> str | None:
    if name in labels:
        return name
    for spelling in (trimmed, folded):
        alike = [label for label in labels if spelling(label) == spelling(name)]
        if len(alike) == 1:
            return alike[0]
    return None


def _show(
    console: Console,
    order: list[Scaling],
    right: Mapping[str, NDArray[np.bool_]],
    certainty: Mapping[str, float],
    told: Scaling | None,
    photos: int,
) -> None:
    table = Table(title=f"scalings on {plural(photos, 'photo')}", title_justify="left", box=None, pad_edge=False)
    for column in ("scaling", "top-1", "log-loss", ""):
        table.add_column(column, justify="left" if column in ("scaling", "") else "right", no_wrap=True)
    for each in order:
        mark = "told" if each is told else "fits best" if each is order[0] and told is None else ""
        table.add_row(each.name, f"{right[each.name].mean():.1%}", f"{-certainty[each.name]:.3f}", mark)
    console.print(table)
