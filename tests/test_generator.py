"""The data-frame generator: what a Keras user expects of flow_from_dataframe, with an order that can be repeated."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from classifier.errors import InvalidRequest
from classifier.manifest import InputSpec
from classifier.preprocessing import load_array
from tests import photo_sets
from trainer.config import DataConfig
from trainer.datasets import load
from trainer.generator import flow_from_dataframe


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
