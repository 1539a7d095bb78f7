"""`--class-weights balanced`: the mathematics, alone and with label smoothing, mixed photos and a teacher."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from trainer.run.sections import ScheduleConfig
from trainer.training.batches import UNLABELLED
from trainer.training.class_weights import WeightedCrossentropy, balanced_weights
from trainer.training.distillation import DistillationLoss
from trainer.training.phases import loss_of

NUMBERS = np.array([0] * 12 + [1] * 3 + [2] * 1, np.int32)
LOGITS = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
ROWS = np.eye(3, dtype=np.float32)[NUMBERS]


def call(loss: keras.losses.Loss, targets: np.ndarray, logits: np.ndarray = LOGITS) -> np.ndarray:
    """The loss of each photo, [n]."""
    return np.asarray(loss.call(keras.ops.convert_to_tensor(targets), keras.ops.convert_to_tensor(logits)))


def cross_entropy(targets: np.ndarray, logits: np.ndarray = LOGITS) -> np.ndarray:
    return -(targets * (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))).sum(axis=1)


def test_weights_are_those_of_scikit_learn_and_photos_without_a_label_do_not_count():
    expected = compute_class_weight("balanced", classes=np.arange(3), y=NUMBERS)
    weights = balanced_weights(np.append(NUMBERS, [UNLABELLED] * 5), 3)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights[NUMBERS].mean() == pytest.approx(1)
    parts = [weights[NUMBERS][each == NUMBERS].sum() for each in range(3)]
    np.testing.assert_allclose(parts, np.full(3, 16 / 3), rtol=1e-5)


def test_a_photo_costs_its_class_s_weight_times_its_cross_entropy():
    weights = balanced_weights(NUMBERS, 3)
    np.testing.assert_allclose(
        call(WeightedCrossentropy(weights), ROWS), weights[NUMBERS] * cross_entropy(ROWS), rtol=1e-5
    )


def test_the_loss_is_that_of_a_data_set_in_which_rare_photos_are_repeated():
    weights = balanced_weights(NUMBERS, 3)
    repeated = np.concatenate([np.arange(12), np.repeat(np.arange(12, 15), 4), np.repeat([15], 12)])
    expected = cross_entropy(ROWS[repeated], LOGITS[repeated]).mean()
    assert call(WeightedCrossentropy(weights, 0.0), ROWS).mean() == pytest.approx(expected, rel=1e-5)


def test_smoothing_and_mixing_are_linear_in_the_classes():
    weights, smoothing = balanced_weights(NUMBERS, 3), 0.2
    loss = WeightedCrossentropy(weights, smoothing)
    smoothed = ROWS * (1 - smoothing) + smoothing / 3
    np.testing.assert_allclose(call(loss, ROWS), weights[NUMBERS] * cross_entropy(smoothed), rtol=1e-5)
    share, other = 0.3, ROWS[::-1]
    mixed = call(loss, share * ROWS + (1 - share) * other)
    np.testing.assert_allclose(mixed, share * call(loss, ROWS) + (1 - share) * call(loss, other), rtol=1e-5)
    # With weights of 1 it is Keras's own.
    keras_s = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing, reduction=None)
    np.testing.assert_allclose(
        call(WeightedCrossentropy(np.ones(3, np.float32), smoothing), ROWS),
        np.asarray(keras_s(ROWS, LOGITS)),
        rtol=1e-5,
    )


def test_with_a_teacher_the_labels_part_is_weighed_alone():
    weights = balanced_weights(NUMBERS, 3)
    outputs = np.concatenate([LOGITS, LOGITS[::-1]], axis=1)
    plain, weighed = (DistillationLoss(0.6, 2.0, 0.1, each) for each in (None, weights))
    smoothed = ROWS * 0.9 + 0.1 / 3
    expected = 0.4 * (weights[NUMBERS] - 1) * cross_entropy(smoothed)
    np.testing.assert_allclose(call(weighed, ROWS, outputs) - call(plain, ROWS, outputs), expected, atol=1e-5)
    # A photo without a label costs the same.
    nothing = np.zeros_like(ROWS)
    np.testing.assert_allclose(call(weighed, nothing, outputs), call(plain, nothing, outputs), rtol=1e-6)


def test_a_training_gets_the_loss_that_is_asked_for():
    weights = balanced_weights(NUMBERS, 3)
    assert isinstance(loss_of(ScheduleConfig(class_weights="balanced", mixup=0.2), weights), WeightedCrossentropy)
    assert isinstance(loss_of(ScheduleConfig(), None), keras.losses.SparseCategoricalCrossentropy)
    assert isinstance(loss_of(ScheduleConfig(mixup=0.2), None), keras.losses.CategoricalCrossentropy)
    assert loss_of(ScheduleConfig(teacher="v1"), weights).weights is weights
