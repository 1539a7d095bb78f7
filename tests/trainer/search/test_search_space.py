"""What `trainer tune` searches: the table of parameters, what can be chosen of it, and where a trial's values go."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import typer
from rich.console import Console

from classifier.errors import InvalidRequest
from tests.support.tuning_loop import CONFIG
from trainer.commands.tuning import read_seconds
from trainer.search import space
from trainer.search.results import print_space
from trainer.search.space import choose_parameters

SCRATCH = replace(CONFIG, network=replace(CONFIG.network, weights="none"))


def test_the_space_is_this_table():
    rows = [
        (row.name, row.kind, row.values, row.scale, row.sets, row.backbone, row.start, row.needs, row.rate)
        for row in space.SPACE
    ]
    head_rate, fine_rate = "schedule.head_learning_rate", "schedule.fine_tune_learning_rate"
    assert rows == [
        ("learning_rate", "range", (1e-4, 1e-2), "log", head_rate, False, "pretrained", None, True),
        ("learning_rate", "range", (2e-4, 2e-2), "log", fine_rate, True, "scratch", None, True),
        ("dropout", "range", (0.0, 0.6), "linear", "network.dropout", False, "any", None, False),
        ("dense_layers", "choice", (0, 1, 2), "list", "network.hidden", False, "any", None, False),
        ("dense_width", "choice", (64, 128, 256, 512), "list", "network.hidden", False, "any",
         ("dense_layers", (1, 2)), False),
        ("optimizer", "choice", ("adam", "adamw", "sgd"), "list", "schedule.optimizer", False, "any", None, False),
        ("image_size", "choice", (96, 128, 160, 192, 224, 299), "list", "network.image_size", True, "any", None, False),
        ("fine_tune_layers", "choice", (5, 10, 20, 30, 60, -1), "list", "schedule.fine_tune_layers", True,
         "pretrained", None, False),
        ("fine_tune_rate", "range", (5e-6, 5e-4), "log", fine_rate, True, "pretrained", None, True),
        ("augmentation_strength", "range", (0.0, 2.0), "linear", "schedule.augmentation_strength", True, "any", None,
         False),
        ("flip", "choice", ("none", "horizontal", "vertical", "both"), "list", "schedule.flip", True, "any", None,
         False),
        ("rotation", "range", (0.0, 90.0), "linear", "schedule.rotation", True, "any", None, False),
        ("shift", "range", (0.0, 0.3), "linear", "schedule.shift", True, "any", None, False),
        ("shear", "range", (0.0, 30.0), "linear", "schedule.shear", True, "any", None, False),
        ("zoom", "range", (0.0, 0.5), "linear", "schedule.zoom", True, "any", None, False),
        ("contrast", "range", (0.0, 0.5), "linear", "schedule.contrast", True, "any", None, False),
        ("head_convolution", "choice", (64, 128, 256, 512), "list", "network.head_convolution", True, "any", None,
         False),
        ("label_smoothing", "range", (0.0, 0.3), "linear", "schedule.label_smoothing", False, "any", None, False),
    ]  # fmt: skip
    assert [row.name for row in space.SPACE if not row.usual] == [
        "flip", "rotation", "shift", "shear", "zoom", "contrast", "head_convolution", "label_smoothing"
    ]  # fmt: skip


def test_the_space_is_shown_in_80_columns():
    out = io.StringIO()
    print_space(choose_parameters(CONFIG, fine_tune=True), Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert "fine_tune_rate *         5e-06 to 0.0005, log         --fine-tune-learning-rate" in lines
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize(
    ("config", "names", "fine_tune", "chosen", "heads_only"),
    [
        (CONFIG, (), False, "learning_rate dropout dense_layers dense_width optimizer", True),
        (
            CONFIG, (), True,
            "learning_rate dropout dense_layers dense_width optimizer image_size fine_tune_layers fine_tune_rate "
            "augmentation_strength",
            False,
        ),
        (CONFIG, ("dropout",), False, "dropout", True),
        (CONFIG, ("shear", "flip", "head_convolution"), False, "flip shear head_convolution", False),
        (CONFIG, ("label_smoothing", "dropout"), False, "dropout label_smoothing", True),
        (CONFIG, ("dropout",), True, "dropout", False),
        (CONFIG, ("image_size", "dropout"), False, "dropout image_size", False),
        (
            SCRATCH, (), False,
            "learning_rate dropout dense_layers dense_width optimizer image_size augmentation_strength", False,
        ),
    ],
)  # fmt: skip
def test_what_is_searched_can_be_chosen(config, names, fine_tune, chosen, heads_only):
    space = choose_parameters(config, names, fine_tune=fine_tune)
    assert " ".join(row.name for row in space.rows) == chosen
    assert space.heads_only == heads_only


def test_parameters_that_cannot_be_searched_are_refused():
    with pytest.raises(InvalidRequest, match=r"Expected --parameters out of learning_rate, .*; received 'width'"):
        choose_parameters(CONFIG, ["width"])
    with pytest.raises(InvalidRequest, match="for a network from scratch; received 'fine_tune_layers'"):
        choose_parameters(SCRATCH, ["fine_tune_layers"])
    plain = replace(CONFIG, schedule=replace(CONFIG.schedule, augment=False, fine_tune_epochs=0))
    with pytest.raises(InvalidRequest, match="augmentation_strength changes nothing with --no-augment"):
        choose_parameters(plain, ["augmentation_strength"])
    with pytest.raises(InvalidRequest, match="fine_tune_layers changes nothing with --fine-tune-epochs 0"):
        choose_parameters(plain, ["fine_tune_layers"])
    head_only = replace(CONFIG, schedule=replace(CONFIG.schedule, fine_tune_epochs=0))
    with pytest.raises(InvalidRequest, match="augmentation_strength changes nothing with --fine-tune-epochs 0"):
        choose_parameters(head_only, ["augmentation_strength"])
    with_views = replace(head_only, schedule=replace(head_only.schedule, head_views=2))
    assert [row.name for row in choose_parameters(with_views, ["augmentation_strength"]).rows] == [
        "augmentation_strength"
    ]
    assert "image_size" in {row.name for row in choose_parameters(plain, fine_tune=True).rows}
    assert not {"fine_tune_rate", "augmentation_strength"} & {
        row.name for row in choose_parameters(plain, fine_tune=True).rows
    }


def test_a_trials_values_go_to_their_options_and_the_rest_stays():
    space = choose_parameters(CONFIG, fine_tune=True)
    values = {
        "learning_rate": 0.002, "dropout": 0.25, "dense_layers": 2, "dense_width": 64, "optimizer": "sgd",
        "image_size": 160, "fine_tune_layers": -1, "fine_tune_rate": 1e-5, "augmentation_strength": 0.5,
    }  # fmt: skip
    found = space.apply(CONFIG, values)
    assert found.network == replace(CONFIG.network, dropout=0.25, hidden=(64, 64), image_size=160)
    # A rate is Adam's; SGD takes a hundred times that.
    assert found.schedule == replace(
        CONFIG.schedule, optimizer="sgd", head_learning_rate=pytest.approx(0.2), fine_tune_layers=-1,
        fine_tune_learning_rate=pytest.approx(1e-3), augmentation_strength=0.5,
    )  # fmt: skip
    assert (found.data, found.compute) == (CONFIG.data, CONFIG.compute)
    asked = replace(CONFIG, network=replace(CONFIG.network, hidden=(32,)))
    assert choose_parameters(asked, ["dense_layers"]).apply(asked, {"dense_layers": 2}).network.hidden == (32, 32)
    assert choose_parameters(CONFIG, ["dense_width"]).apply(CONFIG, {"dense_width": 512}).network.hidden == (512,)
    assert space.apply(asked, {"dense_layers": 0}).network.hidden == ()
    # From scratch there is no head's phase: the one rate is that of the whole network.
    scratch = choose_parameters(SCRATCH, ["learning_rate"]).apply(SCRATCH, {"learning_rate": 0.004})
    assert scratch.schedule == replace(CONFIG.schedule, fine_tune_learning_rate=0.004)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400)])
def test_time_budgets(text, seconds):
    assert read_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3m", "0", "3 d"])
def test_a_time_budget_that_is_none_is_refused(text):
    with pytest.raises(typer.BadParameter, match="such as 90s, 30m or 2h"):
        read_seconds(text)
