"""Cached features: of photos and of augmented views, computed once, within bounds, the same each time."""

from __future__ import annotations

import io

import keras
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from classifier.errors import InvalidRequest
from classifier.registry.manifest import InputSpec
from tests.support import photo_sets
from trainer.compute.strategy import configure
from trainer.data.checks import CheckedPhotos, check_photos
from trainer.data.loaders import load
from trainer.networks.augmentation import build_augmentation
from trainer.run.folder import RunFolder
from trainer.run.sections import ComputeConfig, DataConfig, ScheduleConfig
from trainer.training import features
from trainer.training.batches import Batches


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> CheckedPhotos:
    root = photo_sets.folder(tmp_path_factory.mktemp("photos"), photos=14)
    return check_photos(load(DataConfig("folder", str(root))), root, InputSpec(width=16, height=16))


@pytest.fixture(scope="module")
def backbone() -> keras.Model:
    keras.utils.set_random_seed(5)
    image = keras.Input((16, 16, 3), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 255)(image)
    return keras.Model(image, keras.layers.Conv2D(4, 3, 2, activation="relu")(scaled))


def _data(photos: CheckedPhotos, **schedule) -> Batches:
    return Batches(photos, ("apple", "leaf", "sky"), ScheduleConfig(**schedule), 2, configure(ComputeConfig()))


def _features(run: RunFolder, photos: CheckedPhotos, backbone: keras.Model, views: int = 1) -> features.Features:
    console = Console(file=io.StringIO())
    return features.cached_features(
        run, backbone, _data(photos), console, views=views, augmentation=build_augmentation(3)
    )


def test_features_are_the_backbone_s_means(photos, backbone, tmp_path):
    found = _features(RunFolder(tmp_path), photos, backbone)
    for split, of_split in found.items():
        rows = np.flatnonzero(photos.frame["split"] == split)
        expected = np.asarray(backbone(np.stack([photos.source.array(int(row)) for row in rows]))).mean(axis=(1, 2))
        np.testing.assert_allclose(of_split, expected, rtol=1e-4)


def test_views_follow_the_photos_and_repeat(photos, backbone, tmp_path):
    plain = _features(RunFolder(tmp_path / "plain"), photos, backbone)
    found = _features(RunFolder(tmp_path / "views"), photos, backbone, views=3)
    count = len(plain["train"])
    views = found["train"].reshape(3, count, 4)
    assert np.array_equal(views[0], plain["train"])
    assert np.array_equal(found["validation"], plain["validation"])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (views[a] != views[b]).any(axis=1).all()
    # A view is nearer to its own photo than to most others.
    distances = np.linalg.norm(views[1][:, None] - views[0], axis=-1)
    assert (np.argsort(distances, axis=1) == np.arange(count)[:, None]).argmax(axis=1).mean() < count / 4
    again = _features(RunFolder(tmp_path / "again"), photos, backbone, views=3)
    assert np.array_equal(again["train"], found["train"])


def test_they_are_computed_once(photos, backbone, tmp_path):
    run = RunFolder(tmp_path)
    first = _features(run, photos, backbone, views=2)
    other = keras.models.clone_model(backbone)
    assert np.array_equal(_features(run, photos, other, views=2)["train"], first["train"])
    assert not np.array_equal(
        _features(run, photos, other, views=1)["train"], first["train"][: len(first["train"]) // 2]
    )
    changed = CheckedPhotos(photos.frame, pd.DataFrame(), photos.source, "another fingerprint")
    assert not np.array_equal(
        _features(run, changed, backbone, views=2)["train"], _features(run, changed, other)["train"]
    )


def test_many_views_take_half_the_memory_or_are_refused(monkeypatch, photos, backbone, tmp_path):
    assert features.training_dtype((1, 1000, 1280), 2**34) is np.float32
    assert features.training_dtype((8, 75_000, 2048), 2**34) is np.float16
    with pytest.raises(InvalidRequest, match=r"into 4\.3 GB of memory; --head-views 16 takes 4\.9 GB\. Ask for fewer"):
        features.training_dtype((16, 75_000, 2048), 2**34)
    exact = _features(RunFolder(tmp_path / "exact"), photos, backbone, views=2)
    monkeypatch.setattr(features, "FULL_PRECISION_BYTES", 0)
    run = RunFolder(tmp_path / "half")
    for _ in range(2):
        half = _features(run, photos, backbone, views=2)
        assert half["train"].dtype == np.float16
        assert half["validation"].dtype == np.float32
        np.testing.assert_allclose(half["train"], exact["train"], rtol=1e-3, atol=1e-6)
    batch, _ = features.FeatureSequence(half["train"], np.zeros(4), batch_size=2, seed=1)[0]
    assert batch.dtype == np.float32


def test_the_usual_penalty_follows_the_features_size():
    found = np.random.default_rng(1).normal(3, 2, (500, 20)).astype(np.float32)
    assert features.usual_head_decay(found, 500) == pytest.approx(140 * 4 / 500, rel=0.05)
    # Features ten times as large need kernels a tenth as large: their squares cost the same.
    assert features.usual_head_decay(10 * found, 500) == pytest.approx(100 * features.usual_head_decay(found, 500))
    assert features.usual_head_decay(found, 1000) == pytest.approx(features.usual_head_decay(found, 500) / 2)


def test_the_usual_penalty_looks_at_all_classes(monkeypatch):
    monkeypatch.setattr(features, "LARGE_SAMPLE", 100)
    by_class = np.repeat(np.float32([[-3], [3]]), 500, axis=0)
    assert features.usual_head_decay(by_class, 1000) == pytest.approx(140 * 9 / 1000)


def test_an_epoch_has_every_view_with_its_photo_s_target():
    found = np.arange(6, dtype=np.float32)[:, None]
    sequence = features.FeatureSequence(found, np.array([10, 11, 12]), batch_size=4, seed=2)

    def epoch() -> list[tuple[float, int]]:
        batches = [sequence[number] for number in range(len(sequence))]
        return [(float(x[0]), int(y)) for xs, ys in batches for x, y in zip(xs, ys, strict=True)]

    first = epoch()
    assert sorted(first) == [(0, 10), (1, 11), (2, 12), (3, 10), (4, 11), (5, 12)]
    sequence.start_epoch(1)
    second = epoch()
    assert sorted(second) == sorted(first)
    assert second != first
    sequence.start_epoch(0)
    assert epoch() == first
