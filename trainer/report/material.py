"""What a report is made of: a run's bundle, its photos, its log, and what the served file says of each photo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from classifier.photo.preprocessing import Photo, decode
from classifier.quiet import quiet
from classifier.registry.manifest import Manifest
from classifier.serving.model import Model
from classifier.serving.occlusion import explain
from trainer.data.checks import CheckedPhotos, require_unchanged
from trainer.data.listing import SPLITS
from trainer.data.loaders import class_targets
from trainer.data.preparation import load_photos
from trainer.data.source import TRAINING_LIMITS
from trainer.evaluation.kept import keep_evaluations, kept_evaluations
from trainer.evaluation.served import Evaluation, evaluate
from trainer.evaluation.served_bundle import ServedBundle, open_bundle
from trainer.report.triptych import SHOWN_SIDE, Pictures, triptych
from trainer.run.config import TrainingConfig
from trainer.run.folder import RunFolder
from trainer.run.progress import counting
from trainer.run.starting import open_run

TRAIN_PHOTOS = 5000
"""Of more training photos than these, evenly spread ones are measured: their figures are shown for comparison only."""


@dataclass(frozen=True)
class Material:
    """Everything that the report tells of."""

    run: RunFolder
    config: TrainingConfig
    bundle: ServedBundle
    photos: CheckedPhotos
    truth: NDArray[np.int32]
    """Class number of every photo of the frame."""
    rows: Mapping[str, NDArray[np.intp]]
    """By split: the rows of the frame that were measured, in the order of the evaluation."""
    log: pd.DataFrame
    """A row an epoch."""
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    """By split: what the served file says; see `measured`."""

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""
        return self.bundle.manifest

    @property
    def content(self) -> bytes:
        """The served file."""
        return self.bundle.content

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the model's outputs."""
        return self.manifest.labels

    @property
    def counts(self) -> pd.DataFrame:
        """Photos of each class (rows) in each split (columns) that has any."""
        frame = self.photos.frame
        table = pd.crosstab(frame["label"], frame["split"]).reindex(list(self.labels), fill_value=0)
        return table[[split for split in SPLITS if split in table]]

    def path(self, split: str, position: int) -> str:
        """Return the path below the data folder of a photo by its position in the evaluation of a split."""
        return str(self.photos.frame.at[int(self.rows[split][position]), "image_path"])

    def photo(self, row: int) -> Photo:
        """Return a photo of the frame."""
        spec = self.manifest.input
        data = self.photos.source.paths[row].read_bytes()
        return decode(data, width=spec.width, height=spec.height, limits=TRAINING_LIMITS)

    def picture(self, row: int) -> NDArray[np.uint8]:
        """Return a photo of the frame for people to look at: [H, W, 3], in its own shape."""
        return np.asarray(self.photo(row).display(SHOWN_SIDE))

    def explain(self, model: Model, row: int, label: int) -> Pictures:
        """Return photo, heatmap of a label and overlay, each [H, W, 3], by the code that serves."""
        photo, spec = self.photo(row), self.manifest.input
        array = photo.array(spec.width, spec.height, spec.resize)
        return triptych(photo, spec, explain(model, array, model.run(array), label))


def gather(path: Path) -> Material:
    """Read a run: everything but the evaluations.

    Raises:
        NotFound: there is no run, no bundle yet, or photos are missing.
        Refused: photos have changed since the training.
        Corrupt: the bundle is damaged.
    """
    run, config = open_run(path)
    bundle = open_bundle(run)
    manifest = bundle.manifest
    photos = load_photos(run, config, manifest.input)
    split_of = photos.frame["split"].to_numpy()
    rows = {split: np.flatnonzero(split_of == split) for split in SPLITS if (split_of == split).any()}
    if len(rows.get("train", ())) > TRAIN_PHOTOS:
        rows["train"] = rows["train"][np.linspace(0, len(rows["train"]) - 1, TRAIN_PHOTOS).astype(np.intp)]
    require_unchanged(photos, np.sort(np.concatenate(list(rows.values()))))
    truth = class_targets(photos.frame["label"], manifest.labels, one_hot=False)
    log = pd.read_csv(run.log) if run.log.is_file() else pd.DataFrame()
    return Material(run, config, bundle, photos, truth, rows, log)


def measured(material: Material, console: Console, *, keep: bool) -> Material:
    """Return the same with what the served file says of the photos of all splits.

    With `keep` it is kept in the run's folder: a second report of the same file on the same photos is quick.
    """
    fingerprint = material.photos.fingerprint
    truth = {split: material.truth[rows] for split, rows in material.rows.items()}
    evaluations = kept_evaluations(material.run, material.content, fingerprint, material.labels, truth)
    if evaluations.keys() == material.rows.keys():
        return replace(material, evaluations=evaluations)
    with quiet(tell_on_error=True):
        Model(material.content)  # LiteRT says what it does once a process
    source = material.photos.source
    for split, rows in material.rows.items():
        if split not in evaluations:
            with counting(console, f"evaluating {split} photos", len(rows)) as step:
                evaluations[split] = evaluate(material.content, material.labels, source, rows, truth[split], step)
    if keep:
        keep_evaluations(material.run, material.content, fingerprint, evaluations)
    return replace(material, evaluations={split: evaluations[split] for split in material.rows})
