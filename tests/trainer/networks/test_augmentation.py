"""Augmentation: what it changes, by how much, and when."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from trainer.networks.augmentation import Always, RandomAffine, build_augmentation


@pytest.fixture
def photos() -> np.ndarray:
    """Smooth ones: a shift changes them by as much as it is far."""
    ramp = np.linspace(0, 255, 32, dtype=np.float32)
    photo = np.stack([np.add.outer(ramp, ramp) / 2, np.outer(ramp, ramp) / 255, ramp[::-1, None] + 0 * ramp], axis=-1)
    return np.stack([photo, 255 - photo])


def _change(augmentation: keras.Model, photos: np.ndarray) -> float:
    """Return the mean difference to the nearer of a photo and its mirror image, over some views."""
    differences = []
    for _ in range(8):
        views = keras.ops.convert_to_numpy(augmentation(photos, training=True))
        for view, photo in zip(views, photos, strict=True):
            differences.append(min(np.abs(view - seen).mean() for seen in (photo, photo[:, ::-1])))
    return float(np.mean(differences))


def test_it_acts_while_training_only(photos):
    augmentation = build_augmentation(1)
    assert np.array_equal(augmentation(photos, training=False), photos)
    changed = keras.ops.convert_to_numpy(augmentation(photos, training=True))
    assert not np.allclose(changed, photos)
    assert changed.min() >= 0
    assert changed.max() <= 255


def test_strength_and_zoom_say_how_much(photos):
    changes = [_change(build_augmentation(1, strength), photos) for strength in (0.0, 0.3, 1.0, 2.0)]
    assert changes[0] == 0
    assert changes == sorted(changes)
    assert len(set(changes)) == 4
    assert _change(build_augmentation(1, 0.0, zoom=0.5), photos) == 0
    flat = np.zeros((1, 32, 32, 3), np.float32)
    flat[:, 12:20, 12:20] = 255
    # A crop makes what is in the middle larger.
    sums = [
        np.mean([np.sum(build_augmentation(seed, 0.1, zoom=zoom)(flat, training=True)) for seed in range(8)])
        for zoom in (0.0, 7.0)
    ]
    assert sums[1] > 1.3 * sums[0]


def test_views_are_augmented_when_predicted_too(photos):
    image = keras.Input(photos.shape[1:])
    model = keras.Model(image, Always(build_augmentation(1))(image))
    first, second = (model.predict(photos, verbose=0) for _ in range(2))
    assert not np.allclose(first, photos)
    assert not np.allclose(first, second)
    again = keras.Model(image, Always(build_augmentation(1))(image))
    assert np.array_equal(again.predict(photos, verbose=0), first)


def test_an_affine_change_is_one_exact_mapping_within_its_bounds():
    """Photos of coordinates show where each pixel came from; interpolated once, a ramp stays a ramp."""
    side, views = 64, 200
    down, across = np.mgrid[:side, :side].astype(np.float32)
    photo = np.stack([across, down, 0 * down], axis=-1)
    changed = RandomAffine(turn=0.05, shift=0.1, zoom=0.3, seed=3)(np.stack([photo] * views), training=True)
    middle = slice(side // 2 - 8, side // 2 + 8)
    centre = (side - 1) / 2
    asked = np.stack([across - centre, down - centre, 1 + 0 * down], axis=-1)[middle, middle].reshape(-1, 3)
    turns, scales, shifts = [], [], []
    for view in keras.ops.convert_to_numpy(changed):
        came_from = view[middle, middle, :2].reshape(-1, 2) - centre
        mapping, *_ = np.linalg.lstsq(asked, came_from, rcond=None)
        assert np.abs(asked @ mapping - came_from).max() < 1e-3
        (a, d), (b, e), shift = mapping
        turns += [np.arctan2(-b, a), np.arctan2(d, e)]
        scales += [np.hypot(a, b), np.hypot(d, e)]
        shifts += [*shift / side]
    for found, low, high in ((turns, -0.1 * np.pi, 0.1 * np.pi), (scales, 0.7, 1.0), (shifts, -0.1, 0.1)):
        assert low - 1e-3 < min(found) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(found) < high + 1e-3
    assert np.allclose(turns[::2], turns[1::2], atol=1e-3)


def test_an_affine_change_draws_anew_for_each_photo_and_repeats_with_its_seed(photos):
    first, second = (
        keras.ops.convert_to_numpy(RandomAffine(0.1, 0.1, 0.3, seed)(np.stack([photos[0]] * 3), training=True))
        for seed in (5, 5)
    )
    assert np.array_equal(first, second)
    assert not np.allclose(first[0], first[1])
    assert np.allclose(RandomAffine(0.0, 0.0, 0.0, 5)(photos, training=True), photos, atol=1e-3)
