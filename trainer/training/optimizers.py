"""How weights are updated: the optimizers, their rates over the epochs, and lower rates for lower layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from trainer.networks.backbones import backbone_core
from trainer.run import sections

MOMENTUM = 0.9
"""Of SGD."""
RATE_FACTORS: dict[sections.Optimizer, float] = {"adam": 1.0, "adamw": 1.0, "sgd": 100.0}
"""What a rate for Adam, whose steps are as long as the rate whatever the gradients, is multiplied by for another."""
LAST_SHARE = 0.02
"""Share of the highest rate at the end of a cosine."""


def build_optimizer(
    name: sections.Optimizer,
    rate: float | keras.optimizers.schedules.LearningRateSchedule,
    scales: Sequence[float] = (),
    average_steps: float = 0,
) -> keras.optimizers.Optimizer:
    """Return an optimizer; SGD has a momentum of 0.9.

    Args:
        name: which.
        rate: one, or one for each step.
        scales: what the rate is multiplied by for each trainable variable of the model, in its order; none means 1.
            They act on the update: Adam would undo a scaled gradient. AdamW's decay of the weights is not scaled.
        average_steps: time constant of an exponential moving average of the weights, kept beside them; 0 keeps none.
    """
    kinds: dict[sections.Optimizer, type[keras.optimizers.Optimizer]] = {
        "adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD,
    }  # fmt: skip
    kind = kinds[name] if all(scale == 1 for scale in scales) else _scaled(kinds[name], tuple(scales))
    options: dict[str, Any] = {"momentum": MOMENTUM} if name == "sgd" else {}
    if average_steps:
        options |= {"use_ema": True, "ema_momentum": max(0.0, 1 - 1 / average_steps)}
    return kind(rate, **options)


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Within it, a compiled model has the moving average of its trained weights, if its optimizer keeps one."""
    # A loss scale is an optimizer around the one that keeps the average.
    if not getattr(model.optimizer, "inner_optimizer", model.optimizer).use_ema:
        yield
        return
    variables = model.trainable_variables
    own = [keras.ops.copy(variable) for variable in variables]
    model.optimizer.finalize_variable_values(variables)
    for variable in variables:
        # Under JAX it would share the average's memory, which a step of the model may give away.
        variable.assign(keras.ops.copy(variable))
    try:
        yield
    finally:
        for variable, value in zip(variables, own, strict=True):
            variable.assign(value)


def learning_rates(
    highest: float, epochs: int, steps: int, *, warm_up: bool, schedule: sections.LearningRateSchedule = "cosine"
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return rates for `epochs` of `steps` batches, falling along a cosine to 2 % (Loshchilov and Hutter 2017) or not.

    With `warm_up` they rise from a tenth in the first epoch, where it is not the only one.
    """
    warm = steps if warm_up and epochs > 1 else 0
    return keras.optimizers.schedules.CosineDecay(
        highest / 10 if warm else highest, epochs * steps - warm, alpha=LAST_SHARE if schedule == "cosine" else 1.0,
        warmup_target=highest if warm else None, warmup_steps=warm,
    )  # fmt: skip


def rate_scales(model: keras.Model, backbone: keras.Model, decay: float) -> list[float]:
    """Return discriminative rates (Howard and Ruder 2018): a factor for each trainable variable of a model.

    The head and the backbone's highest trained stage have 1, each stage below `decay` times that of the one above. A
    stage is the layers whose outputs have the same size: every backbone has some, whatever its layers are called.
    """
    core = backbone_core(backbone)
    trained = [layer for layer in core.layers if layer.trainable_variables]
    sides = sorted({layer.output.shape[1] for layer in trained})
    scales = {
        variable.path: decay ** sides.index(layer.output.shape[1])
        for layer in trained
        for variable in layer.trainable_variables
    }
    return [scales.get(variable.path, 1.0) for variable in model.trainable_variables]


def _scaled(kind: type[keras.optimizers.Optimizer], scales: tuple[float, ...]) -> type[keras.optimizers.Optimizer]:
    class Discriminative(kind):  # type: ignore[misc]
        """Updates each variable at its own share of the rate."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            """Update one variable."""
            # Not a mapping by name: TensorFlow hands its own variable over, JAX Keras's.
            scale = scales[self._get_variable_index(variable)]
            super().update_step(gradient, variable, learning_rate * scale)

    return Discriminative
