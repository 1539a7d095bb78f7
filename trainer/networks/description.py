"""A network's layers as a table: names, kinds, sizes and weights, and how deep fine-tuning has to reach for each."""

from __future__ import annotations

from dataclasses import dataclass

from keras import layers

from trainer.networks import backbones, heads
from trainer.run.sections import NetworkConfig


@dataclass(frozen=True)
class Row:
    """One layer."""

    name: str
    kind: str
    """Its Keras class."""
    shape: tuple[int, ...]
    """Of its output for one photo: (rows, columns, channels), or (values,)."""
    weights: int
    """How many numbers it holds."""
    depth: int | None = None
    """The smallest ``--fine-tune-layers`` that trains it; None for what that option does not count."""


def describe(config: NetworkConfig, classes: int) -> list[Row]:
    """Return the layers of a network from photo to logits; no weights are read and nothing is downloaded.

    Raises what `backbones.build_backbone` and `heads.build_head` raise.
    """
    backbone = backbones.build_backbone(config, load_weights=False)
    head = heads.build_head(backbone.output_shape[-1], classes, config.hidden, config.dropout)
    core = backbones.backbone_core(backbone)
    tunable = backbones.tunable_layers(core, scratch=config.from_scratch)
    depths = {layer.name: len(tunable) - place for place, layer in enumerate(tunable)}
    rows = []
    for layer in backbone.layers:
        if layer is core:
            rows += [_row(each, depths.get(each.name)) for each in core.layers[1:]]
        else:
            rows.append(_row(layer))
    rows.append(Row(heads.POOLING, layers.GlobalAveragePooling2D.__name__, (backbone.output_shape[-1],), 0))
    return rows + [_row(layer) for layer in head.layers[1:]]


def _row(layer: layers.Layer, depth: int | None = None) -> Row:
    return Row(layer.name, type(layer).__name__, tuple(layer.output.shape[1:]), layer.count_params(), depth)
