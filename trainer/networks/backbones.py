"""The networks: a backbone from uint8 photos to features, and a head from pooled features to logits.

Every network here is features -> global average pooling -> dense layers, which is what makes Grad-CAM part of the
forward pass (see `trainer.networks.gradcam`). The backbone and the head are models of their own, joined by
`heads.classifier`: the head alone is trained on cached features, both together are fine-tuned, and both are exported.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
from keras import layers

from classifier.errors import InvalidRequest, NotFound, Unavailable
from classifier.registry.manifest import InputSpec
from trainer.compute.strategy import arithmetic
from trainer.networks import efficientnet_lite, lite_checkpoint, own_backbone
from trainer.networks.expected import require_architecture, require_network
from trainer.networks.scalings import SCALINGS
from trainer.run.presets import OWN, PRESETS, Preset, preset_of
from trainer.run.sections import NetworkConfig, Precision

BACKBONE, HEAD_CONVOLUTION = "backbone", "head_convolution"
ALPHA = ("MobileNet", "MobileNetV2")
SCALE_THEMSELVES = ("MobileNetV3", "EfficientNetV2", "ConvNeXt")
"""Unless they are told not to: how pixels are scaled is told once, for all."""
BASE_CNN_BLOCKS = ((32, 1), (64, 2), (96, 2), (128, 2))
"""Width and number of convolutions of each block."""


@dataclass(frozen=True)
class Architecture:
    """One kind of backbone."""

    name: str
    scaling: Callable[[Any], Any]
    """From uint8 pixels (0..255, RGB) to what its weights expect."""
    build: Callable[[NetworkConfig, tuple[int, int, int]], keras.Model]
    pretrained: bool = True
    """Whether weights for it exist; otherwise it is trained from scratch."""
    zoom: float = 0.3
    """Share of a side that augmentation may cut off."""

    @property
    def preset(self) -> Preset:
        """Its input size and training schedule."""
        return preset_of(self.name)


def architecture(name: str) -> Architecture:
    """Return the named architecture.

    Raises:
        InvalidRequest: there is none of that name.
    """
    require_architecture(name)
    return ARCHITECTURES[name]


def architecture_of(config: NetworkConfig) -> Architecture:
    """Return the architecture of a network: a declared one, or that of a file of one's own.

    Raises what `architecture` raises.
    """
    if config.backbone is None:
        return architecture(config.architecture)
    return Architecture(OWN, SCALINGS["none" if config.backbone_scaling == "auto" else config.backbone_scaling], _own)


def build_backbone(
    config: NetworkConfig, *, load_weights: bool = True, precision: Precision = "float32"
) -> keras.Model:
    """Return the model ``backbone``: uint8 [n, H, W, 3] -> float32 features [n, h, w, channels], weights loaded.

    `load_weights` is False where a checkpoint follows that has them all: neither file nor download is needed then.
    `precision` is that of the layers' arithmetic; the weights are float32 and the same in any.

    `set_trainable_layers` keeps batch normalisation of pretrained weights frozen and so in inference mode: a few
    photos a batch would only spoil its statistics. From scratch it follows the training phase.

    Raises:
        InvalidRequest: the weights or the size do not fit the architecture, or there is no such inner layer.
        NotFound: the weights file is missing, or the package that ImageNet weights come with.
        Corrupt: the package's file is not the one that was published.
        Unavailable: ImageNet weights were asked for and could not be downloaded.
    """
    require_network(config, load_weights=load_weights)
    kind = architecture_of(config)
    side = input_spec(config).width
    try:
        with arithmetic(precision):
            core = kind.build(
                config if load_weights or config.backbone else replace(config, weights="none"), (side, side, 3)
            )
    except ValueError as error:
        raise InvalidRequest(
            f"{kind.name} cannot be built with --image-size {side}, --alpha {config.alpha} and --weights "
            f"{config.weights}: {' '.join(str(error).split())}"
        ) from error
    if config.backbone_layer is not None:
        core = _cut(core, config.backbone_layer)
    if config.backbone is not None:
        own_backbone.require_spatial(core, Path(config.backbone))
    elif load_weights and config.weights not in ("imagenet", "none"):
        _load_weights(core, Path(config.weights), config)
    image = keras.Input((side, side, 3), dtype="uint8", name="image")
    scaled = kind.scaling(image)
    features = core(scaled)
    if config.head_convolution:
        features = head_convolution(config.head_convolution, config.head_convolution_size)(features)
    return keras.Model(image, features, name=BACKBONE)


def head_convolution(channels: int, size: int) -> layers.Conv2D:
    """Return the convolution with ReLU that the features go through before they are pooled.

    It is trained with the head, in float32 as the head is, and belongs to the backbone: what is pooled, and what
    Grad-CAM is about, are its outputs.
    """
    return layers.Conv2D(channels, size, padding="same", activation="relu", name=HEAD_CONVOLUTION, dtype="float32")


def convolution_of(backbone: keras.Model) -> layers.Conv2D | None:
    """Return the backbone's head convolution; None if it has none."""
    return next((layer for layer in backbone.layers if layer.name == HEAD_CONVOLUTION), None)


def without_convolution(backbone: keras.Model) -> keras.Model:
    """Return the backbone up to its head convolution, sharing its weights; the backbone itself if it has none."""
    convolution = convolution_of(backbone)
    return backbone if convolution is None else keras.Model(backbone.input, convolution.input)


def backbone_core(backbone: keras.Model) -> keras.Model:
    """Return the network inside the backbone: its layers without the input and the pixel scaling."""
    core: keras.Model = next(layer for layer in backbone.layers if isinstance(layer, keras.Model))
    return core


def set_trainable_layers(backbone: keras.Model, last: int, *, scratch: bool) -> int:
    """Let the last layers of the backbone be trained (-1: all) and freeze the rest; return how many are trained.

    Where there are fewer than `last`, all are.

    Only layers with weights count. Of a pretrained backbone, batch normalisation stays frozen.
    """
    core = backbone_core(backbone)
    backbone.trainable = True
    found = tunable_layers(core, scratch=scratch)
    found = found if last < 0 else found[max(0, len(found) - last) :]
    wanted = set(map(id, found))
    for layer in core.layers:
        layer.trainable = id(layer) in wanted
    return len(found)


def tunable_layers(core: keras.Model, *, scratch: bool) -> list[layers.Layer]:
    """Return the layers that `set_trainable_layers` counts, first to last."""
    return [
        layer
        for layer in core.layers
        if layer.weights and (scratch or not isinstance(layer, layers.BatchNormalization))
    ]


def _cut(core: keras.Model, name: str) -> keras.Model:
    names = [layer.name for layer in core.layers]
    if name not in names:
        close = ", ".join([n for n in names if n.startswith(name.rstrip("0123456789"))][:12] or names[-12:])
        raise InvalidRequest(f"Expected an inner layer of {core.name}, such as {close}; received {name!r}.")
    return keras.Model(core.input, core.get_layer(name).output, name=core.name)


def _load_weights(core: keras.Model, path: Path, config: NetworkConfig) -> None:
    if config.architecture in efficientnet_lite.SIZES and lite_checkpoint.is_checkpoint(path):
        lite_checkpoint.load_checkpoint(core, path)
        return
    if not path.is_file():
        raise NotFound(f"Expected a weights file at {path}; there is none.")
    try:
        with warnings.catch_warnings():
            # Keras only warns when it leaves a layer as it was; half a network's weights are none.
            warnings.simplefilter("error", UserWarning)
            core.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidRequest(
            f"The weights in {path} do not fit {config.architecture} (alpha {config.alpha}, "
            f"backbone layer {config.backbone_layer or 'the last'}): {first}. "
            "Expected are weights without the top layers, with --alpha and --backbone-layer as they were saved."
        ) from error


def _application(builder: str, **arguments: Any) -> Callable[[NetworkConfig, tuple[int, int, int]], keras.Model]:
    def build(config: NetworkConfig, shape: tuple[int, int, int]) -> keras.Model:
        weights = "imagenet" if config.weights == "imagenet" else None
        extra: dict[str, Any] = {"alpha": config.alpha} if builder in ALPHA else {}
        if builder.startswith(SCALE_THEMSELVES):
            extra["include_preprocessing"] = False
        try:
            return getattr(keras.applications, builder)(
                include_top=False, weights=weights, input_shape=shape, **extra, **arguments
            )
        except Exception as error:
            # keras.utils.get_file raises a bare Exception when a download fails.
            if weights and type(error) is Exception:
                raise Unavailable(_cannot_download(config, str(error))) from error
            raise

    return build


def _cannot_download(config: NetworkConfig, error: str) -> str:
    """Say what to do about weights that Keras could not download; its message begins with their address."""
    found = re.search(r"https?://\S+?\.h5\b", error)
    by_hand = ""
    if found:
        cached = Path(os.environ.get("KERAS_HOME") or "~/.keras") / "models" / found[0].rpartition("/")[2]
        by_hand = f"Download {found[0]} on another machine and put it at {cached}, or do without: "
    return (
        f"The ImageNet weights of {config.architecture} could not be downloaded ({error.rstrip('.')}). {by_hand}"
        "--architecture efficientnet_lite0, 1 and 2 have theirs with the trainer's packages, --weights "
        "FILE reads a file, and --weights none trains from scratch."
    )


def _lite(name: str) -> Callable[[NetworkConfig, tuple[int, int, int]], keras.Model]:
    def build(config: NetworkConfig, shape: tuple[int, int, int]) -> keras.Model:
        size = efficientnet_lite.SIZES[name]
        network = efficientnet_lite.build(size, shape)
        if config.weights == "imagenet":
            efficientnet_lite.load_imagenet(network, size)
        return network

    return build


def _own(config: NetworkConfig, shape: tuple[int, int, int]) -> keras.Model:
    path = Path(str(config.backbone))
    core = own_backbone.load(path, shape[0])
    if config.backbone_scaling == "auto" and not own_backbone.scales_pixels(core):
        raise InvalidRequest(
            f"Expected --backbone-scaling, one of {', '.join(SCALINGS)}: the network in {path} does not begin with a "
            "layer that scales pixels, and does not tell what it takes."
        )
    return own_backbone.fresh(core) if config.from_scratch else core


def _base_cnn(config: NetworkConfig, shape: tuple[int, int, int]) -> keras.Model:
    """Return a small network for training from scratch: a strided stem and three blocks, down to 1/8 of the side."""
    decay = keras.regularizers.L2(1e-4)
    image = keras.Input(shape)
    x = image
    for block, (width, convolutions) in enumerate(BASE_CNN_BLOCKS, start=1):
        for part in range(1, convolutions + 1):
            size, stride = (5, 2) if block == 1 else (3, 1)
            name = f"block{block}_{part}"
            x = layers.Conv2D(width, size, stride, padding="same", use_bias=False, kernel_regularizer=decay, name=name)(
                x
            )
            x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
            x = layers.ReLU(name=f"{name}_relu")(x)
        if block < 3:
            x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
            x = layers.SpatialDropout2D(0.05, name=f"block{block}_dropout")(x)
    return keras.Model(image, x, name="base_cnn")


def _architecture(name: str, preset: Preset) -> Architecture:
    if name == "base_cnn":
        return Architecture(name, SCALINGS["symmetric"], _base_cnn, pretrained=False, zoom=0.0)
    return Architecture(name, SCALINGS[preset.scaling], _application(preset.builder) if preset.builder else _lite(name))


ARCHITECTURES = {name: _architecture(name, preset) for name, preset in PRESETS.items()}


def input_spec(config: NetworkConfig) -> InputSpec:
    """Return the size and resize rule of a network's input."""
    side = config.image_size
    if side is None and config.backbone is not None:
        side = own_backbone.side_of(Path(config.backbone))
    side = side or architecture_of(config).preset.input_size
    return InputSpec(width=side, height=side, resize=config.resize)
