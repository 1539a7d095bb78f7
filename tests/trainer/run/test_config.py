"""What a configuration file may hold: each fault is one line that names the file and the option."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from classifier.errors import InvalidSetting, Refused
from trainer.commands.options import read_config
from trainer.run.config import TrainingConfig
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import open_run, start_run

CONFIG = TrainingConfig(
    DataConfig("folder", "photos", classes=("a", "b"), first_classes=None),
    NetworkConfig(hidden=(64, 32), image_size=96),
    ScheduleConfig(head_learning_rate=1e-3),
)


def _file(folder: Path, section: str, **options: object) -> Path:
    plain = CONFIG.to_json()
    plain[section] = {**plain.get(section, {}), **options}
    path = folder / "config.json"
    path.write_text(json.dumps(plain))
    return path


def test_what_was_written_is_read(tmp_path):
    assert TrainingConfig.from_json(CONFIG.to_json()) == CONFIG
    assert read_config(_file(tmp_path, "data"), {}) == CONFIG
    # The command line goes first, and a file may have a part of the options.
    (tmp_path / "part.json").write_text('{"network": {"dropout": 0}}')
    found = read_config(tmp_path / "part.json", {"dataset": "csv", "data_dir": "x", "alpha": 0.5})
    assert found == TrainingConfig(DataConfig("csv", "x"), NetworkConfig(dropout=0, alpha=0.5), ScheduleConfig())


@pytest.mark.parametrize(
    ("section", "option", "value", "expected"),
    [
        ("network", "dropout", -0.1, "a number from 0 to 0.95"),
        ("network", "dropout", "0.2", "a number from 0 to 0.95"),
        ("network", "dropout", True, "a number from 0 to 0.95"),
        ("network", "dropout", math.nan, "a number from 0 to 0.95"),
        ("network", "dropout", None, "a number from 0 to 0.95"),
        ("network", "hidden", [64, 0], "a list of up to 2 widths"),
        ("network", "hidden", [64, 32, 16], "a list of up to 2 widths"),
        ("network", "hidden", 64, "a list of up to 2 widths"),
        ("network", "image_size", 96.5, "a whole number from 32 to 1024 or null"),
        ("network", "resize", "squash", "one of stretch, crop"),
        ("schedule", "head_learning_rate", 0, "a number of at least 1e-08 or null"),
        ("schedule", "fine_tune_learning_rate", math.inf, "a number of at least 1e-08 or null"),
        ("schedule", "head_epochs", 0, "a whole number of at least 1"),
        ("schedule", "augment", 1, "true or false"),
        ("schedule", "seed", -1, "a whole number from 0 to 4294967295"),
        ("schedule", "optimizer", ["adam"], "one of adam, adamw, sgd"),
        ("data", "classes", "pizza", "a list of labels"),
        ("data", "data_dir", 7, "a text"),
        ("compute", "jit_compile", "yes", "true or false"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_with_file_and_option(tmp_path, section, option, value, expected):
    path = _file(tmp_path, section, **{option: value})
    with pytest.raises(InvalidSetting) as refused:
        read_config(path, {})
    message = str(refused.value)
    assert message == f"{path}: Expected {section}.{option} to be {expected}; received {json.dumps(value)}."
    # Also where the command line has another value: the file is at fault all the same.
    with pytest.raises(InvalidSetting):
        read_config(path, {option: getattr(getattr(CONFIG, section), option)})


def test_names_that_nobody_knows_are_refused_with_what_was_meant(tmp_path):
    with pytest.raises(InvalidSetting, match=r"config.json: 'drop_out' is not an option of network. Did you mean dro"):
        read_config(_file(tmp_path, "network", drop_out=0.2), {})
    with pytest.raises(
        InvalidSetting, match=r"'zzz' is not an option of compute. Expected one of precision, jit_compile,"
    ):
        read_config(_file(tmp_path, "compute", zzz=1), {})
    with pytest.raises(InvalidSetting, match=r"Expected the sections data, network, schedule, compute in .*; received"):
        read_config(_file(tmp_path, "networks"), {})
    (tmp_path / "config.json").write_text('{"network": [1]}')
    with pytest.raises(InvalidSetting, match=r"Expected network to be an object; received \[1\]"):
        read_config(tmp_path / "config.json", {})


def test_a_runs_configuration_is_read_as_strictly(tmp_path):
    run = start_run(tmp_path, CONFIG)
    assert open_run(tmp_path)[1] == CONFIG
    plain = json.loads(run.config.read_text())
    for change, said in (({"batch_size": "x"}, "schedule.batch_size"), ({"batch": 1}, "'batch' is not an option")):
        run.config.write_text(json.dumps(plain | {"schedule": plain["schedule"] | change}))
        with pytest.raises(Refused, match=said):
            open_run(tmp_path)
    del plain["data"]["dataset"]
    run.config.write_text(json.dumps(plain))
    with pytest.raises(Refused, match=r"Expected data.dataset; it is missing"):
        open_run(tmp_path)
