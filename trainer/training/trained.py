"""What a training leaves: the network of its best epoch, with the photos that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from classifier.errors import Refused
from trainer.data.checks import CheckedPhotos, require_unchanged
from trainer.data.preparation import load_photos
from trainer.networks import backbones, heads
from trainer.run.config import TrainingConfig
from trainer.run.finished import last_phase
from trainer.run.folder import RunFolder
from trainer.run.sections import NetworkConfig
from trainer.training.checkpoints import TrainingState


@dataclass(frozen=True)
class Trained:
    """A trained network with the photos that it was trained on."""

    backbone: keras.Model
    head: keras.Model
    labels: tuple[str, ...]
    photos: CheckedPhotos


def load_trained(run: RunFolder, config: TrainingConfig) -> Trained:
    """Return the best network of a run whose training is complete.

    Raises:
        Refused: it is not, or photos of its validation and test splits have changed.
        NotFound: some of those are missing.
    """
    state = TrainingState(run)
    if last_phase(config) not in state.finished:
        raise Refused(
            f"The training in {run.path} is not complete; run its `trainer train` command again to resume it."
        )
    photos = load_photos(run, config, backbones.input_spec(config.network))
    require_unchanged(photos, np.flatnonzero(photos.frame["split"] != "train"))
    return best_of(state, config.network, photos)


def best_of(state: TrainingState, config: NetworkConfig, photos: CheckedPhotos) -> Trained:
    """Return backbone and head of the best epoch as they are exported: float32, on one device."""
    backbone = backbones.build_backbone(config, load_weights=False)
    head = heads.build_head(backbone.output_shape[-1], len(photos.labels), config.hidden, config.dropout)
    state.load_best(heads.classifier(backbone, head))
    return Trained(backbone, head, photos.labels, photos)
