"""The run's folder: never taken for another run's, started again, overwritten, and left readable by a crash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from classifier.errors import InvalidRequest, Refused
from tests.support import photo_sets
from trainer.data.preparation import prepare_photos
from trainer.networks.backbones import input_spec
from trainer.run.config import TrainingConfig
from trainer.run.folder import RunFolder, clear_unfinished_bundle, replace_bundle
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import open_run, start_run
from trainer.training import train


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return photo_sets.food_101(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def config(photos) -> TrainingConfig:
    return TrainingConfig(
        DataConfig("food-101", str(photos), validation_share=0.25),
        NetworkConfig("base_cnn", "none", image_size=32),
        ScheduleConfig(fine_tune_epochs=3, batch_size=8),
    )


def test_a_run_folder_is_not_taken_for_another_run(config, tmp_path, console):
    run = start_run(tmp_path / "run", config)
    prepare_photos(config, input_spec(config.network), run, console)
    other = replace(config, network=replace(config.network, dropout=0.5))
    with pytest.raises(Refused, match=r"another configuration \(network\.dropout: 0\.2, then 0\.5\)"):
        start_run(tmp_path / "run", other)
    start_run(tmp_path / "run", other, overwrite=True)
    assert open_run(tmp_path / "run")[1] == other
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    for overwrite in (False, True):
        with pytest.raises(Refused, match="Expected an empty or new folder"):
            start_run(tmp_path / "notes", config, overwrite=overwrite)
    assert (tmp_path / "notes" / "diary.txt").is_file()


def test_a_configuration_that_failed_is_replaced(config, tmp_path, console):
    wrong = replace(config, network=NetworkConfig("xeption", "none"))
    with pytest.raises(InvalidRequest, match="received --architecture 'xeption'"):
        train.train(wrong, start_run(tmp_path / "run", wrong), console)
    (tmp_path / "run" / "features.npz").write_text("of another network")
    assert not start_run(tmp_path / "run", config).features.exists()
    assert open_run(tmp_path / "run")[1] == config


def test_overwriting_removes_what_a_run_owns_and_nothing_else(config, tmp_path, console):
    run = start_run(tmp_path / "run", config)
    prepare_photos(config, input_spec(config.network), run, console)
    owned = ["state.json", "features.npz", "log.csv", "checkpoints/x.h5", "bundle/report/a", "bundle.partial/b"]
    owned += ["bundle.old/c", "saved_model.partial/d", "onnx.partial/e", ".partial-state.json"]
    for name in [*owned, "thesis.txt", "notes/mine.txt", "saved_model/1/served"]:
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text("{}")
    start_run(run.path, config, overwrite=True)
    left = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*")}
    exports = {"saved_model", "saved_model/1", "saved_model/1/served"}  # a server may be reading them
    assert left == {"config.json", "notes", "notes/mine.txt", "thesis.txt", *exports}


@pytest.mark.parametrize(("text", "error"), [('{"hello": 1}', Refused), ("{", InvalidRequest), ("[]", Refused)])
def test_another_program_s_config_is_left_alone(config, tmp_path, text, error):
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(error, match=r"config\.json is not"):
            start_run(tmp_path, config, overwrite=overwrite)
    with pytest.raises(error, match=r"config\.json is not"):
        open_run(tmp_path)
    assert (tmp_path / "config.json").read_text() == text
    assert (tmp_path / "thesis.txt").is_file()


def test_a_run_killed_while_its_first_file_is_written_starts_again(config, tmp_path):
    (tmp_path / ".partial-config.json").write_text("{")
    start_run(tmp_path, config)
    assert open_run(tmp_path)[1] == config


def test_a_crash_while_a_bundle_is_replaced_loses_neither(tmp_path):
    run = RunFolder(tmp_path)
    for number in (1, 2):
        run.new_bundle.mkdir()
        (run.new_bundle / "manifest.json").write_text(str(number))
        replace_bundle(run)
        assert (run.bundle / "manifest.json").read_text() == str(number)
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    run.bundle.rename(run.old_bundle)
    run.new_bundle.mkdir()
    clear_unfinished_bundle(run)
    assert (run.bundle / "manifest.json").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
