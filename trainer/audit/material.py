"""What an audit looks at: a data set's photos, or a run's, and the features of a frozen network for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from trainer.compute.strategy import configure
from trainer.data.checks import CheckedPhotos, require_unchanged
from trainer.data.generator import PhotoSequence
from trainer.data.preparation import check_dataset, load_photos
from trainer.networks import backbones
from trainer.networks.backbones import input_spec
from trainer.run.files import write_file
from trainer.run.folder import RunFolder
from trainer.run.progress import counting
from trainer.run.sections import ComputeConfig, DataConfig, NetworkConfig
from trainer.run.starting import open_run
from trainer.training.batches import PREDICTED_BATCH
from trainer.training.features import computed_features, feature_model

USUAL_NETWORK = NetworkConfig(architecture="efficientnet_lite0")
"""Its ImageNet weights come with the packages."""
CACHE = "features.npz"


@dataclass(frozen=True)
class Material:
    """Photos with their features."""

    photos: CheckedPhotos
    features: NDArray[np.floating[Any]]
    """[photos, channels]."""
    network: NetworkConfig
    data: DataConfig


def of_run(path: Path, out: Path, console: Console) -> Material:
    """Return the photos of a run, of all splits, with features of the backbone that it began with.

    That of a run from scratch has learnt the labels that are in question: `USUAL_NETWORK` takes its place.

    Args:
        path: the run's folder.
        out: where the features are kept.
        console: where progress is shown.

    Raises:
        NotFound: it is no run, or has no photos yet, or some are missing.
        Refused: photos have changed.
    """
    run, config = open_run(path)
    own = not config.network.from_scratch and config.network.start is None
    network = config.network if own else USUAL_NETWORK
    photos = load_photos(run, config, input_spec(network))
    require_unchanged(photos, np.arange(len(photos.frame)))
    kept = _kept_by_run(run, photos) if own else {}
    return Material(photos, _features(network, photos, out, console, kept), network, config.data)


def of_dataset(data: DataConfig, network: NetworkConfig, out: Path, console: Console) -> Material:
    """Return the photos of a data set that can be used, with their features; the others are listed in rejected.csv.

    Raises what `check_dataset` and `backbones.build_backbone` raise.
    """
    photos, _ = check_dataset(data, input_spec(network), console)
    if len(photos.rejected):
        write_file(out / "rejected.csv", lambda path: photos.rejected.to_csv(path, index=False))
    return Material(photos, _features(network, photos, out, console, {}), network, data)


def _kept_by_run(run: RunFolder, photos: CheckedPhotos) -> dict[int, NDArray[np.floating[Any]]]:
    """Return the features that the run has kept, by row: of the photos themselves, pooled."""
    if not run.features.is_file():
        return {}
    with np.load(run.features) as saved:
        if str(saved["fingerprint"]) != photos.fingerprint or saved["validation"].ndim != 2:
            return {}
        found: dict[int, NDArray[np.floating[Any]]] = {}
        for split in ("train", "validation"):
            rows = np.flatnonzero(photos.frame["split"] == split)
            found.update(zip(rows.tolist(), saved[split][: len(rows)], strict=True))
        return found


def _features(
    network: NetworkConfig,
    photos: CheckedPhotos,
    out: Path,
    console: Console,
    kept: dict[int, NDArray[np.floating[Any]]],
) -> NDArray[np.floating[Any]]:
    """Return features of all photos, from the folder if they are there already; those not `kept` are computed."""
    of = json.dumps([photos.fingerprint, asdict(network)], sort_keys=True)
    cache = out / CACHE
    if cache.is_file():
        with np.load(cache) as saved:
            if str(saved["of"]) == of:
                features: NDArray[np.floating[Any]] = saved["features"]
                return features
    rows = np.array([row for row in range(len(photos.frame)) if row not in kept], dtype=np.intp)
    new = dict(zip(rows.tolist(), _computed(network, photos, rows, console), strict=True)) if len(rows) else {}
    found = kept | new
    features = np.stack([found[row] for row in range(len(photos.frame))]).astype(np.float32)
    write_file(cache, lambda path: np.savez(path, of=np.array(of), features=features))
    return features


def _computed(
    network: NetworkConfig, photos: CheckedPhotos, rows: NDArray[np.intp], console: Console
) -> Sequence[NDArray[np.float32]]:
    whole = backbones.without_convolution(backbones.build_backbone(network))
    model = feature_model(whole, configure(ComputeConfig()))
    batches = PhotoSequence(photos.source, rows, None, batch_size=PREDICTED_BATCH, shuffle=False)
    with counting(console, "features of photos", len(batches)) as step:
        return list(computed_features(model, batches, step)[: len(rows)])
