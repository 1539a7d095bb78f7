"""Going on from an earlier version: what it knows is kept, new classes extend its head, another network is refused."""

from __future__ import annotations

import io
import json

import keras
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from classifier.errors import InvalidRequest, NotFound, Refused
from tests.support import photo_sets
from trainer.data.changes import changes_since, lines_of
from trainer.data.corrections import ids_in
from trainer.data.decisions import read_decisions
from trainer.data.loaders import list_photos
from trainer.export.bundle import make_bundle
from trainer.networks import backbones, heads
from trainer.run.config import TrainingConfig
from trainer.run.export_options import ExportOptions
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import start_run
from trainer.training import train
from trainer.training.run_photos import accepted_photos
from trainer.training.start import load_backbone, load_head

pytestmark = pytest.mark.long

NETWORK = NetworkConfig("base_cnn", "none", image_size=32, hidden=(8,))


def config(photos, **network) -> TrainingConfig:
    changed = NetworkConfig(**{**vars(NETWORK), **network})
    schedule = ScheduleConfig(fine_tune_epochs=2, batch_size=8, augment=False)
    data = DataConfig("food-101", str(photos), decisions=str(photos / "decisions.csv"))
    return TrainingConfig(data, changed, schedule)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """With two decisions over an audit, which every training here repeats."""
    root = photo_sets.food_101(tmp_path_factory.mktemp("photos"))
    (root / "decisions.csv").write_text(
        "image_path,label,suggested_label,decision,reason,split\n"
        "images/apple/0.jpg,apple,leaf,relabel,looks like leaf,train\n"
        "images/sky/2001.jpg,sky,,drop,nearly the same,train\n"
        "images/sky/2002.jpg,sky,apple,keep,,train\n"
    )
    return root


@pytest.fixture(scope="module")
def version(photos, tmp_path_factory):
    """The bundle of a short training, with its backbone and head."""
    run = start_run(tmp_path_factory.mktemp("runs") / "first", config(photos))
    console = Console(file=io.StringIO())
    trained = train.train(config(photos), run, console)
    make_bundle(trained, config(photos), run, console, ExportOptions(variant="float32", parent="v3"))
    return run.bundle, trained


def test_what_it_knows_is_kept_and_a_new_class_begins_as_built(version):
    folder, trained = version
    backbone = backbones.build_backbone(NETWORK)
    labels = ("apple", "ginger", "leaf", "sky")
    keras.utils.set_random_seed(3)
    head = heads.build_head(backbone.output_shape[-1], len(labels), NETWORK.hidden)
    built = [np.array(each) for each in head.get_layer(heads.LOGITS).get_weights()]
    load_backbone(folder, backbone)
    assert load_head(folder, head, labels) == ["ginger"]
    for one, other in zip(backbone.get_weights(), trained.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(
        head.get_layer("hidden_1").get_weights()[0], trained.head.get_layer("hidden_1").get_weights()[0]
    )
    kernel, bias = head.get_layer(heads.LOGITS).get_weights()
    former, former_bias = trained.head.get_layer(heads.LOGITS).get_weights()
    np.testing.assert_array_equal(kernel[:, [0, 2, 3]], former)
    np.testing.assert_array_equal(bias[[0, 2, 3]], former_bias)
    np.testing.assert_array_equal(kernel[:, 1], built[0][:, 1])
    # The three answer as they did: their logits are the same.
    seen = np.random.default_rng(1).random((5, backbone.output_shape[-1])).astype(np.float32)
    np.testing.assert_allclose(np.array(head(seen))[:, [0, 2, 3]], np.array(trained.head(seen)), atol=1e-5)


def test_a_training_may_go_on_at_another_size_of_photos(version):
    """What `docs/training.md` says of small photos first and large ones last."""
    folder, trained = version
    larger = backbones.build_backbone(NetworkConfig("base_cnn", "none", image_size=48, hidden=(8,)))
    head = heads.build_head(larger.output_shape[-1], 3, NETWORK.hidden)
    load_backbone(folder, larger)
    assert load_head(folder, head, trained.labels) == []
    photo = np.random.default_rng(2).integers(0, 256, (2, 48, 48, 3), np.uint8)
    logits = np.array(heads.classifier(larger, head)(photo))
    assert np.isfinite(logits).all() and not np.allclose(logits[0], logits[1])
    before = [*trained.backbone.get_weights(), *trained.head.get_weights()]
    for one, other in zip([*larger.get_weights(), *head.get_weights()], before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_network_or_a_folder_that_is_none_is_refused(version, tmp_path):
    folder, _ = version
    other = backbones.build_backbone(NetworkConfig("base_cnn", "none", image_size=32))
    head = heads.build_head(other.output_shape[-1], 3, (16,))
    with pytest.raises(InvalidRequest, match="the same architecture"):
        load_head(folder, head, ("apple", "leaf", "sky"))
    with pytest.raises(InvalidRequest, match="the same architecture"):
        load_head(folder, heads.build_head(other.output_shape[-1], 3), ("apple", "leaf", "sky"))
    with pytest.raises(NotFound, match=r"manifest\.json"):
        load_backbone(tmp_path, other)


def test_a_training_goes_on_from_it_and_says_what_is_new(version, photos, tmp_path):
    folder, _ = version
    run = start_run(tmp_path / "run", config(photos, start=str(folder)))
    said = io.StringIO()
    train.train(config(photos, start=str(folder)), run, Console(file=said, width=200))
    assert f"going on from {folder}" in said.getvalue()
    afresh = pd.read_csv(folder / "report/log.csv")["val_log_loss"]
    assert pd.read_csv(run.log)["val_log_loss"].iloc[0] < afresh.iloc[0]


def test_a_bundle_names_its_parent_and_its_photos(version):
    folder, trained = version
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["parent_version"] == "v3"
    assert manifest["data"]["decisions"] == {"relabel": 1, "drop": 1}
    assert manifest["training"]["data"]["decisions"] == "decisions.csv"
    assert sorted(read_decisions(folder / "report/decisions.csv")) == ["images/apple/0.jpg", "images/sky/2001.jpg"]
    table = pd.read_csv(folder / "report/photos.csv")
    assert list(table) == ["sha256", "label", "split"]
    assert sorted(table["sha256"]) == sorted(trained.photos.frame["sha256"])


def test_what_has_changed_since_is_told_by_class(version):
    folder, trained = version
    frame = trained.photos.frame[["sha256", "label", "split"]].copy()
    assert changes_since(folder, frame).empty
    moved = frame.index[frame["label"] == "sky"][:2]
    frame.loc[moved, "label"] = "apple"
    frame = frame.drop(frame.index[frame["label"] == "leaf"][0])
    frame.loc[len(frame) + 100] = ["f" * 64, "ginger", "train"]
    assert lines_of(changes_since(folder, frame)) == ["apple: 2 relabelled", "ginger: 1 added", "leaf: 1 removed"]


def test_nothing_new_is_refused_before_anything_is_written(version, photos, tmp_path):
    folder, _ = version
    run = start_run(tmp_path / "run", config(photos))
    with pytest.raises(Refused, match="No photo and no label has changed"):
        accepted_photos(folder, None, config(photos), run, Console(file=io.StringIO()))
    assert not run.has_begun()
    with pytest.raises(NotFound, match=r"photos\.csv"):
        accepted_photos(tmp_path, None, config(photos), run, Console(file=io.StringIO()))


def test_corrections_are_trained_on_and_never_tested(photos, tmp_path):
    photo_sets.write_photo(tmp_path / "corrections/abc.png", (250, 250, 0), 5)
    table = tmp_path / "corrections/corrections.csv"
    table.write_text("image_path,label,split\nabc.png,leaf,train\n")
    plain = list_photos(DataConfig("food-101", str(photos))).frame
    data = DataConfig("food-101", str(photos), corrections=str(table))
    frame = list_photos(data).frame
    assert len(frame) == len(plain) + 1
    added = frame[~frame["image_path"].isin(plain["image_path"])].iloc[0]
    assert (added["label"], added["split"]) == ("leaf", "train")
    assert (photos / added["image_path"]).resolve() == (tmp_path / "corrections/abc.png").resolve()
    for split in ("validation", "test"):  # which are drawn before
        assert (
            frame[frame["split"] == split]["image_path"].tolist()
            == plain[plain["split"] == split]["image_path"].tolist()
        )
    assert ids_in(frame, data) == ["abc"]
    assert ids_in(plain, DataConfig("food-101", str(photos))) == []
    table.write_text("image_path,label,split\nabc.png,leaf,test\n")
    with pytest.raises(InvalidRequest, match="train alone"):
        list_photos(data)
