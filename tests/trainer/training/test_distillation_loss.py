"""What a teacher says of the very view that its pupil sees, and the loss that mixes it with labels."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.support.tiny_backbone import add_tiny_architecture, tiny_architecture, tiny_network, tiny_weights  # noqa: F401  # fixture
from trainer.networks.augmentation import build_augmentation
from trainer.networks.teacher import Teacher, taught_classifier
from trainer.training.distillation import DistillationLoss, LabelledAccuracy, LabelledLogLoss


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_the_loss_mixes_labels_and_teacher():
    rng = np.random.default_rng(2)
    own, taught = rng.normal(size=(2, 4, 3)).astype(np.float32) * 3
    # Labelled, without a label, mixed of two labelled ones, and mixed of a labelled one and one without.
    targets = np.array([[0, 1, 0], [0, 0, 0], [0.25, 0, 0.75], [0.4, 0, 0]], np.float32)
    share, temperature, smoothing = 0.6, 3.0, 0.1
    loss = DistillationLoss(share, temperature, smoothing).call(targets, np.concatenate([own, taught], axis=1))
    theirs, mine = _softmax(taught / temperature), _softmax(own / temperature)
    divergence = temperature**2 * (theirs * np.log(theirs / mine)).sum(axis=1)
    labelled = np.array([1, 0, 1, 0.4])
    smoothed = 0.9 * targets + 0.1 / 3 * labelled[:, None]
    expected = 0.4 * -(smoothed * np.log(_softmax(own))).sum(axis=1) + (1 - 0.4 * labelled) * divergence
    np.testing.assert_allclose(np.asarray(loss), expected, rtol=1e-4)
    # A pupil that says what its teacher says has nothing to learn from it.
    agreed = DistillationLoss(1.0, temperature).call(targets, np.concatenate([own, own], axis=1))
    np.testing.assert_allclose(np.asarray(agreed), 0, atol=1e-5)


def test_the_figures_of_a_training_are_those_of_labelled_photos():
    own = np.log(np.array([[0.7, 0.3], [0.4, 0.6], [0.9, 0.1], [0.2, 0.8]], np.float32))
    outputs = np.concatenate([own, -own], axis=1)
    targets = np.array([[1, 0], [1, 0], [0, 0], [0, 0.5]], np.float32)
    accuracy, log_loss = LabelledAccuracy(), LabelledLogLoss()
    for metric in (accuracy, log_loss):
        metric.update_state(targets, outputs)
    assert float(accuracy.result()) == pytest.approx((1 + 0 + 0.5) / 2.5)
    assert float(log_loss.result()) == pytest.approx(-(np.log(0.7) + np.log(0.4) + 0.5 * np.log(0.8)) / 2.5, rel=1e-5)
    # A photo that only fills a batch up has the weight 0.
    accuracy.reset_state()
    accuracy.update_state(targets, outputs, sample_weight=np.array([1, 0, 1, 0], np.float32))
    assert float(accuracy.result()) == 1


def test_teacher_and_pupil_see_the_same_view():
    """The pupil is a copy of its teacher: whatever the augmentation draws, both say the same of it."""
    network = tiny_network(3, 16)
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    backbone, head = copy.get_layer("backbone"), copy.get_layer("head")
    augmentation = build_augmentation(4)
    both = taught_classifier(backbone, head, Teacher(network, (2, 0, 1)), augmentation)
    seen = np.random.default_rng(1).integers(0, 256, (6, 16, 16, 3), np.uint8)
    outputs = np.asarray(keras.Model(both.input, both.output)(seen, training=False))
    np.testing.assert_allclose(outputs[:, [2, 0, 1]], outputs[:, 3:], atol=1e-5)
    for layer in head.layers:  # dropout would be drawn for the pupil alone
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    first, second = (np.asarray(both(seen, training=True)) for _ in range(2))
    assert not np.allclose(first, second)
    for drawn in (first, second):
        np.testing.assert_allclose(drawn[:, [2, 0, 1]], drawn[:, 3:], atol=1e-5)


def test_a_teacher_of_another_size_sees_the_view_resized_and_is_no_part_of_a_checkpoint(tmp_path):
    network = tiny_network(4, 24)
    layer = Teacher(network, (1, 2, 3))
    seen = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), np.uint8)
    larger = keras.ops.image.resize(seen.astype(np.float32), (24, 24), "bilinear", antialias=True)
    expected = network.predict(np.asarray(larger).astype(np.uint8), verbose=0)[:, 1:]
    np.testing.assert_allclose(np.asarray(layer(seen)), expected, atol=1e-5)
    pupil = tiny_network(3, 16, seed=6)
    taught = taught_classifier(pupil.get_layer("backbone"), pupil.get_layer("head"), layer)
    assert len(taught.trainable_variables) == len(pupil.trainable_variables)
    taught.save_weights(tmp_path / "taught.weights.h5")
    saved = [each.copy() for each in pupil.get_weights()]
    pupil.set_weights([each + 1 for each in saved])
    taught.load_weights(tmp_path / "taught.weights.h5")
    assert all(np.array_equal(x, y) for x, y in zip(pupil.get_weights(), saved, strict=True))
    pupil.save_weights(tmp_path / "pupil.weights.h5")
    names = ("taught", "pupil")
    sizes = {name: (tmp_path / f"{name}.weights.h5").stat().st_size for name in names}
    assert sizes["taught"] < sizes["pupil"] + 12_000  # groups of HDF5


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_teacher_computes_in_the_run_s_precision(precision):
    network = tiny_network(3, 16)
    seen = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3), np.uint8)
    exact = network.predict(seen, verbose=0)
    rounded = np.asarray(Teacher(network, (0, 1, 2), precision)(seen))
    assert rounded.dtype == np.float32
    assert not np.array_equal(rounded, exact)
    np.testing.assert_allclose(rounded, exact, atol=0.05 * np.abs(exact).max())
