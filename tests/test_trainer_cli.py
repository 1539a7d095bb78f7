"""The command `trainer`: its help, its errors, and one small run from photos to a bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from classifier.bundle import read_bundle
from tests import photo_sets
from trainer.main import app

TRAINER = Path(sys.executable).parent / "trainer"


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TRAINER, *map(str, arguments)], capture_output=True, text=True, timeout=300)


def test_every_command_and_option_has_help_and_an_example():
    group = typer.main.get_command(app)
    assert set(group.commands) == {"train", "export", "evaluate", "datasets", "samples"}
    for name, command in group.commands.items():
        assert "Example: trainer " in command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"
    shown = CliRunner().invoke(app, ["train", "--help"], terminal_width=80)
    assert shown.exit_code == 0
    assert max(map(len, shown.output.splitlines())) <= 80


def test_help_does_not_import_keras():
    code = "import sys; from trainer.main import app; assert not {'keras', 'tensorflow', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "nowhere"), "trainer: Expected a run folder with a config.json; nowhere has none."),
        (("export", "nowhere"), "trainer: Expected a run folder with a config.json; nowhere has none."),
        (("datasets", "--dataset", "food-101"), "trainer: Expected --data-dir with --dataset; received none."),
        (("datasets", "--dataset", "mnist", "--data-dir", "."), "trainer: Expected one of food-101, dog-breed"),
    ],
)
def test_an_error_is_one_line(arguments, message):
    done = _run(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout


def test_a_failed_start_leaves_no_run_that_cannot_be_mended(tmp_path):
    done = _run("train", "--dataset", "folder", "--data-dir", tmp_path / "none", "--run", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.startswith("trainer: Expected a folder at --data-dir")
    other = _run("train", "--dataset", "mnist", "--data-dir", tmp_path, "--run", tmp_path / "run", "--overwrite")
    assert "Expected one of food-101" in other.stderr


def test_datasets_shows_the_layouts_and_checks_one(tmp_path):
    listed = _run("datasets")
    assert all(name in listed.stdout for name in ("food-101", "dog-breed", "folder", "csv"))
    assert max(map(len, listed.stdout.splitlines())) <= 80
    root = photo_sets.folder(tmp_path)
    (root / "apple" / "0.png").write_bytes(b"broken")
    looked = _run("datasets", "--dataset", "folder", "--data-dir", root)
    assert looked.returncode == 0, looked.stderr
    assert "rejected: apple/0.png (" in looked.stdout
    assert "3 classes, 29 photos, 1 rejected" in looked.stdout


def test_a_small_run_ends_in_a_bundle_that_can_be_published(tmp_path):
    root = photo_sets.food_101(tmp_path / "photos")
    run = tmp_path / "run"
    arguments = (
        "train", "--dataset", "food-101", "--data-dir", root, "--architecture", "base_cnn", "--weights", "none",
        "--image-size", 32, "--hidden", "16", "--fine-tune-epochs", 2, "--run", run,
    )  # fmt: skip
    done = _run(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"next: admin_cli publish {run}" in done.stdout
    assert "Traceback" not in done.stderr
    manifest = read_bundle(run / "bundle")
    assert manifest.labels == ("apple", "leaf", "sky")
    assert (manifest.input.width, manifest.input.height) == (32, 32)
    assert manifest.metrics["heatmap_error"] < 1e-4
    assert manifest.training["network"]["hidden"] == [16]
    # No path of the machine that trained goes into what is published.
    assert str(tmp_path) not in (run / "bundle/manifest.json").read_text()
    again = _run("evaluate", run, "--split", "validation", "--json", "--out", tmp_path / "tables")
    assert json.loads(again.stdout) == manifest.metrics["validation"]
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        "validation.json", "validation_per_class.csv", "validation_confusion_matrix.csv",
    }  # fmt: skip
    other = _run(*arguments[:-2], "--dropout", 0.5, "--run", run)
    assert other.returncode == 1
    assert "network.dropout: 0.2, then 0.5" in other.stderr
