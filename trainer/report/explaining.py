"""Explains photos of one's own with a run: the triptych, what layers make of a photo, and what filters answer to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from classifier.errors import InvalidRequest, NotFound, Unavailable
from classifier.photo.preprocessing import Photo, decode
from classifier.quiet import quiet
from classifier.registry.manifest import KERAS_FILE, Manifest
from classifier.serving.model import Model, Output
from classifier.serving.prediction import UNKNOWN
from trainer.data.preparation import load_photos
from trainer.data.sampling import spread
from trainer.data.source import TRAINING_LIMITS, PhotoSource
from trainer.evaluation.served_bundle import open_bundle
from trainer.networks import backbones
from trainer.report import filters, insides, layer_pictures, mosaics
from trainer.report.mosaics import Triptych
from trainer.report.style import drawable, save
from trainer.report.triptych import triptych
from trainer.run.config import TrainingConfig
from trainer.run.files import write_file
from trainer.run.folder import RunFolder
from trainer.run.progress import counting
from trainer.run.starting import open_run

CAPTION = 40
"""Characters of a line over a photo."""
SIDE = 512
TOP = 3
COMPARED = 64
"""Photos of the run by which a filter is called dead, besides one's own."""


@dataclass(frozen=True)
class Explained:
    """What was said of one photo."""

    path: Path
    ranked: tuple[tuple[str, float], ...]
    """The most probable labels with their confidences."""
    label: str
    """The one that is explained."""
    known: bool
    """Whether the photo is like those that the network was trained on."""
    files: tuple[Path, ...]
    """The triptych, and the activations."""


@dataclass(frozen=True)
class Explanation:
    """What was found."""

    photos: tuple[Explained, ...]
    filters: tuple[filters.Filters, ...]
    compared: int
    """Photos of the run that the filters saw besides."""
    patterns: Path | None
    """None where the backend cannot seek them."""
    table: Path


def explain(
    run: Path,
    paths: Sequence[Path],
    out: Path,
    console: Console,
    *,
    layers: Sequence[str] = (),
    label: str | None = None,
) -> Explanation:
    """Explain photos with the file in a run's bundle and the network beside it.

    Args:
        run: the run's folder.
        paths: the photos.
        out: folder for the pictures, each named for its photo, and for ``filters.csv``.
        console: where progress is shown.
        layers: of the backbone; none means three spread over it.
        label: whose heatmap is drawn; None for each photo's most probable one.

    Raises:
        NotFound: there is no run, no bundle yet, or no such photo.
        InvalidRequest: there is no such label or layer, or two photos have the same name.
        InvalidImage, TooLarge: a photo cannot be read.
    """
    folder, config = open_run(run)
    bundle = open_bundle(folder)
    labels, spec = bundle.manifest.labels, bundle.manifest.input
    if label is not None and label not in labels:
        shown = ", ".join(labels[:10]) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
        raise InvalidRequest(f"Expected --label to be one of {shown}; received {label!r}.")
    photos = _read(paths, spec.width, spec.height)
    arrays = [photo.array(spec.width, spec.height, spec.resize) for photo in photos]
    backbone = insides.load_backbone(bundle.folder / KERAS_FILE)
    kind = backbones.architecture_of(config.network)
    names = insides.choose_layers(backbone, layers)
    with quiet(tell_on_error=True):
        model = Model(bundle.content)
    explained = []
    for path, photo, array in zip(paths, photos, arrays, strict=True):
        whole, drawn = out / f"{path.stem}_grad_cam.jpg", out / f"{path.stem}_activations.jpg"
        explained.append(_explain(path, photo, model.run(array), bundle.manifest, label, (whole, drawn)))
        save(layer_pictures.activations(array, insides.activations(backbone, kind, names, array)), drawn)
    patterns = None
    if keras.backend.backend() == "tensorflow":
        patterns = out / "filter_patterns.jpg"
        found = insides.activations(backbone, kind, names, arrays[0])
        with console.status("seeking what filters answer to"):
            save(layer_pictures.filter_patterns(backbone, kind, found, config.schedule.seed), patterns)
    others = _held_out(folder, config)
    with counting(console, "looking for dead filters", len(arrays) + len(others)) as step:
        counted = filters.count_dead(backbone, kind, _each(arrays, others, step))
    table = out / "filters.csv"
    write_file(table, lambda path: filters.table(counted).to_csv(path, index=False))
    return Explanation(tuple(explained), tuple(counted), len(others), patterns, table)


def _explain(
    path: Path, photo: Photo, output: Output, manifest: Manifest, label: str | None, files: tuple[Path, Path]
) -> Explained:
    """Draw a photo's triptych as the first of its files, and return what was said of it."""
    labels = manifest.labels
    order = np.argsort(-output.probabilities, kind="stable")[:TOP].tolist()
    index = order[0] if label is None else labels.index(label)
    line = f"{drawable(labels, CAPTION)[index]} {output.probabilities[index]:.1%}"
    pictures = triptych(photo, manifest.input, output.heatmap(index), SIDE)
    save(mosaics.triptychs([Triptych(pictures, (line,), None)], across=1), files[0])
    return Explained(
        path,
        tuple((labels[k], float(output.probabilities[k])) for k in order),
        labels[index],
        output.score >= manifest.thresholds.get(UNKNOWN, 0.0),
        files,
    )


def _read(paths: Sequence[Path], width: int, height: int) -> list[Photo]:
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise InvalidRequest(f"Expected photos of different names: two are called {twice!r}. Explain one at a time.")
    for path in paths:
        if not path.is_file():
            raise NotFound(f"Expected a photo at {path}; there is none.")
    return [decode(path.read_bytes(), width=width, height=height, limits=TRAINING_LIMITS) for path in paths]


def _held_out(run: RunFolder, config: TrainingConfig) -> list[tuple[PhotoSource, int]]:
    """Return validation photos of the run that are still there, evenly spread; none where the data set is gone."""
    try:
        photos = load_photos(run, config, backbones.input_spec(config.network), cache_bytes=0)
    except (NotFound, Unavailable):
        return []
    rows = spread(np.flatnonzero(photos.frame["split"] == "validation"), COMPARED)
    return [(photos.source, int(row)) for row in rows if photos.source.paths[row].is_file()]


def _each(
    own: list[NDArray[np.uint8]], others: list[tuple[PhotoSource, int]], step: Callable[[], None]
) -> Iterator[NDArray[np.uint8]]:
    for array in own:
        yield array
        step()
    for source, row in others:
        yield source.array(row)
        step()
