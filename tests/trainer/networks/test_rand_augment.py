"""RandAugment: each operation against its definition or Pillow's, their composition, and how they are drawn."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from trainer.networks.augmentation import Amounts, RandomAffine, build_augmentation
from trainer.networks.rand_augment import OPERATIONS, RandAugment

SIDE = 64
CENTRE = (SIDE - 1) / 2


def _drawn(monkeypatch: pytest.MonkeyPatch, magnitude: float, *operations: str) -> RandAugment:
    """One that always draws these; a minus before the name is the other direction."""
    drawn = RandAugment(len(operations), magnitude, 1)
    kinds = [OPERATIONS.index(name.lstrip("-")) for name in operations]
    signs = [-1.0 if name.startswith("-") else 1.0 for name in operations]

    def draw(count):
        return np.tile(np.array(kinds, np.int32), (count, 1)), np.tile(np.array(signs, np.float32), (count, 1))

    monkeypatch.setattr(drawn, "draw", draw)
    return drawn


def _mapping(affine: RandomAffine) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of a view come from, as matrix and shift about the middle."""
    down, across = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    photo = np.stack([across, down, 0 * down], axis=-1)[None]
    seen = keras.ops.convert_to_numpy(affine(photo, training=True))[0]
    middle = slice(SIDE // 2 - 8, SIDE // 2 + 8)
    asked = np.stack([across - CENTRE, down - CENTRE, 1 + 0 * down], axis=-1)[middle, middle].reshape(-1, 3)
    came_from = seen[middle, middle, :2].reshape(-1, 2) - CENTRE
    found, *_ = np.linalg.lstsq(asked, came_from, rcond=None)
    assert np.abs(asked @ found - came_from).max() < 2e-3
    return found[:2].T, found[2]


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@pytest.mark.parametrize(
    ("operations", "matrix", "shift"),
    [
        (("rotate",), _turn(np.pi / 12), (0, 0)),
        (("-rotate",), _turn(-np.pi / 12), (0, 0)),
        (("shear_x",), [[1, 0.15], [0, 1]], (0, 0)),
        (("-shear_y",), [[1, 0], [-0.15, 1]], (0, 0)),
        (("translate_x",), np.eye(2), (0.225 * SIDE, 0)),
        (("-translate_y",), np.eye(2), (0, -0.225 * SIDE)),
        (("rotate", "shear_x"), _turn(np.pi / 12) @ [[1, 0.15], [0, 1]], (0, 0)),
        (("rotate", "color", "translate_x"), _turn(np.pi / 12), _turn(np.pi / 12) @ (0.225 * SIDE, 0)),
    ],
)
def test_what_moves_pixels_is_one_interpolation(monkeypatch, operations, matrix, shift):
    drawn = _drawn(monkeypatch, 5, *operations)
    monkeypatch.setattr(drawn, "recolour", lambda photos, kinds, signs: photos)
    found, moved = _mapping(RandomAffine(0.0, 0.0, 0.0, 3, drawn=drawn))
    np.testing.assert_allclose(found, matrix, atol=1e-3)
    np.testing.assert_allclose(moved, shift, atol=2e-2)


def test_it_is_composed_with_the_other_changes(monkeypatch):
    """The base alone, then with a turn inside it: the mapping is the product."""
    drawn = _drawn(monkeypatch, 5, "rotate", "translate_y")
    monkeypatch.setattr(drawn, "recolour", lambda photos, kinds, signs: photos)
    plain, at = _mapping(RandomAffine(0.05, 0.03, 0.2, 8))
    found, moved = _mapping(RandomAffine(0.05, 0.03, 0.2, 8, drawn=drawn))
    turn = _turn(np.pi / 12)
    np.testing.assert_allclose(found, plain @ turn, atol=2e-3)
    np.testing.assert_allclose(moved, at + plain @ turn @ (0, 0.225 * SIDE), atol=0.1)


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(
    ("name", "enhancer"),
    [
        ("color", ImageEnhance.Color), ("contrast", ImageEnhance.Contrast), ("brightness", ImageEnhance.Brightness),
        ("sharpness", ImageEnhance.Sharpness),
    ],
)  # fmt: skip
def test_enhancements_are_pillow_s(monkeypatch, name, enhancer, sign):
    photo = _photo()
    factor = 1 + 0.9 * 0.6 * (-1 if sign else 1)
    expected = np.asarray(enhancer(Image.fromarray(photo)).enhance(factor), np.float32)
    inner = (slice(1, -1), slice(1, -1))  # Pillow leaves the border as it is
    np.testing.assert_allclose(_recoloured(monkeypatch, photo, 6, sign + name)[inner], expected[inner], atol=2.1)


def test_the_other_changes_of_grey_levels_are_pillow_s(monkeypatch):
    photo = _photo()
    image = Image.fromarray(photo)
    for name, expected, tolerance in (
        ("autocontrast", ImageOps.autocontrast(image), 1.1),
        ("solarize", ImageOps.solarize(image, 256 * 0.5), 0),
        ("posterize", ImageOps.posterize(image, 6), 0),
        ("identity", image, 0),
    ):
        found = _recoloured(monkeypatch, photo, 5, name)
        np.testing.assert_allclose(found, np.asarray(expected, np.float32), atol=tolerance, err_msg=name)
    both = _recoloured(monkeypatch, photo, 5, "solarize", "posterize")
    np.testing.assert_array_equal(both, np.asarray(ImageOps.posterize(ImageOps.solarize(image, 128), 6), np.float32))


def _photo() -> np.ndarray:
    rng = np.random.default_rng(3)
    ramp = np.linspace(30, 220, 24)[:, None, None] * np.array([1, 0.8, 0.6])
    return np.clip(np.broadcast_to(ramp, (24, 24, 3)) + rng.normal(0, 9, (24, 24, 3)), 20, 235).astype(np.uint8)


def _recoloured(monkeypatch: pytest.MonkeyPatch, photo: np.ndarray, magnitude: float, *operations: str) -> np.ndarray:
    drawn = _drawn(monkeypatch, magnitude, *operations)
    found = drawn.recolour(keras.ops.convert_to_tensor(photo[None].astype(np.float32)), *drawn.draw(1))
    return keras.ops.convert_to_numpy(found)[0]


def test_all_operations_are_drawn_alike_and_a_seed_repeats_them():
    kinds, signs = (keras.ops.convert_to_numpy(each) for each in RandAugment(2, 5, 4).draw(2600))
    counts = np.bincount(kinds.ravel(), minlength=len(OPERATIONS))
    assert counts.shape == (len(OPERATIONS),)
    # 400 each on average: six standard deviations.
    assert np.abs(counts - 400).max() < 6 * np.sqrt(400)
    assert np.abs(signs.mean()) < 0.1 and set(np.unique(signs)) == {-1, 1}
    again, _ = RandAugment(2, 5, 4).draw(2600)
    assert np.array_equal(keras.ops.convert_to_numpy(again), kinds)
    assert (kinds[:, 0] != kinds[:, 1]).mean() > 0.8


def test_an_augmentation_with_it_stays_in_range_and_its_draws_are_kept_with_the_model():
    photos = np.stack([_photo()] * 6)
    nothing = Amounts("none", 0.0, 0.0, 0.0, 0.0, 0.0, operations=3, magnitude=10.0)
    augmentation = build_augmentation(1, 1.0, nothing)
    first, second = (keras.ops.convert_to_numpy(augmentation(photos, training=True)) for _ in range(2))
    assert not np.allclose(first, second) and not np.allclose(first[0], first[1])
    assert first.min() >= 0 and first.max() <= 255
    assert np.array_equal(augmentation(photos, training=False), photos)
    # What draws is a variable of the model's, which checkpoints keep.
    states = [each.path for each in augmentation.variables if each.path.endswith("seed_generator_state")]
    assert len(states) == len(set(map(id, augmentation.variables))) == 2
