"""`trainer architectures`: the table, and what it measures of real files."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from trainer.main import app
from trainer.run.presets import PRESETS

RUNNER = CliRunner()


def run(*arguments: str) -> str:
    done = RUNNER.invoke(app, ["architectures", *arguments], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_network_is_listed_with_its_source() -> None:
    said = run()
    assert max(map(len, said.splitlines())) <= 80
    for name, preset in PRESETS.items():
        line = next(line for line in said.splitlines() if line.split()[:1] == [name])
        assert str(preset.input_size) in line
        assert preset.top_1 is None or f"{preset.top_1:.1f}" in line
        assert preset.source in said
        assert bool(preset.source) == (preset.top_1 is not None)
    (row,) = json.loads(run("xception", "--json"))
    assert (row["architecture"], row["imagenet_top_1"], row["input_size"]) == ("xception", 79.0, 299)


def test_an_unknown_name_is_told() -> None:
    done = RUNNER.invoke(app, ["architectures", "vgg16"])
    assert done.exit_code != 0
    assert "received 'vgg16'" in str(done.exception)


@pytest.mark.long
def test_costs_are_measured_on_every_variant() -> None:
    (row,) = json.loads(run("mobilenet_v3_small", "--measure", "--json"))
    assert list(row["variants"]) == ["float32", "float16", "int8-dynamic", "int8"]
    for figures in row["variants"].values():
        assert figures["latency_ms"] > 0
        assert figures["bytes"] > 100_000
    assert row["variants"]["int8"]["bytes"] < row["variants"]["float32"]["bytes"] / 2
