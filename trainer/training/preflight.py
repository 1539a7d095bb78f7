"""What can be refused of a training at once: before its folder is written, Keras is loaded or a download begins."""

from __future__ import annotations

from pathlib import Path

from classifier.errors import NotFound
from classifier.registry.manifest import KERAS_FILE, MANIFEST_FILE
from classifier.storage.names import bucket_of
from trainer.data.loaders import list_photos, require_dataset
from trainer.data.preparation import require_splits
from trainer.data.unlabelled import require_unlabelled
from trainer.networks.expected import require_network
from trainer.run.config import TrainingConfig
from trainer.run.effect import require_effect
from trainer.run.presets import PRESETS
from trainer.run.sections import NetworkConfig
from trainer.training.sizes import sides


def require_trainable(config: TrainingConfig) -> None:
    """Refuse what the options, the folders that they name, and the names of the photos show to be wrong.

    Photos in a bucket are listed when they are copied, which is after this.

    Raises:
        InvalidRequest: an option is without effect, there is no such network or data set, photos are to be of a size
            that cannot be, or there are too few classes or photos.
        NotFound: a folder or file that is named is missing.
    """
    require_effect(config)
    require_dataset(config.data)
    require_network(config.network, load_weights=config.network.start is None)
    if (side := _side(config.network)) is not None:
        sides(config.schedule, config.fine_tune_epochs(), side)
    if config.network.start is not None:
        require_version(Path(config.network.start))
    if config.data.unlabelled is not None:
        require_unlabelled(config.data.unlabelled)
    if bucket_of(config.data.data_dir) is None:
        require_splits(list_photos(config.data).frame)


def _side(network: NetworkConfig) -> int | None:
    """Return the side of a network's input; None where only the file of a network of one's own tells it."""
    if network.image_size is None and network.backbone is None:
        return PRESETS[network.architecture].input_size
    return network.image_size


def require_version(folder: Path) -> None:
    """Find out that a folder is not that of a version with its network.

    Raises:
        NotFound: a file of it is missing.
    """
    for file in (MANIFEST_FILE, KERAS_FILE):
        if not (folder / file).is_file():
            raise NotFound(f"Expected a version's {file} in {folder}; there is none.")
