"""The data-frame generator: what a Keras user expects of flow_from_dataframe, with an order that can be repeated."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from classifier.errors import InvalidRequest
from classifier.photo.preprocessing import load_array
from classifier.registry.manifest import InputSpec
from tests.support import photo_sets
from trainer.data.generator import PhotoSequence, flow_from_dataframe
from trainer.data.loaders import load
from trainer.data.mixing import rectangle
from trainer.data.source import PhotoSource
from trainer.run.sections import DataConfig


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = photo_sets.folder(tmp_path_factory.mktemp("photos"))
    return root, load(DataConfig("folder", str(root)))


def test_batches_are_photos_as_served_with_one_hot_targets(data):
    root, frame = data
    flow = flow_from_dataframe(frame, root, target_size=(24, 32), batch_size=8, shuffle=False)
    photos, targets = flow[0]
    assert photos.shape == (8, 24, 32, 3)
    assert photos.dtype == np.uint8
    assert targets.shape == (8, 3)
    assert targets.dtype == np.float32
    spec = InputSpec(width=32, height=24)
    for index, row in frame.head(8).iterrows():
        assert np.array_equal(photos[index], load_array((root / row["image_path"]).read_bytes(), spec))
        assert ["apple", "leaf", "sky"][targets[index].argmax()] == row["label"]
    assert sum(len(flow[batch][0]) for batch in range(len(flow))) == len(frame)


def test_subset_class_mode_and_classes(data):
    root, frame = data
    flow = flow_from_dataframe(
        frame, root, target_size=(8, 8), class_mode="sparse", classes=["sky", "leaf", "apple"], subset="validation"
    )
    photos, targets = flow[0]
    assert len(photos) == (frame["split"] == "validation").sum()
    assert sorted(targets.tolist()) == [0, 1, 2]
    assert flow_from_dataframe(frame, root, target_size=(8, 8), class_mode=None)[0].shape == (30, 8, 8, 3)


def test_epochs_differ_and_repeat(data):
    root, frame = data

    def order(flow) -> list[int]:
        return [int(target) for batch in range(len(flow)) for target in flow[batch][1]]

    arguments = {"directory": root, "target_size": (8, 8), "class_mode": "sparse", "batch_size": 4}
    flow = flow_from_dataframe(frame, **arguments, seed=3)
    first = order(flow)
    flow.on_epoch_end()
    second = order(flow)
    assert first != second
    again = flow_from_dataframe(frame, **arguments, seed=3)
    assert order(again) == first
    again.start_epoch(1)
    assert order(again) == second
    assert order(flow_from_dataframe(frame, **arguments, seed=4)) != first
    assert sorted(first) == sorted(second)


def test_keras_trains_on_it_with_worker_threads(data):
    import keras

    root, frame = data
    flow = flow_from_dataframe(frame, root, target_size=(16, 16), batch_size=6, workers=2)
    image = keras.Input((16, 16, 3), dtype="uint8")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(pooled))
    model.compile(keras.optimizers.Adam(0.1), "categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(flow, epochs=12, verbose=0).history
    assert history["accuracy"][-1] > 0.9


def test_unusable_arguments_are_refused(data):
    root, frame = data
    with pytest.raises(InvalidRequest, match="Expected columns"):
        flow_from_dataframe(frame, root, x_col="file")
    with pytest.raises(InvalidRequest, match="Expected class_mode"):
        flow_from_dataframe(frame, root, class_mode="binary")
    with pytest.raises(InvalidRequest, match="at least one photo with split 'dev'"):
        flow_from_dataframe(frame, root, subset="dev")
    with pytest.raises(InvalidRequest, match="Expected labels among apple"):
        flow_from_dataframe(frame, root, classes=["apple"])
    with pytest.raises(InvalidRequest):
        flow_from_dataframe(pd.DataFrame({"image_path": [], "label": []}), root)


def test_mixup_mixes_photos_and_targets_alike(data):
    root, frame = data
    spec = InputSpec(width=8, height=8)
    source = PhotoSource([root / path for path in frame["image_path"]], spec)
    rows, targets = np.arange(len(frame)), np.eye(len(frame), dtype=np.float32)
    whole = np.stack([source.array(int(row)) for row in rows]).astype(np.float32)

    def epoch(seed: int, number: int, mixup: float = 0.4):
        sequence = PhotoSequence(source, rows, targets, batch_size=7, seed=seed, mixup=mixup)
        sequence.start_epoch(number)
        batches = [sequence[batch] for batch in range(len(sequence))]
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]

    photos, shares = epoch(3, 1)
    assert photos.dtype == np.uint8
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    # With one class a photo, a target says which photos were mixed, and how.
    np.testing.assert_allclose(photos, np.tensordot(shares, whole, 1), atol=0.51)
    assert ((shares > 0).sum(axis=1) == 2).mean() > 0.9
    assert len(np.unique(shares.max(axis=1).round(4))) > len(frame) / 3
    again, same_shares = epoch(3, 1)
    assert np.array_equal(again, photos)
    assert np.array_equal(same_shares, shares)
    assert not np.array_equal(epoch(3, 2)[0], photos)
    assert not np.array_equal(epoch(4, 1)[0], photos)
    plain, hard = epoch(3, 1, mixup=0.0)
    assert plain.dtype == np.uint8
    assert set(np.unique(hard)) == {0, 1}


def test_cutmix_pastes_a_part_and_mixes_targets_by_its_area(data):
    root, frame = data
    spec = InputSpec(width=20, height=16)
    source = PhotoSource([root / path for path in frame["image_path"]], spec)
    rows, targets = np.arange(len(frame)), np.eye(len(frame), dtype=np.float32)
    whole = np.stack([source.array(int(row)) for row in rows])

    def epoch(number: int, **mixing: float):
        sequence = PhotoSequence(source, rows, targets, batch_size=7, seed=3, **mixing)
        sequence.start_epoch(number)
        batches = [sequence[batch] for batch in range(len(sequence))]
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]

    photos, shares = epoch(1, cutmix=1.0)
    assert photos.dtype == np.uint8 and shares.dtype == np.float32
    replaced = 0
    order = PhotoSequence(source, rows, targets, batch_size=len(rows), seed=3)
    order.start_epoch(1)
    for photo, share, own in zip(photos, shares, order._order.tolist(), strict=True):
        from_own = (photo == whole[own]).all(axis=-1)
        others = [row for row in np.flatnonzero(share) if row != own]
        assert share.sum() == pytest.approx(1)
        if not others:
            continue
        (other,) = others
        pasted = (photo == whole[other]).all(axis=-1)
        assert (from_own | pasted).all()
        # Every pixel that is not its own lies in a rectangle with the area of the other's share.
        down, right = np.nonzero(~from_own)
        area = (np.ptp(down) + 1) * (np.ptp(right) + 1) / (16 * 20) if len(down) else 0.0
        assert share[other] == pytest.approx(area, abs=1 / 16 + 1 / 20)
        assert share[other] >= area - 1e-6
        replaced += 1
    assert replaced > len(frame) / 2
    assert all(np.array_equal(*pair) for pair in zip(epoch(1, cutmix=1.0), (photos, shares), strict=True))
    assert not np.array_equal(epoch(2, cutmix=1.0)[0], photos)
    # With both, some are cut, and the others are what mixup alone makes of them.
    both, both_shares = epoch(1, cutmix=1.0, mixup=0.4)
    alone, _ = epoch(1, mixup=0.4)
    same = (both == alone).all(axis=(1, 2, 3))
    assert 0 < same.mean() < 1
    np.testing.assert_allclose(both_shares.sum(axis=1), 1, atol=1e-6)


def test_the_rectangle_of_cutmix_has_the_area_that_is_asked_for_unless_it_is_cut_off():
    inside = np.array([0.5, 0.5], np.float32)
    for share in (0.1, 0.5, 0.9, 1.0):
        top, bottom, left, right = rectangle((400, 300), share, inside)
        assert (bottom - top) * (right - left) / 120_000 == pytest.approx(1 - share, abs=0.01)
        if share < 1:
            assert (bottom - top) / (right - left) == pytest.approx(4 / 3, rel=0.02)
    assert rectangle((400, 300), 0.0, inside) == (0, 400, 0, 300)
    assert rectangle((400, 300), 0.75, np.array([0.0, 1.0], np.float32)) == (0, 100, 225, 300)
