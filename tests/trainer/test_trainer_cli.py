"""The command `trainer`: its help, its errors, and one small run from photos to a bundle."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from classifier.errors import InvalidRequest, NotFound, PointerError
from classifier.registry.bundle import read_bundle
from tests.support import photo_sets
from tests.support.processes import environment
from trainer.data.source import PhotoSource
from trainer.evaluation.served import run_model
from trainer.export import bundle
from trainer.main import app, main
from trainer.run.config import TrainingConfig
from trainer.run.locks import only_one
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import open_run, start_run

TRAINER = Path(sys.executable).parent / "trainer"


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TRAINER, *map(str, arguments)], capture_output=True, text=True, timeout=300)


def _evaluate(run: Path, capsys, *arguments: object) -> str:
    app(["evaluate", str(run), *map(str, arguments)], standalone_mode=False)
    return capsys.readouterr().out


def test_every_command_and_option_has_help_and_an_example():
    group = typer.main.get_command(app)
    assert set(group.commands) == {
        "train", "tune", "export", "evaluate", "report", "runs", "import", "architectures", "explain", "network",
        "datasets", "audit", "download", "upload", "samples",
    }  # fmt: skip
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
    ("arguments", "message", "code"),
    [
        (("evaluate", "nowhere"), "trainer: Expected a run folder with a config.json; nowhere has none.", 3),
        (("export", "nowhere"), "trainer: Expected a run folder with a config.json; nowhere has none.", 3),
        (("datasets", "--dataset", "food-101"), "trainer: Expected --data-dir with --dataset; received none.", 2),
        (("datasets", "--look"), "trainer: Expected --dataset with --look; received none.", 2),
        (("datasets", "--data-dir", "x"), "trainer: Expected --dataset with --data-dir; received none.", 2),
        (("datasets", "--dataset", "mnist", "--data-dir", "."), "trainer: Expected one of food-101, dog-breed", 2),
        # Before anything is trained or measured.
        (
            ("train", "--dataset", "mnist", "--data-dir", ".", "--run", "nowhere/run", "--ood", "nowhere"),
            "trainer: Expected a folder of photos at --ood nowhere; there is none.",
            3,
        ),
        (
            ("evaluate", "nowhere/run", "--ood", "nowhere"),
            "trainer: Expected a folder of photos at --ood nowhere; there is none.",
            3,
        ),
    ],
)
def test_an_error_is_one_line_and_the_exit_code_of_its_kind(arguments, message, code):
    done = _run(*arguments)
    assert done.returncode == code
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--dataset", "folder"), "Missing option"),
        (("evaluate", "run", "--nonsense"), "No such option"),
        (
            ("train", "--dataset", "folder", "--data-dir", ".", "--run", "run", "--alpha", "0"),
            "Expected --alpha to be at least 0.05; received '0'.",
        ),
        (("train", "--dataset", "folder", "--data-dir", ".", "--run", "run", "--hidden", "-4"), "Expected --hidden"),
        (("train", "--dataset", "folder", "--data-dir", ".", "--run", "run", "--hidden", "9,8,7"), "up to two widths"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["trainer", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.err.startswith("trainer: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not said.out


def test_an_interruption_is_one_line(tmp_path):
    with subprocess.Popen(
        [TRAINER, "samples", tmp_path / "samples", "--photos-per-class", "3000"],
        stderr=subprocess.PIPE,
        text=True,
        # What runs in the background of a shell ignores Ctrl-C, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            while not any(tmp_path.rglob("*.jpg")):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert (
        said
        == "trainer: interrupted; a training, search, download or upload goes on when the same command is run again.\n"
    )


def test_one_process_works_in_a_run(tmp_path):
    run = start_run(tmp_path / "run", TrainingConfig(DataConfig("folder", "x"), NetworkConfig(), ScheduleConfig()))
    other = photo_sets.folder(tmp_path / "other", photos=3)
    train = ("train", "--dataset", "folder", "--data-dir", other, "--run", run.path, "--overwrite")
    with only_one(run.path, run.config):
        other_format = ("export", run.path, "--format", "saved-model")
        for arguments in (train, ("export", run.path), other_format, ("report", run.path)):
            done = _run(*arguments)
            assert (done.returncode, done.stdout) == (4, "")
            assert done.stderr == (
                f"trainer: Another `trainer` process works in {run.path}. Wait until it ends, or end it, or give "
                "another --run folder.\n"
            )
    # Nothing was touched; and a process that has ended, however, is no longer in the way.
    assert open_run(run.path)[1].data.data_dir == "x"
    code = (
        "import os, sys; from pathlib import Path; from trainer.run.locks import only_one\n"
        "with only_one(Path(sys.argv[1]), Path(sys.argv[1], 'config.json')): os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, run.path], env=environment(), check=False)
    assert killed.returncode == -signal.SIGKILL
    with only_one(run.path, run.config):
        start_run(run.path, open_run(run.path)[1], overwrite=True)
    # Clearing the folder has left the lock where it is.
    assert {path.name for path in run.path.iterdir()} == {"config.json", ".partial-lock"}


def test_the_space_is_shown_without_a_folder(capsys):
    asked = ["tune", "--dataset", "folder", "--data-dir", ".", "--architecture", "mobilenet"]
    app([*asked, "--show-space"], standalone_mode=False)
    assert "learning_rate" in capsys.readouterr().out
    with pytest.raises(typer.BadParameter, match="Missing option '--run'"):
        app(asked, standalone_mode=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--dataset food101 --data-dir three", r"Expected one of food-101, .* Did you mean food-101\?"),
        ("--dataset folder --data-dir none", "Expected a folder at --data-dir none; there is none."),
        ("--dataset folder --data-dir one", "Expected photos of at least two classes; received 1."),
        ("--dataset folder --data-dir few", "No validation photo is left: each class needs at least three."),
        ("--dataset folder --data-dir three --architecture nonsense", "received --architecture 'nonsense'"),
        ("--dataset folder --data-dir three --architecture base_cnn", "There are no ImageNet weights for base_cnn"),
        ("--dataset folder --data-dir three --alpha 0.5", "--alpha is for mobilenet and mobilenet_v2"),
        ("--dataset folder --data-dir three --architecture efficientnet_lite3", "Expected a package with the ImageNet"),
        (
            "--dataset folder --data-dir three --alpha 0.9 --architecture mobilenet",
            "Expected --alpha to be one of 0.25, ",
        ),
        (
            "--dataset folder --data-dir three --image-size 64",
            "Expected --image-size of 71 or more for xception; received",
        ),
        (
            "--dataset folder --data-dir three --first-image-size 320",
            "Expected --first-image-size to be below the image",
        ),
        ("--dataset folder --data-dir three --weights none.h5", "Expected a weights file at none.h5; there is none."),
        ("--dataset folder --data-dir three --backbone none.keras", "Expected a network at --backbone "),
        ("--dataset folder --data-dir three --start none", "Expected a version's manifest.json in "),
        (
            "--dataset folder --data-dir three --teacher a --unlabelled none",
            "Expected a folder of photos at --unlabelled",
        ),
    ],
)
@pytest.mark.parametrize("command", ["train", "tune"])
def test_what_can_be_refused_at_once_is_before_anything_is_written_or_downloaded(
    command, options, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for root, labels, count in (("three", "abc", 3), ("one", "a", 3), ("few", "ab", 2)):
        for label in labels:
            (tmp_path / root / label).mkdir(parents=True)
            for number in range(count):
                (tmp_path / root / label / f"{number}.jpg").write_bytes(b"by its name alone")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PointerError, match=message):
        app([command, *options.split(), "--run", "run"], standalone_mode=False)
    assert sorted(tmp_path.rglob("*")) == before


def test_datasets_shows_the_layouts_and_checks_one(tmp_path):
    listed = _run("datasets")
    assert all(name in listed.stdout for name in ("food-101", "dog-breed", "folder", "csv"))
    assert max(map(len, listed.stdout.splitlines())) <= 80
    root = photo_sets.folder(tmp_path)
    (root / "apple" / "0.png").write_bytes(b"broken")
    sheet = tmp_path / "sheets/look.png"
    looked = _run("datasets", "--dataset", "folder", "--data-dir", root, "--look", "--photos", 4, "--out", sheet)
    assert looked.returncode == 0, looked.stderr
    assert f"wrote {sheet}" in looked.stdout and sheet.is_file()
    assert "rejected: apple/0.png (" in looked.stdout
    assert "3 classes, 29 photos, 1 rejected" in looked.stdout


def test_datasets_warns_of_what_a_training_would_refuse(tmp_path, capsys):
    root = photo_sets.folder(tmp_path)

    def warned() -> str:
        app(["datasets", "--dataset", "folder", "--data-dir", str(root)], standalone_mode=False)
        return " ".join(capsys.readouterr().out.split()).partition("warning: ")[2]

    assert warned() == ""
    (root / "apple" / "0.png").write_bytes(b"broken")
    shutil.rmtree(root / "leaf")
    (root / "sky" / "0.png").write_bytes(b"broken")
    (root / "sky" / "1.png").write_bytes(b"broken")
    assert warned().startswith("`trainer train` will refuse it. 3 of 20 photos are rejected (")
    shutil.rmtree(root / "sky")
    assert warned() == (
        "`trainer train` will refuse it. Expected photos of at least two classes; received 1. Add photos of others."
    )


def test_network_lists_the_layers_whole_and_how_deep_fine_tuning_has_to_reach(capsys, tmp_path):
    app(["network", "--architecture", "mobilenet_v2", "--image-size", "96", "--labels", "7", "--hidden", "24"],
        standalone_mode=False)  # fmt: skip
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    rows = {words[0]: [word.strip() for word in words if word.strip()] for words in lines}
    assert rows["Conv_1"][1:] == ["Conv2D", "3 x 3 x 1280", "409,600", "1"]
    assert rows["expanded_conv_depthwise_relu"][1:] == ["ReLU", "48 x 48 x 32", "0"]
    assert rows["hidden_1"][1:] == ["Dense", "24", f"{1280 * 24 + 24:,}"]
    assert rows["logits"][1:] == ["Dense", "7", f"{24 * 7 + 7:,}"]
    assert list(rows)[-1] == f"{len(rows) - 2} layers, {2_257_984 + 30_744 + 175:,} weights"
    with pytest.raises(InvalidRequest, match="Expected --run alone"):
        app(["network", "--architecture", "mobilenet", "--run", str(tmp_path)], standalone_mode=False)


@pytest.mark.long
def test_a_small_run_ends_in_a_bundle_that_can_be_published(tmp_path, monkeypatch, capsys):
    root = photo_sets.food_101(tmp_path / "photos")
    run = tmp_path / "run"
    arguments = (
        "train", "--dataset", "food-101", "--data-dir", root, "--architecture", "base_cnn", "--weights", "none",
        "--image-size", 32, "--hidden", "16", "--fine-tune-epochs", 2, "--no-report", "--run", run,
    )  # fmt: skip
    (root / "images/apple/0.jpg").unlink()
    (root / "images/apple/0.jpg").mkdir()
    done = _run(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"; `admin_cli publish {run}` publishes it\n" in done.stdout
    assert done.stderr == "", "nothing but our own lines reaches the screen"
    manifest = read_bundle(run / "bundle")
    assert manifest.labels == ("apple", "leaf", "sky")
    assert (manifest.input.width, manifest.input.height) == (32, 32)
    assert manifest.metrics["heatmap_error"] < 1e-4
    assert manifest.training["network"]["hidden"] == [16]
    # No path of the machine that trained goes into what is published.
    published = [run / "bundle/manifest.json", *(run / "bundle/report").iterdir()]
    assert {"manifest.json", "rejected.csv", "log.csv"} <= {path.name for path in published}
    assert not [path.name for path in published if str(tmp_path) in path.read_text()]
    again = _run("evaluate", run, "--split", "validation", "--json", "--out", tmp_path / "tables")
    assert json.loads(again.stdout) == manifest.metrics["validation"]
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        "validation.json", "validation_per_class.csv", "validation_confusion_matrix.csv",
        "validation_reliability.csv", "validation_predictions.csv",
    }  # fmt: skip
    # Of each photo one heatmap is kept, not a view of those of all classes.
    source = PhotoSource([root / "images/sky/2000.jpg"], manifest.input)
    ((_, heatmap),) = run_model((run / "bundle/model.tflite").read_bytes(), source, np.arange(1))
    assert heatmap.base is None
    # Photos that came since are not evaluated on; another data set is, and what it rejects is told.
    for path in sorted((root / "images/leaf").glob("*.jpg"))[:3]:
        (root / "images/leaf" / f"new{path.name}").write_bytes(path.read_bytes() + b"\0")
    grown = _evaluate(run, capsys, "--dataset", "food-101", "--data-dir", root, "--out", tmp_path / "other")
    assert "47 photos, 1 rejected, 3 in its folders but in no table" in grown
    assert "images/apple/0.jpg" in (tmp_path / "other" / "rejected.csv").read_text()
    test_photo = root / "images" / f"{(root / 'meta/test.txt').read_text().split()[0]}.jpg"
    test_photo.rename(tmp_path / "moved.jpg")
    with pytest.raises(NotFound, match=r"1 of 12 photos that the run was made with are missing"):
        _evaluate(run, capsys)
    (tmp_path / "moved.jpg").rename(test_photo)
    # The same again does nothing; a report that is asked for besides would be made.
    written = (run / "bundle/manifest.json").stat().st_mtime_ns
    finished = _run(*arguments)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(f"{run} is finished: its bundle is in {run}/bundle. ")
    assert (run / "bundle/manifest.json").stat().st_mtime_ns == written
    # A backend that cannot export leaves the trained run, and says what is next.
    shutil.rmtree(run / "bundle")
    monkeypatch.setattr(bundle, "backend", lambda: "jax")
    trained = CliRunner().invoke(app, [*map(str, arguments)])
    assert trained.exit_code == 0
    assert f"was trained before\nnext: KERAS_BACKEND=tensorflow trainer export {run}" in trained.output
    refused = CliRunner().invoke(app, ["export", str(run)])
    assert "Expected KERAS_BACKEND=tensorflow" in str(refused.exception)
    other = _run(*arguments[:-2], "--dropout", 0.5, "--run", run)
    assert other.returncode == 5
    assert "network.dropout: 0.2, then 0.5" in other.stderr
