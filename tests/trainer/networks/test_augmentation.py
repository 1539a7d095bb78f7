"""Augmentation: what it changes, by how much, and when."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from trainer.networks.augmentation import Always, Amounts, RandomAffine, build_augmentation, scheduled_augmentation
from trainer.run.sections import ScheduleConfig


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
    assert _change(build_augmentation(1, 0.0, Amounts(zoom=0.5)), photos) == 0
    flat = np.zeros((1, 32, 32, 3), np.float32)
    flat[:, 12:20, 12:20] = 255
    # A crop makes what is in the middle larger.
    sums = [
        np.mean([np.sum(build_augmentation(seed, 0.1, Amounts(zoom=zoom))(flat, training=True)) for seed in range(8)])
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


NOTHING = Amounts("none", 0.0, 0.0, 0.0, 0.0, 0.0)


def _mapping(seen: np.ndarray) -> np.ndarray:
    """Return the affine mapping [3, 2] of a view of a photo of coordinates: where its pixels come from."""
    side = len(seen)
    down, across = np.mgrid[:side, :side].astype(np.float32)
    middle, centre = slice(side // 2 - 8, side // 2 + 8), (side - 1) / 2
    asked = np.stack([across - centre, down - centre, 1 + 0 * down], axis=-1)[middle, middle].reshape(-1, 3)
    came_from = seen[middle, middle, :2].reshape(-1, 2) - centre
    mapping, *_ = np.linalg.lstsq(asked, came_from, rcond=None)
    assert np.abs(asked @ mapping - came_from).max() < 1e-3
    return mapping


def test_the_usual_changes_are_drawn_as_before_there_were_others(photos):
    """Trainings of earlier releases are repeated and resumed bit for bit."""
    before = keras.Sequential([
        keras.layers.RandomFlip("horizontal", seed=4),
        RandomAffine(0.15 * 1.7, 0.1 * 1.7, 0.3 * 1.7, seed=5),
        keras.layers.RandomContrast(0.1 * 1.7, value_range=(0, 255), seed=6),
    ])  # fmt: skip
    now = scheduled_augmentation(ScheduleConfig(seed=4, augmentation_strength=1.7), zoom=0.3)
    for _ in range(2):
        assert np.array_equal(now(photos, training=True), before(photos, training=True))


def test_each_part_acts_alone_and_in_the_one_interpolation():
    side, views = 64, 100
    down, across = np.mgrid[:side, :side].astype(np.float32)
    photo = np.stack([across, down, 0 * down], axis=-1)

    def seen(strength=1.0, **amounts):
        augmentation = build_augmentation(2, strength, Amounts(**{**vars(NOTHING), **amounts}))
        assert sum(isinstance(layer, RandomAffine) for layer in augmentation.layers) <= 1
        return keras.ops.convert_to_numpy(augmentation(np.stack([photo] * views), training=True))

    assert np.array_equal(seen()[0], photo)
    for flip, kinds in (("horizontal", 2), ("vertical", 2), ("both", 4)):
        found = {view.tobytes() for view in seen(flip=flip)}
        mirrored = {"horizontal": photo[:, ::-1], "vertical": photo[::-1], "both": photo[::-1, ::-1]}[flip]
        assert len(found) == kinds and {photo.tobytes(), mirrored.tobytes()} <= found
    leans = []
    for view in seen(strength=2.0, shear=10.0):
        (a, d), (b, e), shift = _mapping(view)
        np.testing.assert_allclose((a, d, e, *shift), (1, 0, 1, 0, 0), atol=1e-3)
        leans.append(np.degrees(np.arctan(b)))
    assert -20.1 < min(leans) < -16 and 16 < max(leans) < 20.1
    shifts = [_mapping(view) for view in seen(shift=0.2)]
    np.testing.assert_allclose([mapping[:2] for mapping in shifts], [np.eye(2)] * views, atol=1e-3)
    assert 0.15 < np.abs([mapping[2] for mapping in shifts]).max() / side < 0.2001
    turned = [_mapping(view)[:2] for view in seen(rotation=30.0, shear=10.0)]
    np.testing.assert_allclose(np.linalg.det(turned), 1, atol=1e-3)  # neither changes an area
    scales = [np.diag(_mapping(view)[:2]) for view in seen(zoom=0.4)]
    assert 0.6 - 1e-3 < np.min(scales) < 0.65 and np.max(scales) <= 1 + 1e-3
    gains = np.array([np.ptp(view[side // 2 :, side // 2 :, 0]) for view in seen(contrast=0.5)]) / (side / 2 - 1)
    assert 1 - 1e-3 < gains.min() < 1.1 and 1.4 < gains.max() < 1.5 + 1e-3
