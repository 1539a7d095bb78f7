"""Starts a training from an earlier version: its backbone, and of its head what it knows of the classes of today."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from classifier.errors import InvalidRequest
from classifier.registry.manifest import KERAS_FILE, MANIFEST_FILE, Manifest
from trainer.networks.backbones import BACKBONE
from trainer.networks.heads import HEAD, LOGITS
from trainer.training.preflight import require_version


def load_backbone(folder: Path, backbone: keras.Model) -> None:
    """Give a backbone the weights of a version.

    Args:
        folder: has ``manifest.json`` and ``model.keras``.
        backbone: is changed.

    Raises:
        NotFound: a file is missing.
        InvalidRequest: the version's network is another one.
    """
    (former,) = parts(folder, BACKBONE)
    before, now = former.get_weights(), backbone.get_weights()
    _expect([each.shape for each in before] == [each.shape for each in now], folder)
    backbone.set_weights(before)


def load_head(folder: Path, head: keras.Model, labels: Sequence[str]) -> list[str]:
    """Give a head what a version's head knows; return the labels that are new to it.

    The columns of the last layer belong to labels: each goes where its label is now, and a new label begins with what
    the head was built with.

    Args:
        folder: see `load_backbone`.
        head: is changed.
        labels: of its outputs, in order.

    Raises what `load_backbone` raises.
    """
    (former,) = parts(folder, HEAD)
    known = Manifest.from_json((folder / MANIFEST_FILE).read_bytes()).labels
    place = {label: number for number, label in enumerate(known)}
    layers = {layer.name: layer for layer in former.layers if layer.weights}
    _expect(set(layers) == {layer.name for layer in head.layers if layer.weights}, folder)
    for name, layer in layers.items():
        before = [np.array(each) for each in layer.get_weights()]
        after = [np.array(each) for each in head.get_layer(name).get_weights()]
        if name != LOGITS:
            _expect([one.shape for one in before] == [other.shape for other in after], folder)
            head.get_layer(name).set_weights(before)
            continue
        for one, other in zip(before, after, strict=True):
            _expect(one.shape[:-1] == other.shape[:-1], folder)
            for number, label in enumerate(labels):
                if label in place:
                    other[..., number] = one[..., place[label]]
        head.get_layer(name).set_weights(after)
    return [label for label in labels if label not in place]


def parts(folder: Path, *names: str) -> list[Any]:
    """Return a version's backbone, its head or both, with their weights.

    Args:
        folder: see `load_backbone`.
        names: `BACKBONE`, `HEAD`.

    Raises:
        NotFound: a file is missing.
        InvalidRequest: its network is none of a backbone and a head.
    """
    require_version(folder)
    layers = {layer.name: layer for layer in keras.saving.load_model(folder / KERAS_FILE, compile=False).layers}
    if not set(names) <= set(layers):
        raise InvalidRequest(f"Expected a network of a backbone and a head in {folder / KERAS_FILE}; it has none.")
    return [layers[name] for name in names]


def _expect(fits: bool, folder: Path) -> None:
    if not fits:
        raise InvalidRequest(
            f"Expected a version in {folder} with the same architecture, --alpha, --backbone-layer and --hidden; "
            "it has another network. Leave --start out to train afresh."
        )
