"""`trainer tune`: real trials on tiny photos, alone and shared by processes, killed and resumed, up to `train`."""

from __future__ import annotations

import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from classifier.errors import InvalidRequest, Refused, Unavailable
from tests.support import photo_sets
from tests.support.processes import ROOT, environment
from trainer.export import bundle
from trainer.main import app
from trainer.run.config import TrainingConfig
from trainer.run.folder import RunFolder
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.search import trials, tune
from trainer.search.folder import OBJECTIVE, SearchFolder, ranking
from trainer.search.processes import Role
from trainer.search.space import choose_parameters
from trainer.training import phases
from trainer.training.checkpoints import merit

ALONE = Role("alone")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return photo_sets.food_101(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Weights for a small MobileNet, as a file: any weights do to take the path of pretrained networks."""
    keras.utils.set_random_seed(11)
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3), alpha=0.25).save_weights(
        path
    )
    return path


@pytest.fixture
def config(photos, weights) -> TrainingConfig:
    return TrainingConfig(
        DataConfig("food-101", str(photos), validation_share=0.25),
        NetworkConfig("mobilenet", str(weights), image_size=32, alpha=0.25),
        ScheduleConfig(head_epochs=4, fine_tune_epochs=0, batch_size=8),
    )


def _tune(config, path, names=(), *, fine_tune=False, console=None, **options):
    space = choose_parameters(config, names, fine_tune=fine_tune)
    search = tune.SearchOptions(**{"max_trials": 3, **options})
    return tune.tune(config, path, space, search, ALONE, console or Console(file=io.StringIO()))


def _arguments(config: TrainingConfig, path: Path, *more: object) -> list[str]:
    """The command line that asks for a configuration."""
    given = [
        "tune", "--dataset", config.data.dataset, "--data-dir", config.data.data_dir, "--validation-share", 0.25,
        "--architecture", "mobilenet", "--weights", config.network.weights, "--image-size", 32, "--alpha", 0.25,
        "--head-epochs", 4, "--fine-tune-epochs", 0, "--batch-size", 8, "--run", path, *more,
    ]  # fmt: skip
    return [str(each) for each in given]


def _results(trials):
    return [(trial.number, trial.values, trial.figures, trial.failure) for trial in trials]


@pytest.mark.long
def test_a_search_ends_in_a_configuration_that_train_takes(config, tmp_path, monkeypatch, capsys):
    search = SearchFolder(tmp_path / "search")
    app(_arguments(config, search.path, "--max-trials", 3), standalone_mode=False)
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert (len([line for line in lines if line.startswith(tuple(f"{n:>4} " for n in (1, 2, 3)))])) == 3
    assert lines[2].startswith("   1 *")
    assert not {"Trial", "Search:", "Reloading"} & set(said.out.split())
    best = ranking(search.trials())[0]
    table = pd.read_csv(search.table)
    assert table["trial"].tolist() == [1, 2, 3]
    assert (table["status"] == "completed").all()
    assert table[OBJECTIVE].min() == best.loss
    assert {"val_accuracy", "seconds", "learning_rate", "dropout", "dense_layers", "optimizer"} <= set(table)
    with Image.open(search.plot) as plot:
        assert plot.size[0] > 1000
        assert len(plot.convert("RGB").getcolors(1 << 20)) > 10
    # Photos of the test split are in no figure: their features are not even computed.
    with np.load(search.photos.features) as features:
        assert {"train", "validation"} <= set(features)
        assert "test" not in set(features)
    found = TrainingConfig.from_json(json.loads(search.best.read_text()))
    space = choose_parameters(config)
    assert found == space.apply(config, best.values)
    assert found.differences(replace(config, network=found.network, schedule=found.schedule)) == []
    monkeypatch.setattr(bundle, "backend", lambda: "jax")
    run = RunFolder(tmp_path / "run")
    app(["train", "--config", str(search.best), "--run", str(run.path)], standalone_mode=False)
    assert TrainingConfig.from_json(json.loads(run.config.read_text())) == found
    log = pd.read_csv(run.log)
    # The head that the search found is the head that the training finds.
    head = log[log["phase"] == "head"]
    assert -head.apply(merit, axis=1).max() == pytest.approx(best.loss, abs=0.05)


@pytest.mark.long
def test_the_same_seed_gives_the_same_result_and_a_killed_search_goes_on_to_it(config, tmp_path):
    whole = _tune(config, tmp_path / "whole")
    killed = SearchFolder(tmp_path / "killed")
    with subprocess.Popen(
        [Path(sys.executable).parent / "trainer", *_arguments(config, killed.path, "--max-trials", 3)],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while not killed.record(1).is_file():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    before = killed.trials()
    assert 1 <= len(before) < 3
    times = {trial.number: killed.record(trial.number).stat().st_mtime_ns for trial in before}
    resumed = _tune(config, killed.path)
    assert _results(resumed) == _results(whole)
    assert {number: killed.record(number).stat().st_mtime_ns for number in times} == times
    assert killed.best.read_text() == SearchFolder(tmp_path / "whole").best.read_text()


def test_label_smoothing_is_searched_on_cached_features_and_a_teacher_is_not_for_a_search(
    config, tmp_path, monkeypatch
):
    losses = []

    def spied(*arguments):
        losses.append(phases.loss_of(*arguments))
        return losses[-1]

    with monkeypatch.context() as patch:
        patch.setattr(trials, "loss_of", spied)
        found = _tune(config, tmp_path / "search", ["label_smoothing"], max_trials=2)
    assert not any(trial.failure for trial in found)
    assert [loss.label_smoothing for loss in losses] == [trial.values["label_smoothing"] for trial in found]
    assert losses[0].label_smoothing != losses[1].label_smoothing
    taught = replace(config, schedule=replace(config.schedule, teacher="v1"))
    with pytest.raises(InvalidRequest, match="--teacher is for `trainer train`"):
        _tune(taught, tmp_path / "taught")


@pytest.mark.long
def test_a_search_can_train_the_backbone(config, tmp_path):
    config = replace(config, schedule=replace(config.schedule, head_epochs=1, fine_tune_epochs=1))
    trials = _tune(config, tmp_path / "search", ["image_size", "fine_tune_layers"], max_trials=1)
    (best,) = trials
    assert not best.failure
    assert set(best.values) == {"image_size", "fine_tune_layers"}
    folder = SearchFolder(tmp_path / "search")
    assert [path.name for path in (folder.path / "checkpoints").iterdir()] == [f"{best.number:04}.weights.h5"]
    assert not list(folder.path.glob("work/*"))
    found = json.loads(folder.best.read_text())
    assert found["network"]["image_size"] == best.values["image_size"]


@pytest.mark.long
def test_trials_whose_loss_is_no_number_fail_with_the_reason(config, tmp_path):
    wild = replace(config, schedule=replace(config.schedule, head_learning_rate=1e30))
    with pytest.raises(Refused, match=r"None of the 2 trials has a result. The first: The loss became (nan|inf) in"):
        _tune(wild, tmp_path / "heads", ["dropout"], max_trials=2)
    table = pd.read_csv(SearchFolder(tmp_path / "heads").table)
    assert table["status"].tolist() == ["failed", "failed"]
    scratch = TrainingConfig(
        config.data,
        NetworkConfig("base_cnn", "none", image_size=32),
        ScheduleConfig(fine_tune_epochs=1, batch_size=8, fine_tune_learning_rate=1e30),
    )
    with pytest.raises(Refused, match=r"None of the 1 trials has a result. The first: The loss became (nan|inf) in"):
        _tune(scratch, tmp_path / "whole", ["dropout"], max_trials=1)
    assert not list((tmp_path / "whole").glob("work/*"))


def test_photos_that_cannot_be_searched_with_are_refused(config, tmp_path):
    one = photo_sets.folder(tmp_path / "one")
    for name in ("leaf", "sky"):
        shutil.rmtree(one / name)
    with pytest.raises(InvalidRequest, match="at least two classes; received 1"):
        _tune(replace(config, data=DataConfig("folder", str(one))), tmp_path / "search")
    few = photo_sets.folder(tmp_path / "few", photos=2)
    with pytest.raises(InvalidRequest, match=r"No (validation|training|test) photo is left"):
        _tune(replace(config, data=DataConfig("folder", str(few))), tmp_path / "search")


@pytest.mark.long
def test_two_workers_share_a_search_and_one_may_be_lost(config, tmp_path):
    (tmp_path / "meeting").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    search = SearchFolder(tmp_path / "search")
    arguments = _arguments(config, search.path, "--max-trials", 5, "--worker-timeout", 3)
    settings = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port), "MEETING": str(tmp_path / "meeting"),
    }  # fmt: skip
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-m", "tests.support.shared_tuning", *arguments],
            env={**environment(), **settings, "KERASTUNER_TUNER_ID": name},
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name in ("chief", "a", "b")
    }  # fmt: skip
    try:
        said = {name: process.communicate(timeout=240) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
    codes = {name: process.returncode for name, process in processes.items()}
    assert codes == {"chief": 0, "a": 0, "b": -signal.SIGKILL}, said
    trials = search.trials()
    assert [trial.number for trial in trials] == [1, 2, 3, 4, 5]
    assert {trial.worker for trial in trials} == {"a", "b"}
    assert [trial.worker for trial in trials].count("b") == 1
    assert all(not trial.failure for trial in trials)
    assert "b is lost: nothing heard for 3 s; trial" in said["chief"][0]
    assert len(pd.read_csv(search.table)) == 5
    assert f"best: trial {ranking(trials)[0].number};" in said["chief"][0]
    assert len(list((search.path / "checkpoints").iterdir())) == 3


def test_a_chief_that_is_gone_is_an_error(monkeypatch):
    from trainer.search import processes

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    role = Role("worker", "a", f"127.0.0.1:{port}")
    for name, value in zip(processes.SETTINGS, ("a", "127.0.0.1", port), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "CHIEF_STARTS", 0.5)
    with pytest.raises(Unavailable, match=r"The chief at 127.0.0.1:\d+ does not answer \(DEADLINE_EXCEEDED\)"):
        processes.connect(role)
