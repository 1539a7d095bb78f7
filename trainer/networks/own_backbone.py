"""A network of one's own as backbone: a .keras file that ends in spatial features, or is cut where it has some.

It is opened as data: made of Keras's own layers, or not at all; see `trainer.networks.keras_file`. Networks inside it
are unfolded, so that every layer can be fine-tuned, cut at and looked into. The model.keras of a bundle is taken for
the backbone in it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import keras
from keras import layers

from classifier.errors import InvalidRequest
from trainer.networks.expected import require_backbone_file
from trainer.networks.keras_file import load_keras_file

USUAL_SIDE = 224
"""Of a network that takes photos of any size."""
SCALERS = (layers.Rescaling, layers.Normalization)
WHOLE = "backbone"
"""What the backbone of a bundle's model.keras is called."""


def side_of(path: Path) -> int:
    """Return the side of the photos that a file's network takes, in pixels.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is none of a network for square photos in RGB.
    """
    require_backbone_file(path)
    state = path.stat()
    return _side(str(path), state.st_mtime_ns, state.st_size)


@functools.cache
def _side(path: str, modified: int, size: int) -> int:
    shape = _opened(Path(path)).input_shape
    if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
        raise InvalidRequest(
            f"Expected a network for square photos [n, side, side, 3] in {path}; it takes {_shown(shape)}."
        )
    return shape[1] or USUAL_SIDE


def load(path: Path, side: int) -> keras.Model:
    """Return the network: scaled photos [n, side, side, 3] -> its output, all of its layers one by one.

    Args:
        path: the file.
        side: of the photos, in pixels.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is damaged, made of more than Keras's own layers, or does not take such photos.
    """
    network, image = _opened(path), keras.Input((side, side, 3))
    try:
        unfolded = keras.Model(image, _unfolded(network, image), name="own")
        # Its layers belong to the network of the file as well, where each has another place: these are its own.
        own = fresh(unfolded)
    except ValueError as error:
        raise InvalidRequest(
            f"The network in {path} cannot be used at {side} pixels: {' '.join(str(error).split())[:500]}"
        ) from error
    own.set_weights(unfolded.get_weights())
    return own


def require_spatial(core: keras.Model, path: Path) -> None:
    """Refuse a network that does not end in spatial features.

    Raises:
        InvalidRequest: it does not; the message names layers to cut it at.
    """
    shape = core.output.shape
    if len(shape) == 4 and None not in shape[1:] and min(shape[1:3]) >= 2:
        return
    spatial = [layer.name for layer in core.layers if _is_spatial(layer)]
    raise InvalidRequest(
        f"Expected a network that ends in spatial features [n, h, w, channels] in {path}; it ends in {_shown(shape)}. "
        + (f"--backbone-layer cuts it, such as at {', '.join(spatial[-3:])}." if spatial else "No layer of it has any.")
    )


def fresh(core: keras.Model) -> keras.Model:
    """Return the same network with random weights, to be trained from scratch."""
    return keras.models.clone_model(core)


def scales_pixels(core: keras.Model) -> bool:
    """Return whether the network scales pixels 0..255 itself: its first layer with arithmetic is made for that."""
    first = next((each for each in core.layers if not isinstance(each, layers.InputLayer)), None)
    return isinstance(first, SCALERS)


def _opened(path: Path) -> keras.Model:
    """Return the network of a file; of a bundle's model.keras the core of its backbone."""
    require_backbone_file(path)
    network = load_keras_file(path, "keras")
    for layer in network.layers:
        if layer.name == WHOLE and isinstance(layer, keras.Model):
            network = next((each for each in layer.layers if isinstance(each, keras.Model)), layer)
    if not network.built or len(network.inputs) != 1 or len(network.outputs) != 1:
        raise InvalidRequest(
            f"Expected a network with one input and one output in {path}; it has others, or was saved without its "
            "input (build it, and save it again)."
        )
    return network


def _unfolded(network: keras.Model, image: Any) -> Any:
    """Return what a network makes of an image, calling its layers and those of networks inside it one by one."""
    if isinstance(network, keras.Sequential):
        for layer in network.layers:
            image = _called(layer, image)
        return image
    made: list[Any] = []

    def call(layer: Any, *inputs: Any, **options: Any) -> Any:
        made.append(_called(layer, *inputs, **options))
        return made[-1]

    # Layers are called in the order of the computation: what the last one makes is what the network makes.
    keras.models.clone_model(network, input_tensors=image, clone_function=lambda layer: layer, call_function=call)
    return made[-1]


def _called(layer: Any, *inputs: Any, **options: Any) -> Any:
    if isinstance(layer, keras.Model) and len(inputs) == 1 and not isinstance(inputs[0], list | tuple):
        return _unfolded(layer, inputs[0])
    return layer(*inputs, **options)


def _is_spatial(layer: Any) -> bool:
    shape = getattr(layer.output, "shape", ())
    found = len(shape) == 4 and None not in shape[1:] and min(shape[1:3]) >= 2
    return found and not isinstance(layer, (layers.InputLayer, *SCALERS))


def _shown(shape: Any) -> str:
    return f"[{', '.join('n' if number == 0 else str(each or 'any') for number, each in enumerate(shape))}]"
