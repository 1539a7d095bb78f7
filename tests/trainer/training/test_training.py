"""Training: two phases, the best epoch over both, repeatable, resumable after a kill at any moment."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from classifier.errors import InvalidRequest, Refused
from classifier.photo.preprocessing import load_array
from classifier.registry.manifest import InputSpec
from tests.support import photo_sets
from tests.support.colour_profiles import DISPLAY_P3, display
from tests.support.interrupted_training import trainings
from tests.support.tiny_backbone import tiny_architecture, tiny_weights  # noqa: F401  # fixture
from trainer.data.loaders import class_targets
from trainer.data.preparation import prepare_photos
from trainer.export.golden import golden_photo
from trainer.networks import backbones, heads
from trainer.networks.backbones import input_spec
from trainer.run.config import TrainingConfig
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import open_run, start_run
from trainer.training import phases, train
from trainer.training.checkpoints import Checkpointing, TrainingDivergedError, TrainingState, merit
from trainer.training.features import features_of_backbone
from trainer.training.trained import Trained, load_trained


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return photo_sets.food_101(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.weights.h5")


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory) -> Path:
    """Weights for a small MobileNet, which other processes can build too."""
    keras.utils.set_random_seed(11)
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3), alpha=0.25).save_weights(
        path
    )
    return path


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory) -> tuple[Path, list[np.ndarray]]:
    """A run from scratch that nothing disturbed, and its weights."""
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    return path, _weights(_train(_scratch(photos), path))


def _scratch(photos: Path, **schedule) -> TrainingConfig:
    return TrainingConfig(
        DataConfig("food-101", str(photos), validation_share=0.25),
        NetworkConfig("base_cnn", "none", image_size=32),
        ScheduleConfig(fine_tune_epochs=3, batch_size=8, **schedule),
    )


def _two_phases(photos: Path, weights: Path, **schedule) -> TrainingConfig:
    defaults = {"head_epochs": 4, "fine_tune_epochs": 2, "fine_tune_layers": 3, "batch_size": 8}
    return TrainingConfig(
        DataConfig("food-101", str(photos), validation_share=0.25),
        NetworkConfig("tiny", str(weights), image_size=32),
        ScheduleConfig(**{**defaults, **schedule}),
    )


def _train(config: TrainingConfig, path: Path) -> Trained:
    return train.train(config, start_run(path, config), Console(file=io.StringIO()))


def _weights(trained: Trained) -> list[np.ndarray]:
    return [*trained.backbone.get_weights(), *trained.head.get_weights()]


def _same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_two_phases_keep_the_best_epoch_over_both(photos, pretrained, tmp_path):
    config = _two_phases(photos, pretrained)
    trained = _train(config, tmp_path / "run")
    run, _ = open_run(tmp_path / "run")
    log = pd.read_csv(run.log)
    assert log["phase"].value_counts().to_dict() == {"head": 4, "fine-tuning": 2}
    assert np.isfinite(log.drop(columns="phase")).all(axis=None)
    state = TrainingState(run)
    assert state.finished == ["head", "fine-tuning"]
    best = log.loc[log["val_calibrated_log_loss"].idxmin()]
    assert (state.best["phase"], state.best["epoch"]) == (best["phase"], best["epoch"])
    # The kept weights are those of that epoch: they give its validation loss again.
    frame, source = trained.photos.frame, trained.photos.source
    rows = np.flatnonzero(frame["split"] == "validation")
    plain = heads.classifier(trained.backbone, trained.head)
    logits = plain.predict(np.stack([source.array(int(row)) for row in rows]), verbose=0)
    truth = class_targets(frame["label"].iloc[rows], trained.labels, one_hot=False)
    loss = keras.losses.sparse_categorical_crossentropy(truth, logits, from_logits=True)
    assert float(np.mean(loss)) == pytest.approx(state.best["val_log_loss"], abs=1e-3)
    # Only what the state names is left on disk.
    assert {path.name for path in run.checkpoints.iterdir()} == {state.best["weights"], state.last["weights"]}
    # The checkpoint has everything: the weights that it began with are not needed any more.
    elsewhere = replace(config, network=replace(config.network, weights="gone.weights.h5"))
    assert _same(_weights(load_trained(run, elsewhere)), _weights(trained))


def test_fine_tuning_can_never_make_the_result_worse(photos, pretrained, tmp_path):
    config = _two_phases(photos, pretrained, fine_tune_learning_rate=100.0, augment=False)
    trained = _train(config, tmp_path / "run")
    state = TrainingState(open_run(tmp_path / "run")[0])
    spoilt = [merit(entry) for entry in state.history if entry["phase"] == "fine-tuning"]
    assert max(spoilt) < merit(state.best)
    assert state.best["phase"] == "head"
    original = backbones.build_backbone(config.network)
    assert _same(trained.backbone.get_weights(), original.get_weights())


PARTS = {"flip": "both", "rotation": 20.0, "shift": 0.2, "shear": 15.0, "zoom": 0.1, "contrast": 0.3, "head_views": 2}


def _convolved(photos: Path, weights: Path, **schedule) -> TrainingConfig:
    config = _two_phases(photos, weights, **PARTS, **schedule)
    network = NetworkConfig("mobilenet", str(weights), 32, alpha=0.25, head_convolution=6, head_convolution_size=3)
    return replace(config, network=network)


@pytest.mark.long
def test_a_head_convolution_is_trained_on_features_that_are_not_pooled(photos, mobilenet, tmp_path):
    config = _convolved(photos, mobilenet, fine_tune_epochs=0, fine_tune_layers=None)
    keras.utils.set_random_seed(config.schedule.seed)
    before = backbones.build_backbone(config.network)
    trained = _train(config, tmp_path / "run")
    run, _ = open_run(tmp_path / "run")
    with np.load(run.features) as saved:
        assert saved["train"].shape == (2 * 27, 1, 1, 256)
        assert saved["validation"].shape == (9, 1, 1, 256)
    cores = [backbones.without_convolution(each).get_weights() for each in (before, trained.backbone)]
    assert _same(*cores), "the rest of the backbone is frozen"
    assert not _same(*(backbones.convolution_of(each).get_weights() for each in (before, trained.backbone)))
    assert features_of_backbone(run, config, trained.photos) is None
    # What was kept are the weights of the whole: they give the validation loss again.
    rows = np.flatnonzero(trained.photos.frame["split"] == "validation")
    pixels = np.stack([trained.photos.source.array(int(row)) for row in rows])
    logits = heads.classifier(trained.backbone, trained.head).predict(pixels, verbose=0)
    truth = class_targets(trained.photos.frame["label"].iloc[rows], trained.labels, one_hot=False)
    loss = keras.losses.sparse_categorical_crossentropy(truth, logits, from_logits=True)
    assert float(np.mean(loss)) == pytest.approx(TrainingState(run).best["val_log_loss"], abs=1e-3)
    assert _same(_weights(load_trained(run, config)), _weights(trained))


@pytest.mark.long
def test_a_killed_run_with_a_head_convolution_and_every_part_of_the_augmentation_resumes(photos, mobilenet, tmp_path):
    config = _convolved(photos, mobilenet, fine_tune_epochs=3)
    undisturbed = _train(config, tmp_path / "undisturbed")
    with trainings(config.to_json(), tmp_path / "killed") as interrupted:
        for epoch, phase in ((2, "head"), (1, "fine-tuning"), (2, "fine-tuning")):
            interrupted.killed_after(epoch, phase)
    assert _same(_weights(_train(config, tmp_path / "killed")), _weights(undisturbed))


@pytest.mark.long
def test_a_finished_run_is_trained_on_with_more_epochs(photos, tmp_path):
    def asked(epochs: int) -> TrainingConfig:
        return replace(_scratch(photos), schedule=replace(_scratch(photos).schedule, fine_tune_epochs=epochs))

    _train(asked(1), tmp_path / "run")
    run, _ = open_run(tmp_path / "run")
    first = TrainingState(run)
    said = Console(file=io.StringIO(), width=200)
    train.train(asked(2), start_run(run.path, asked(2)), said)
    assert "at most 2 epochs, resuming after epoch 1" in said.file.getvalue()
    # What was trained before is left as it was, and what follows goes on from it.
    state = TrainingState(run)
    assert open_run(run.path)[1] == asked(2)
    assert state.history[:1] == first.history
    assert [entry["epoch"] for entry in state.history] == [1, 2]
    assert merit(state.best) == max(map(merit, state.history))
    state.reopen("training", 2, state.planned["training"][1])
    assert state.finished == ["training"], "the same again trains nothing"
    # Fewer epochs, or anything else besides, is another run.
    other = replace(asked(9), network=replace(asked(9).network, dropout=0.5))
    for refused in (asked(1), other):
        with pytest.raises(Refused, match="another configuration"):
            start_run(run.path, refused)
    # A run of the first version has not kept its last weights.
    saved = json.loads(run.state.read_text())
    del saved["planned"]
    run.state.write_text(json.dumps(saved))
    with pytest.raises(Refused, match=r"schedule\.fine_tune_epochs: 2, then 3"):
        start_run(run.path, asked(3))


@pytest.mark.long
def test_the_same_seed_gives_the_same_model(photos, undisturbed, tmp_path):
    _, first = undisturbed
    assert _same(_weights(_train(_scratch(photos), tmp_path / "two")), first)
    assert not _same(_weights(_train(_scratch(photos, seed=8), tmp_path / "three")), first)


@pytest.mark.long
def test_a_killed_run_resumes_and_ends_as_if_undisturbed(photos, undisturbed, tmp_path):
    config = _scratch(photos)
    with trainings(config.to_json(), tmp_path / "killed") as interrupted:
        for epoch in (1, 2):
            interrupted.killed_after(epoch)
            state = TrainingState(open_run(tmp_path / "killed")[0])
            assert state.last["epoch"] == epoch
            assert (tmp_path / "killed" / "checkpoints" / state.best["weights"]).is_file()
    with pytest.raises(Refused, match="not complete; run its `trainer train` command again"):
        load_trained(open_run(tmp_path / "killed")[0], config)
    resumed = _train(config, tmp_path / "killed")
    run, weights = undisturbed
    assert _same(_weights(resumed), weights)
    logs = [pd.read_csv(path / "log.csv").drop(columns="seconds") for path in (run, tmp_path / "killed")]
    pd.testing.assert_frame_equal(*logs)


@pytest.mark.long
def test_a_run_killed_at_any_moment_can_be_read_and_resumed(photos, tmp_path):
    config = _scratch(photos)
    with trainings(config.to_json(), tmp_path / "run") as interrupted:
        for delay in (0.0, 0.15, 0.4):
            with interrupted.running():
                time.sleep(delay)
            run, found = open_run(tmp_path / "run")
            assert found == config
            TrainingState(run)
    _train(config, tmp_path / "run")
    assert len(pd.read_csv(tmp_path / "run" / "log.csv")) == 3


def test_a_network_from_scratch_has_to_be_trained(photos, tmp_path):
    config = replace(_scratch(photos), schedule=ScheduleConfig(fine_tune_epochs=0))
    with pytest.raises(InvalidRequest, match="--fine-tune-epochs has to be 1 or more"):
        _train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ("none", {"head_views": 2, "fine_tune_layers": 3}, "--weights none leaves --head-views and --fine-tune-layers"),
        ("file", {"mixup": 0.2, "fine_tune_epochs": 0}, "--fine-tune-epochs 0 leaves --mixup without effect"),
        ("file", {"head_views": 4, "augment": False}, "--no-augment leaves --head-views without effect"),
    ],
)
def test_options_without_effect_are_refused(tmp_path, weights, options, message):
    config = TrainingConfig(
        DataConfig("folder", str(tmp_path)), NetworkConfig("mobilenet", weights), ScheduleConfig(**options)
    )
    with pytest.raises(InvalidRequest, match=message):
        _train(config, tmp_path / "run")


def test_a_golden_photo_is_one_that_the_server_takes_without_metadata(tmp_path):
    spec = InputSpec(width=16, height=16)
    exif = Image.Exif()
    exif[0x010E] = "at home"
    turned = Image.Exif()
    turned[0x0112] = 6
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    image.save(tmp_path / "plain.jpg", exif=exif)
    image.resize((20, 15)).save(tmp_path / "turned.jpg", exif=turned)
    Image.new("1", (10_000, 5_001)).save(tmp_path / "huge.tif", compression="tiff_deflate")
    Image.new("1", (10_000, 5_001)).save(tmp_path / "huge.png")
    paths = [tmp_path / name for name in ("plain.jpg", "turned.jpg", "huge.png", "huge.tif")]
    suffix, content, pixels = golden_photo(paths, spec)
    assert suffix == ".jpg"
    assert b"at home" in paths[0].read_bytes()
    assert b"Exif" not in content
    assert np.array_equal(load_array(content, spec), load_array(paths[0].read_bytes(), spec))
    assert np.array_equal(pixels, load_array(content, spec))
    # Where metadata turn or colour the photo, or something lies behind its end, it is the pixels themselves.
    (tmp_path / "film.jpg").write_bytes(content + b"a film from N 52 E 13")
    image.save(tmp_path / "photo.webp", exif=exif.tobytes().removeprefix(b"Exif\0\0"))
    image.save(tmp_path / "p3.jpg", icc_profile=display(*DISPLAY_P3))
    for path in (paths[1], *(tmp_path / name for name in ("film.jpg", "photo.webp", "p3.jpg"))):
        for resize in ("stretch", "crop"):
            spec = InputSpec(width=16, height=16, resize=resize)
            suffix, content, pixels = golden_photo([path], spec)
            assert (suffix, content[:4]) == (".png", b"\x89PNG")
            assert np.array_equal(pixels, load_array(path.read_bytes(), spec))
            assert np.array_equal(pixels, load_array(content, spec))
    assert golden_photo(paths[2:], spec) is None


def test_photos_that_changed_since_are_noticed(tmp_path):
    root = photo_sets.food_101(tmp_path / "photos")
    config = _scratch(root)
    run = start_run(tmp_path / "run", config)
    console = Console(file=io.StringIO())
    prepare_photos(config, input_spec(config.network), run, console)
    photo_sets.write_photo(root / "images/apple/0.jpg", (1, 2, 3), 99)
    with pytest.raises(Refused, match="are not those that"):
        prepare_photos(config, input_spec(config.network), run, console)


def test_rejected_photos_are_a_file_and_a_line(tmp_path):
    root = photo_sets.food_101(tmp_path / "photos")
    config = _scratch(root)
    (root / "images/apple/3.jpg").write_bytes(b"broken")
    (root / "images/leaf/1003.jpg").unlink()
    said = io.StringIO()
    run = start_run(tmp_path / "run", config)
    prepare_photos(config, input_spec(config.network), run, Console(file=said, width=200))
    table = pd.read_csv(run.rejected)
    assert table["image_path"].tolist() == ["images/apple/3.jpg", "images/leaf/1003.jpg"]
    assert table["reason"].tolist()[1] == "missing"
    assert f"2 rejected, see {run.rejected}" in said.getvalue()
    (root / "images/apple/extra.jpg").write_bytes(b"in no table")
    prepare_photos(config, input_spec(config.network), run, Console(file=said, width=200))
    assert f"see {run.rejected}; 1 in its folders but in no table" in said.getvalue()
    strict = replace(config, data=replace(config.data, max_rejected=0.01))
    with pytest.raises(InvalidRequest, match=r"2 of 48 photos are rejected \(1 unreadable, 1 missing\)"):
        prepare_photos(strict, input_spec(strict.network), start_run(tmp_path / "strict", strict), Console(file=said))


def test_a_class_without_training_photos_stops_the_run(tmp_path):
    root = photo_sets.food_101(tmp_path / "photos", train=3, test=4)
    for path in (root / "images/apple").glob("[012].jpg"):
        path.unlink()
    config = _scratch(root)
    loose = replace(config, data=replace(config.data, max_rejected=1.0))
    with pytest.raises(InvalidRequest, match="No training photo is left of: apple"):
        prepare_photos(
            loose, input_spec(loose.network), start_run(tmp_path / "run", loose), Console(file=io.StringIO())
        )


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_best(photos, pretrained, tmp_path):
    config = _two_phases(photos, pretrained, fine_tune_learning_rate=1e30, augment=False)
    with pytest.raises(TrainingDivergedError, match=r"lower learning rate.*`trainer export .*` makes a bundle of"):
        _train(config, tmp_path / "run")
    run, _ = open_run(tmp_path / "run")
    state = TrainingState(run)
    assert state.best["phase"] == "head"
    assert (tmp_path / "run" / "checkpoints" / state.best["weights"]).is_file()
    best = load_trained(run, config)
    assert _same(best.backbone.get_weights(), backbones.build_backbone(config.network).get_weights())


@pytest.mark.long
def test_a_head_that_diverges_can_be_exported_if_it_was_ever_good(photos, pretrained, tmp_path, monkeypatch):
    config = _two_phases(photos, pretrained)
    with pytest.raises(TrainingDivergedError) as stopped:
        _train(_two_phases(photos, pretrained, head_learning_rate=1e38), tmp_path / "never")
    assert "trainer export" not in str(stopped.value)

    class Spoilt(Checkpointing):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, {**logs, "loss": float("nan")} if epoch else logs)

    monkeypatch.setattr(phases, "Checkpointing", Spoilt)
    with pytest.raises(TrainingDivergedError, match="trainer export"):
        _train(config, tmp_path / "once")
    run, _ = open_run(tmp_path / "once")
    assert TrainingState(run).best["epoch"] == 1
    load_trained(run, config)
