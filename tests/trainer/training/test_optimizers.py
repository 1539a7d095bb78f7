"""The optimizers: their rates over the steps, and lower rates for lower layers whatever the optimizer."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from trainer.networks.backbones import backbone_core, build_backbone, set_trainable_layers
from trainer.networks.heads import build_head, classifier
from trainer.run.sections import NetworkConfig
from trainer.training.optimizers import MOMENTUM, build_optimizer, learning_rates, rate_scales


def test_rates_rise_for_an_epoch_and_fall():
    rates = learning_rates(0.5, 3, 10, warm_up=True)
    assert [float(rates(step)) for step in (0, 10, 30)] == pytest.approx([0.05, 0.5, 0.01])
    only = learning_rates(0.5, 1, 10, warm_up=True)
    assert [float(only(step)) for step in (0, 10)] == pytest.approx([0.5, 0.01])


def test_constant_rates_rise_for_an_epoch_and_stay():
    rates = learning_rates(0.5, 3, 10, warm_up=True, schedule="constant")
    assert [float(rates(step)) for step in (0, 10, 20, 30)] == pytest.approx([0.05, 0.5, 0.5, 0.5])


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_each_variable_moves_at_its_own_share_of_the_rate(name):
    gradient = np.full(3, 0.25, np.float32)

    def moved(scales: tuple[float, ...]) -> list[float]:
        variables = [keras.Variable(np.zeros(3, np.float32)) for _ in range(2)]
        optimizer = build_optimizer(name, 0.01, scales)
        for _ in range(2):
            optimizer.apply([keras.ops.convert_to_tensor(gradient)] * 2, variables)
        return [float(keras.ops.convert_to_numpy(variable)[0]) for variable in variables]

    whole, fifth = moved((1.0, 0.2))
    assert fifth == pytest.approx(0.2 * whole, rel=1e-3)
    assert moved(()) == pytest.approx([whole, whole])
    if name == "sgd":
        assert whole == pytest.approx(-0.01 * 0.25 * (2 + MOMENTUM))
    else:
        assert whole == pytest.approx(-0.02, rel=1e-3)


def test_adamw_lets_weights_decay():
    sizes = {}
    for name in ("adam", "adamw"):
        variable = keras.Variable(np.ones(1, np.float32))
        build_optimizer(name, 0.5).apply([keras.ops.zeros(1)], [variable])
        sizes[name] = float(keras.ops.convert_to_numpy(variable)[0])
    assert sizes["adam"] == 1
    assert sizes["adamw"] < 1


def test_rates_are_scaled_by_stage():
    backbone = build_backbone(NetworkConfig("mobilenet_v2", "none", image_size=64, alpha=0.35))
    head = build_head(backbone.output_shape[-1], 3)
    assert set_trainable_layers(backbone, 24, scratch=False) == 24
    model = classifier(backbone, head)
    scales = dict(
        zip([variable.path for variable in model.trainable_variables], rate_scales(model, backbone, 0.5), strict=True)
    )
    assert len(scales) == len(model.trainable_variables)
    sides = {4: 0.5, 2: 1.0}
    for layer in backbone_core(backbone).layers:
        for variable in layer.trainable_variables:
            assert scales.pop(variable.path) == sides[layer.output.shape[1]]
    assert set(scales.values()) == {1.0}
    assert len(scales) == 2
    assert set(rate_scales(model, backbone, 1.0)) == {1.0}
