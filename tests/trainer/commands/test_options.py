"""Options are declared once: the command line keeps its names and defaults, the help its groups, files the limits."""

from __future__ import annotations

import math
import typing

import pytest
import typer
from typer.testing import CliRunner

from trainer.commands.options import GROUPS, OPTIONS, PHOTOS, of
from trainer.main import app
from trainer.networks import backbones
from trainer.run.config import SECTIONS
from trainer.run.declarations import Option, declared
from trainer.run.export_options import ExportOptions
from trainer.run.presets import PRESETS, by_architecture

TRAINING = {
    "--dataset": None, "--data-dir": None, "--csv": None, "--image-column": "image_path", "--label-column": "label",
    "--split-column": "split", "--classes": "", "--first-classes": None, "--random-classes": None,
    "--max-per-class": None, "--validation-share": 0.1, "--test-share": 0.2, "--max-rejected": 0.1,
    "--architecture": "xception", "--weights": "imagenet", "--image-size": None, "--resize": "stretch", "--alpha": 1.0,
    "--backbone-layer": None, "--hidden": "", "--dropout": 0.2, "--head-epochs": 100, "--head-learning-rate": None,
    "--head-decay": None, "--head-views": 1, "--fine-tune-epochs": None, "--fine-tune-learning-rate": None,
    "--fine-tune-layers": None, "--learning-rate-schedule": "cosine", "--layer-decay": 1.0, "--optimizer": "adam",
    "--label-smoothing": 0.0, "--mixup": 0.0, "--average-epochs": 0.0, "--batch-size": 32, "--patience": 10,
    "--augment": True, "--no-augment": True, "--augmentation-strength": 1.0, "--seed": 7, "--precision": "float32",
    "--jit-compile": False, "--no-jit-compile": False, "--distribution": "none", "--config": None, "--run": None,
    "--cache-gb": None, "--workers": None, "--overwrite": False,
}  # fmt: skip
EXPORT = {"--tolerance": 0.005, "--variant": None, "--ood": None, "--report": True, "--no-report": True}
SEARCH = {
    "--search": "random", "--parameters": "", "--fine-tune": False, "--show-space": False, "--max-trials": 30,
    "--time-budget": None, "--keep": 3, "--worker-timeout": 60,
}  # fmt: skip
HEADS = ["Options:", "Search:", "Data:", "Network:", "Training:", "Export:", "Hardware:"]


def _command(name: str) -> typing.Any:
    return typer.main.get_command(app).commands[name]


def _help(name: str, width: int) -> list[str]:
    shown = CliRunner().invoke(app, [name, "--help"], terminal_width=width)
    assert shown.exit_code == 0
    return shown.output.splitlines()


@pytest.mark.parametrize(
    ("name", "known"),
    [("train", TRAINING | EXPORT), ("tune", TRAINING | SEARCH), ("export", EXPORT | {"--format": "litert"})],
)
def test_no_option_of_a_published_command_line_is_lost_or_has_another_default(name, known):
    found = {
        option: parameter.default
        for parameter in _command(name).params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {option: found.get(option, "missing") for option in known} == known
    # Nothing but what another version of the option would be told apart by, and former names.
    assert len(found) == sum(len(parameter.opts) + len(parameter.secondary_opts) for parameter in _command(name).params)
    former = {"--strangers"} if "--ood" in known else set()
    assert {each for parameter in _command(name).params for each in parameter.opts[1:]} == former


@pytest.mark.parametrize("name", ["train", "tune"])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_help_is_in_groups_at_any_width_and_without_colours(name, width, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = _help(name, width)
    assert max(map(len, lines)) <= width
    assert not any("\x1b" in line for line in lines)
    heads = [line for line in lines if line in HEADS]
    assert heads == [head for head in HEADS if head != {"train": "Search:", "tune": "Export:"}[name]]
    of_data = lines[lines.index("Data:") : lines.index("Network:")]
    assert any(line.startswith("  --dataset ") for line in of_data)
    assert not any(line.startswith("  --dropout ") for line in of_data)


def test_behind_every_default_is_its_value():
    text = " ".join(" ".join(_help("train", 80)).split())
    assert "the architecture's" not in text
    assert f"Default: {by_architecture('fine_tune_epochs')}." in text
    for section in ("network", "schedule"):
        for each in declared(SECTIONS[section]):
            assert each.default is not None or each.option.default, each.name


def test_the_values_of_the_presets_are_those_that_are_trained_with():
    assert set(PRESETS) == set(backbones.ARCHITECTURES)
    assert by_architecture("fine_tune_epochs") == "12; base_cnn 45; inception_v3 10"
    assert by_architecture("fine_tune_learning_rate") == "0.0001; base_cnn 0.002; inception_v3 0.0002"
    assert backbones.architecture("base_cnn").preset.fine_tune_epochs == 45


def test_limits_and_help_of_the_command_line_are_the_declared_ones():
    parameters = {parameter.name: parameter for parameter in _command("train").params}
    assert set(OPTIONS) == {each.name for kind in (*SECTIONS.values(), ExportOptions) for each in declared(kind)}
    for _, each in OPTIONS.values():
        shown = parameters[each.name]
        assert shown.help.startswith(each.option.help), each.name
        bounds = (getattr(shown, "min", None), getattr(shown, "max", None))
        if not each.is_list:
            low, high = each.option.low, each.option.high
            assert bounds == tuple(value if math.isfinite(value) else None for value in (low, high)), each.name


@pytest.mark.parametrize("name", ["datasets", "audit", "upload"])
def test_a_data_set_is_asked_for_as_by_a_training(name):
    of_training = {parameter.name: parameter for parameter in _command("train").params}
    found = {parameter.name: parameter for parameter in _command(name).params}
    assert set(PHOTOS) < set(found)
    for option in PHOTOS:
        assert found[option].opts == of_training[option].opts
        assert found[option].default == of_training[option].default
        if option != "seed":  # which is not that of weights there
            assert found[option].help == of_training[option].help


def test_every_field_is_declared_under_a_head():
    assert {head for head, _ in OPTIONS.values()} == set(GROUPS.values())
    assert OPTIONS["seed"][0] == "Training"
    assert all(isinstance(each.option, Option) for _, each in OPTIONS.values())
    assert (
        of("fine_tune_layers").help
        == f"Last layers to fine-tune, -1 for all. Default: {by_architecture('fine_tune_layers')}."
    )
