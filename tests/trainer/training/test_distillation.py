"""Runs with a teacher: what they learn of it, with and without labels, and how they resume."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from classifier.errors import Corrupt, InvalidRequest, NotFound, Refused
from classifier.registry.manifest import Manifest
from classifier.registry.rules import Registry
from classifier.storage.opening import open_store
from tests.support import photo_sets
from tests.support.bundles import write_bundle
from tests.support.interrupted_training import trainings
from tests.support.processes import environment
from tests.support.tiny_backbone import add_tiny_architecture, tiny_architecture, tiny_network, tiny_weights  # noqa: F401  # fixture
from trainer.run.config import TrainingConfig
from trainer.run.effect import require_effect
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import open_run, start_run
from trainer.training import phases, train
from trainer.training.checkpoints import Checkpointing, TrainingState
from trainer.training.teacher import keep_teacher, kept_teacher

LABELS = tuple(sorted(photo_sets.COLOURS))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return photo_sets.food_101(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.weights.h5")


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory, photos) -> Path:
    """Five photos to learn from, and four to leave out: a test photo, a training photo, one again and a broken one."""
    folder = tmp_path_factory.mktemp("unlabelled")
    for number in range(5):
        photo_sets.write_photo(folder / f"day/{number}.jpg", (90, 200, 90), 70 + number)
    for name, split in (("test.jpg", "test"), ("train.jpg", "train")):
        listed = (photos / f"meta/{split}.txt").read_text().split()[0]
        (folder / name).write_bytes((photos / f"images/{listed}.jpg").read_bytes())
    (folder / "twice.jpg").write_bytes((folder / "day/0.jpg").read_bytes())
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A run's folder with a bundle: a network with a head of its own, of larger photos, that knows one class more."""
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_architecture(patch)
        return _teacher(tmp_path_factory.mktemp("teachers") / "large", ("bread", *LABELS))


def _teacher(run: Path, labels: tuple[str, ...], side: int = 24, **more: bytes) -> Path:
    run.mkdir()
    (run / "config.json").write_text("{}")
    tiny_network(len(labels), side).save(run / "network.keras")
    files = {"model.tflite": b"a model", "model.keras": (run / "network.keras").read_bytes()}
    write_bundle(run / "bundle", {**files, **more}, labels=labels)
    return run


def _config(photos: Path, weights: Path, teacher: Path | str, **options) -> TrainingConfig:
    data = {"unlabelled": options.pop("unlabelled", None)}
    schedule = {"head_epochs": 2, "batch_size": 8, "teacher": str(teacher), **options}
    return TrainingConfig(
        DataConfig("food-101", str(photos), validation_share=0.25, **data),
        NetworkConfig("tiny", str(weights)),
        ScheduleConfig(**schedule),
    )


def _train(config: TrainingConfig, path: Path, console: Console | None = None) -> list[np.ndarray]:
    trained = train.train(config, start_run(path, config), console or Console(file=io.StringIO()))
    return [*trained.backbone.get_weights(), *trained.head.get_weights()]


def _same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.long
def test_a_teacher_changes_what_is_learnt_in_both_phases(photos, weights, teacher, tmp_path):
    def learnt(name: str, **options) -> list[np.ndarray]:
        config = _config(photos, weights, teacher, **{"head_epochs": 1, "fine_tune_epochs": 0, **options})
        if name == "without":
            config = replace(config, schedule=replace(config.schedule, teacher=None))
        return _train(config, tmp_path / name)

    without, taught = learnt("without"), learnt("taught", head_views=2)
    assert not _same(without, taught)
    assert _same(taught[:6], without[:6])  # the backbone's
    share, temperature = learnt("share", teacher_share=0.2), learnt("temperature", teacher_temperature=5.0)
    assert not _same(share, temperature)
    fine_tuned = learnt("fine-tuned", fine_tune_epochs=1)
    log = pd.read_csv(tmp_path / "fine-tuned/log.csv")
    assert log["phase"].tolist() == ["head", "fine-tuning"]
    assert not _same(fine_tuned, learnt("longer", fine_tune_epochs=1, teacher_share=1.0))
    # Each view has its own logits.
    with np.load(tmp_path / "taught/features.npz") as features:
        count = int(pd.read_csv(tmp_path / "taught/data.csv")["split"].eq("train").sum())
        assert features["taught"].shape == (2 * count, 3)
        assert not np.allclose(features["taught"][:count], features["taught"][count:])


@pytest.mark.long
def test_an_interrupted_run_ends_as_if_undisturbed(photos, weights, teacher, unlabelled, tmp_path, monkeypatch):
    """It is interrupted in each phase."""
    config = _config(
        photos, weights, teacher, unlabelled=str(unlabelled), mixup=0.3, average_epochs=1.5, label_smoothing=0.1,
        head_views=2, cutmix=1.0, randaugment=1,
    )  # fmt: skip
    undisturbed = _train(config, tmp_path / "undisturbed")

    class InterruptedError(Exception):
        pass

    for killed in (("head", 0), ("fine-tuning", 0)):

        class Interrupted(Checkpointing):
            def on_epoch_end(self, epoch, logs=None, killed=killed):
                super().on_epoch_end(epoch, logs)
                if (self.phase, epoch) == killed:
                    raise InterruptedError

        with monkeypatch.context() as patch:
            patch.setattr(phases, "Checkpointing", Interrupted)
            with pytest.raises(InterruptedError):
                _train(config, tmp_path / "resumed")
        # The teacher is the run's own by now.
        monkeypatch.setattr("trainer.training.teacher.keep_teacher", lambda name, run: kept_teacher(run))
    assert TrainingState(open_run(tmp_path / "resumed")[0]).last["epoch"] == 1
    assert _same(_train(config, tmp_path / "resumed"), undisturbed)


@pytest.mark.long
def test_a_killed_run_resumes_with_its_teacher(photos, tmp_path, teacher, unlabelled):
    keras.utils.set_random_seed(11)
    file = tmp_path / "mobilenet.weights.h5"
    keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3), alpha=0.25).save_weights(
        file
    )
    plain = _config(photos, file, teacher, unlabelled=str(unlabelled), fine_tune_epochs=2, fine_tune_layers=3)
    config = replace(plain, network=NetworkConfig("mobilenet", str(file), image_size=32, alpha=0.25))
    undisturbed = _train(config, tmp_path / "undisturbed")
    with trainings(config.to_json(), tmp_path / "killed") as interrupted:
        for phase, epoch in (("head", 1), ("fine-tuning", 1)):
            interrupted.killed_after(epoch, phase)
    assert _same(_train(config, tmp_path / "killed"), undisturbed)


@pytest.mark.long
def test_a_run_teaches_another_one_by_the_command_line(photos, unlabelled, tmp_path):
    """A real run is the teacher, and what it has taught is exported as any other."""

    def trainer(*arguments: str | Path) -> str:
        common = (
            "train", "--dataset", "food-101", "--data-dir", photos, "--weights", "none", "--validation-share", "0.25",
            "--architecture", "base_cnn", "--batch-size", "8", "--variant", "float32", "--no-report",
        )  # fmt: skip
        program = Path(sys.executable).with_name("trainer")
        done = subprocess.run([program, *common, *arguments], capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    large, small = tmp_path / "large", tmp_path / "small"
    trainer("--image-size", "48", "--fine-tune-epochs", "4", "--run", large)
    teacher = Manifest.from_json((large / "bundle/manifest.json").read_bytes())
    said = trainer(
        "--image-size", "32", "--fine-tune-epochs", "2", "--run", small, "--teacher", large, "--unlabelled", unlabelled,
        "--teacher-temperature", "3",
    )  # fmt: skip
    assert "5 photos without labels are trained on besides" in " ".join(said.split())
    manifest = Manifest.from_json((small / "bundle/manifest.json").read_bytes())
    assert manifest.training["teacher"] == {
        "model": None,
        "version": None,
        "sha256": teacher.files["model.keras"].sha256,
        "data_fingerprint": teacher.data["fingerprint"],
        "test_photos_seen": 0,
    }
    assert manifest.training["schedule"]["teacher"] == "large"
    assert manifest.training["schedule"]["teacher_temperature"] == 3
    assert manifest.training["data"]["unlabelled"] == unlabelled.name
    assert manifest.data["unlabelled"]["photos"] == 5
    assert manifest.metrics["heatmap_error"] < 1e-4
    assert manifest.files["model.keras"].bytes < 1.1 * teacher.files["model.keras"].bytes


@pytest.mark.long
def test_photos_without_labels_are_trained_on_and_on_nothing_else(photos, weights, teacher, unlabelled, tmp_path):
    said = io.StringIO()
    usual = {"teacher_share": 0.5, "head_epochs": 1, "fine_tune_epochs": 0}
    config = _config(photos, weights, teacher, unlabelled=str(unlabelled), **usual)
    learnt = _train(config, tmp_path / "run", Console(file=said, width=200))
    assert "5 photos without labels are trained on besides, as the teacher labels them; 4 left out" in said.getvalue()
    assert not _same(learnt, _train(_config(photos, weights, teacher, **usual), tmp_path / "without"))
    table = pd.read_csv(tmp_path / "run/unlabelled.csv", keep_default_na=False).set_index("image_path")["reason"]
    assert [name for name, reason in table.items() if not reason] == [f"day/{number}.jpg" for number in range(5)]
    assert "which is in test" in table["test.jpg"] and table["train.jpg"].startswith("same bytes as images/")
    assert table["twice.jpg"] == "same bytes as day/0.jpg" and table["broken.jpg"].startswith("unreadable")
    frame = pd.read_csv(tmp_path / "run/data.csv")
    assert set(frame["split"]) == {"train", "validation", "test"} and set(frame["label"]) == set(LABELS)
    summary = json.loads((tmp_path / "run/data.json").read_text())
    assert summary["unlabelled"]["photos"] == 5 and sum(summary["photos"].values()) == len(frame)
    # The features of the labelled photos come first: what the export makes of them does not change.
    with np.load(tmp_path / "run/features.npz") as one, np.load(tmp_path / "without/features.npz") as other:
        assert len(one["train"]) == len(other["train"]) + 5
        np.testing.assert_allclose(one["train"][: len(other["train"])], other["train"], rtol=1e-4, atol=1e-5)


def test_other_photos_without_labels_are_another_run(photos, weights, teacher, tmp_path):
    folder = tmp_path / "more"
    photo_sets.write_photo(folder / "a.jpg", (90, 90, 200), 91)
    config = _config(photos, weights, teacher, unlabelled=str(folder), fine_tune_epochs=0, head_epochs=1)
    _train(config, tmp_path / "run")
    photo_sets.write_photo(folder / "b.jpg", (90, 90, 200), 92)
    with pytest.raises(Refused, match=r"are not those that .* was started with"):
        _train(config, tmp_path / "run")
    (folder / "b.jpg").unlink()
    _train(config, tmp_path / "run")


@pytest.mark.long
def test_a_published_version_teaches_and_what_production_was_stays(photos, weights, teacher, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("MODEL_NAME", "dishes")
    registry = Registry(open_store(str(tmp_path / "store")), "dishes")
    config = _config(photos, weights, "production", fine_tune_epochs=0, head_epochs=1)
    with pytest.raises(NotFound, match="There is no store"):
        _train(config, tmp_path / "run")
    other = _teacher(tmp_path / "other", LABELS, side=16)
    for run in (teacher, other):
        registry.publish(run / "bundle", who="me", replay=lambda manifest, read: None)
    with pytest.raises(NotFound, match="No version of dishes is promoted"):
        _train(config, tmp_path / "run")
    registry.promote("v1", who="me", reason="", replay=lambda manifest, read: None)
    learnt = _train(config, tmp_path / "run")
    by_folder = _train(replace(config, schedule=replace(config.schedule, teacher=str(teacher))), tmp_path / "folder")
    assert _same(learnt, by_folder)
    registry.promote("v2", who="me", reason="", replay=lambda manifest, read: None)
    kept = keep_teacher("production", open_run(tmp_path / "run")[0])
    assert (kept.manifest.version, kept.manifest.model) == ("v1", "dishes")
    assert _same(_train(config, tmp_path / "run"), learnt)
    now = replace(config, schedule=replace(config.schedule, teacher="V2"))
    assert not _same(_train(now, tmp_path / "now"), learnt)
    with pytest.raises(NotFound, match="v9"):
        _train(replace(config, schedule=replace(config.schedule, teacher="v9")), tmp_path / "none")


def test_a_teacher_that_cannot_teach_is_told_before_anything_is_trained(photos, weights, tmp_path):
    def failure(teacher: Path | str) -> str:
        with pytest.raises((NotFound, Corrupt, InvalidRequest)) as error:
            _train(_config(photos, weights, teacher), tmp_path / "run")
        assert not (tmp_path / "run/features.npz").exists()
        return str(error.value)

    assert "there is no folder" in failure(tmp_path / "nothing")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/config.json").write_text("{}")
    assert "it has no bundle yet. Finish it with" in failure(tmp_path / "begun")
    (tmp_path / "photos").mkdir()
    assert "it has no manifest.json" in failure(tmp_path / "photos")
    half = _teacher(tmp_path / "half", LABELS)
    content = (half / "bundle/model.keras").read_bytes()
    (half / "bundle/model.keras").write_bytes(content[:-100])
    assert "is damaged: expected model.keras to have" in failure(half)
    (half / "bundle/model.keras").unlink()
    assert "it is not there. Finish it with" in failure(half)
    imported = tmp_path / "imported"
    imported.mkdir()
    (imported / "config.json").write_text("{}")
    write_bundle(imported / "bundle", {"model.tflite": b"a model"}, labels=LABELS)
    assert "it was imported, or made elsewhere" in failure(imported)
    fewer = _teacher(tmp_path / "fewer", ("apple", "bread", "cake"))
    assert "it lacks leaf, sky, and knows bread, cake besides" in failure(fewer)


def test_a_teacher_that_knows_the_answers_is_told_and_recorded(photos, weights, tmp_path):
    """It was trained on two of the test photos, by another split."""
    config = _config(photos, weights, "none", fine_tune_epochs=0, head_epochs=1)
    _train(replace(config, schedule=replace(config.schedule, teacher=None)), tmp_path / "without")
    frame = pd.read_csv(tmp_path / "without/data.csv")
    table = frame[["sha256", "label", "split"]].copy()
    table.loc[np.flatnonzero(frame["split"] == "test")[:2], "split"] = "train"
    other = _teacher(tmp_path / "other", LABELS, **{"report/photos.csv": table.to_csv(index=False).encode()})
    said = io.StringIO()
    config = replace(config, schedule=replace(config.schedule, teacher=str(other)))
    _train(config, tmp_path / "run", Console(file=said, width=200))
    assert "warning: the teacher was trained on 2 of the test photos" in said.getvalue()
    assert kept_teacher(open_run(tmp_path / "run")[0]).lineage(frame)["test_photos_seen"] == 2


def test_a_run_s_own_teacher_that_is_spoilt_is_told(photos, weights, teacher, tmp_path):
    config = _config(photos, weights, teacher, fine_tune_epochs=0, head_epochs=1)
    _train(config, tmp_path / "run")
    (tmp_path / "run/teacher/model.keras").write_bytes(b"")
    with pytest.raises(Corrupt, match="The run's teacher is damaged"):
        _train(config, tmp_path / "run")


def test_options_without_a_teacher_are_refused(photos, weights):
    plain = _config(photos, weights, "none")
    plain = replace(plain, schedule=replace(plain.schedule, teacher=None))
    with pytest.raises(InvalidRequest, match="--teacher-share needs --teacher"):
        require_effect(replace(plain, schedule=replace(plain.schedule, teacher_share=0.5)))
    with pytest.raises(InvalidRequest, match="--randaugment-magnitude needs --randaugment"):
        require_effect(replace(plain, schedule=replace(plain.schedule, randaugment_magnitude=9.0)))
    with pytest.raises(InvalidRequest, match="--unlabelled needs --teacher"):
        require_effect(replace(plain, data=replace(plain.data, unlabelled="photos")))
