"""The networks of a training, put together from backbone, head and teacher; all share their weights."""

from __future__ import annotations

from dataclasses import dataclass

import keras
from rich.console import Console

from trainer.networks import backbones, heads
from trainer.networks.teacher import Teacher
from trainer.run.config import TrainingConfig
from trainer.training.batches import Batches
from trainer.training.plan import Plan
from trainer.training.start import load_head


@dataclass(frozen=True)
class Networks:
    """The parts that are trained; all share their weights."""

    backbone: keras.Model
    head: keras.Model
    top: keras.Model
    """What is trained on cached features: the head, with the convolution before it if there is one."""
    plain: keras.Model
    """Both together: from photos to logits, without augmentation."""
    teacher: Teacher | None = None
    """What they learn from besides, in every phase."""


def networks_of(
    config: TrainingConfig,
    plan: Plan,
    backbone: keras.Model,
    head_decay: float,
    data: Batches,
    teacher: Teacher | None,
    console: Console,
) -> Networks:
    """Return the networks of a run: its backbone under a new head, which knows what the version to start from knows."""
    network, labels = config.network, data.labels
    with data.strategy.scope():
        head = heads.build_head(backbone.output_shape[-1], len(labels), network.hidden, network.dropout, head_decay)
        if plan.start is not None:
            new = load_head(plan.start, head, labels)
            console.print(
                f"going on from {plan.start}" + (f"; new: {', '.join(new)}" if new else ""),
                highlight=False,
                markup=False,
            )
        return Networks(backbone, head, _top(backbone, head), heads.classifier(backbone, head), teacher)


def _top(backbone: keras.Model, head: keras.Model) -> keras.Model:
    """Return what is trained on the frozen backbone's features."""
    convolution = backbones.convolution_of(backbone)
    if convolution is None:
        return head
    return heads.convolved(convolution, head, convolution.input.shape[1:])
