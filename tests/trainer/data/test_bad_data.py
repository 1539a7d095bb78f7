"""Bad data, bad luck and bad disks: each has a clear outcome. Here is where each is tested.

    truncated photos                      rejected, each with its reason          here; test_photos (PNG)
    text, empty files, folders as photos  rejected                                test_photos
    photos named with another ending      used by what they are                   here
    missing photos, other letters         rejected, with the name that is there   test_photos
    the same bytes twice, under two       rejected; what is nearest to the test   test_photos; here, end to end
    labels, or in two splits              stays
    too many rejected                     the run stops, with the reasons         test_training
    a class without training photos       the run stops, with its name            test_training
    one class, no class                   the run stops                           here; test_datasets
    classes of one and of two photos      used for training; then for testing     here; test_datasets
    unknown or too many classes           refused                                 test_subsets
    a loss that is no number              one line, the best can be exported      here; test_training
    a disk that is full                   one line, the run goes on later         here
    a killed run                          goes on, ends as if undisturbed         test_training
    photos that changed since             refused on resuming, with their names   here; test_training; test_photos
    a run folder that cannot be written   one line                                here

What can go wrong with buckets and downloads is in test_mirror and test_download.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from classifier.errors import InvalidRequest, Refused
from classifier.registry.manifest import InputSpec
from tests.support import photo_sets
from tests.support.processes import environment
from trainer import main
from trainer.data.checks import check_photos
from trainer.data.loaders import load
from trainer.data.preparation import prepare_photos
from trainer.export import bundle
from trainer.networks.backbones import input_spec
from trainer.run.config import TrainingConfig
from trainer.run.files import write_file
from trainer.run.folder import RunFolder
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import open_run, start_run

TRAINER = "from trainer.main import main; main()"
Trainer = Callable[..., str]
PROGRAM = "from trainer.main import main; main()"


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Trainer:
    """Runs `trainer` here; returns the one line that it fails with."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["trainer", *map(str, arguments)])
        capsys.readouterr()  # in memory: a file would be limited too
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capsys.readouterr().err
        assert ended.value.code == 1, said
        return _line(said)

    return run


def _line(said: str) -> str:
    assert said.startswith("trainer: ") and said.count("\n") == 1, said
    return said.removeprefix("trainer: ").strip()


def _config(dataset: str, root: Path) -> TrainingConfig:
    return TrainingConfig(
        DataConfig(dataset, str(root), max_rejected=0.9), NetworkConfig("base_cnn", "none", 32), ScheduleConfig()
    )


def _prepare(config: TrainingConfig, run: Path) -> pd.DataFrame:
    return prepare_photos(config, input_spec(config.network), start_run(run, config), Console(file=io.StringIO())).frame


def _training(root: Path, run: Path, *more: object) -> list[object]:
    return [
        "train", "--dataset", "food-101", "--data-dir", root, "--architecture", "base_cnn", "--weights", "none",
        "--image-size", 32, "--fine-tune-epochs", 1, "--no-report", "--run", run, *more,
    ]  # fmt: skip


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_a_truncated_photo_is_rejected(tmp_path, ending, share):
    for name in ("whole", "cut"):
        photo_sets.write_photo(tmp_path / f"{name}.{ending}", (90, 120, 30), 1)
    data = (tmp_path / f"cut.{ending}").read_bytes()
    (tmp_path / f"cut.{ending}").write_bytes(data[: int(len(data) * share)])
    rows = [(f"{name}.{ending}", "x", "train") for name in ("whole", "cut")]
    frame = pd.DataFrame(rows, columns=["image_path", "label", "split"])
    checked = check_photos(frame, tmp_path, InputSpec(width=32, height=32))
    assert checked.frame["image_path"].tolist() == [f"whole.{ending}"]
    assert checked.rejected["reason"].iloc[0].startswith("unreadable: ")


def test_a_photo_is_what_its_bytes_are_not_what_it_is_called(tmp_path):
    for number, (name, kind) in enumerate((("png.jpg", "PNG"), ("jpeg.png", "JPEG"), ("webp.gif", "WEBP"))):
        photo_sets.write_photo(tmp_path / "original.png", (30, 200, 90), number)
        (tmp_path / "x").mkdir(exist_ok=True)
        with Image.open(tmp_path / "original.png") as photo:
            photo.save(tmp_path / "x" / name, format=kind)
        (tmp_path / "original.png").unlink()
    (tmp_path / "x" / "text.jpg").write_text("not a photo")
    frame = load(DataConfig("folder", str(tmp_path)))
    checked = check_photos(frame, tmp_path, InputSpec(width=32, height=32))
    assert checked.frame["image_path"].tolist() == ["x/jpeg.png", "x/png.jpg", "x/webp.gif"]
    assert checked.rejected["image_path"].tolist() == ["x/text.jpg"]


def test_no_photo_is_trained_on_that_is_tested_on(tmp_path):
    root = photo_sets.food_101(tmp_path / "photos")
    names = {split: (root / "meta" / f"{split}.txt").read_text().split() for split in ("train", "test")}
    for leaked, tested in zip(names["train"][:3], names["test"][:3], strict=True):
        shutil.copyfile(root / "images" / f"{tested}.jpg", root / "images" / f"{leaked}.jpg")
    frame = _prepare(_config("food-101", root), tmp_path / "run")
    assert len(frame) == 48 - 3
    assert not frame["sha256"].duplicated().any()
    assert {f"images/{name}.jpg" for name in names["test"]} <= set(frame.loc[frame["split"] == "test", "image_path"])
    rejected = pd.read_csv(tmp_path / "run" / "rejected.csv")
    assert rejected["reason"].str.fullmatch(r"same bytes as images/apple/\d+\.jpg, which is in test").all()


def test_one_class_is_not_enough(tmp_path):
    for number in range(6):
        photo_sets.write_photo(tmp_path / "photos" / "only" / f"{number}.png", (9, 99, 199), number)
    with pytest.raises(InvalidRequest, match="Expected photos of at least two classes; received 1"):
        _prepare(_config("folder", tmp_path / "photos"), tmp_path / "run")


def test_classes_of_one_and_of_two_photos_are_trained_on(tmp_path):
    root = photo_sets.folder(tmp_path / "photos")
    for label, count in (("one", 1), ("two", 2)):
        for number in range(count):
            photo_sets.write_photo(root / label / f"{number}.png", (9, 99, 199), 100 * count + number)
    frame = _prepare(_config("folder", root), tmp_path / "run")
    splits = {label: sorted(rows["split"]) for label, rows in frame.groupby("label")}
    assert (splits["one"], splits["two"]) == (["train"], ["test", "train"])


def test_classes_that_are_all_too_small_are_refused(tmp_path):
    for number, label in enumerate("abab"):
        photo_sets.write_photo(tmp_path / "photos" / label / f"{number}.png", (9, 99, 199), number)
    with pytest.raises(InvalidRequest, match="No validation photo is left: each class needs at least three"):
        _prepare(_config("folder", tmp_path / "photos"), tmp_path / "run")


def test_what_changed_since_a_run_began_is_named_and_its_tables_stay(tmp_path):
    root = photo_sets.folder(tmp_path / "photos")
    config = _config("folder", root)
    _prepare(config, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    photo_sets.write_photo(root / "apple" / "0.png", (1, 2, 3), 99)
    (root / "leaf" / "1.png").write_bytes(b"broken")
    for number in range(5):
        (root / "sky" / f"{number}.png").unlink()
    photo_sets.write_photo(root / "sky" / "new.png", (1, 2, 3), 100)
    with pytest.raises(Refused) as refused:
        _prepare(config, tmp_path / "run")
    said = str(refused.value)
    assert "1 changed (apple/0.png)" in said
    assert "1 added (sky/new.png)" in said
    assert "1 unusable (leaf/1.png)" in said
    assert "5 removed (sky/0.png, sky/1.png, sky/2.png, ...)" in said
    assert said.endswith("Put them back to resume it, or start a new run.")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_an_absurd_learning_rate_is_one_line_and_the_run_can_be_read(tmp_path, fails):
    root = photo_sets.food_101(tmp_path / "photos", train=4, test=2)
    line = fails(*_training(root, tmp_path / "run", "--fine-tune-learning-rate", 1e30, "--no-augment"))
    assert re.match(r"The (loss|validation loss) became (nan|inf) in training epoch 1; .* lower learning rate\.", line)
    run, config = open_run(tmp_path / "run")
    assert config.schedule.fine_tune_learning_rate == 1e30
    assert json.loads(run.summary.read_text())["classes"] == 3


def _with_largest_file(size: int, *command: object) -> subprocess.CompletedProcess[str]:
    """Run Python in a process whose files the system refuses to let grow beyond `size` bytes, as a full disk does.

    In one of its own: what else writes here, such as whoever runs the tests, must not be refused as well.
    """
    return subprocess.run(
        [sys.executable, *map(str, command)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        capture_output=True,
        text=True,
    )


@pytest.mark.long
def test_a_write_that_fails_is_one_line_and_the_run_goes_on(tmp_path, monkeypatch):
    root = photo_sets.food_101(tmp_path / "photos", train=8, test=4)
    run = RunFolder(tmp_path / "run")
    for size, file, there in (
        (10, run.config, set()),
        (2500, run.data, {"config.json", "rejected.csv"}),
        (30_000, run.checkpoints / "best-training-001.weights.h5", {"config.json", "data.csv", "data.json"}),
        (3_000_000, run.checkpoints / "last-training-001.weights.h5", {"checkpoints"}),
    ):
        done = _with_largest_file(size, "-c", PROGRAM, *_training(root, run.path))
        assert done.returncode == 1, done.stderr
        line = _line(done.stderr)
        assert line.startswith(f"{file}: File too large. The system's limit of a file's size is reached")
        assert there <= {path.name for path in run.path.iterdir()}
        assert [path.name for path in run.path.rglob(".partial-*")] == [".partial-lock"]
    # The export, which is not part of this, is left out as on a backend that has none.
    monkeypatch.setattr(bundle, "backend", lambda: "jax")
    monkeypatch.setattr(sys, "argv", ["trainer", *map(str, _training(root, run.path))])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert not ended.value.code
    assert pd.read_csv(run.log)["epoch"].tolist() == [1]


FEW = "--photos-per-class 3 --test-per-class 1"
FULL = """
set -e
mkdir "$1" && mount -t tmpfs -o size=60k tmpfs "$1"
code=0; "$2" -c "$3" samples "$1/samples" $4 || code=$?
mount -o remount,size=20m "$1"
"$2" -c "$3" samples "$1/samples" $4
echo "$code"
"""


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path):
    may = subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", tmp_path], capture_output=True)
    if may.returncode:
        pytest.skip("needs the right to mount a file system of its own")
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", FULL, "sh", tmp_path / "disk", sys.executable, TRAINER, FEW],
        env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    line = _line(done.stderr)
    assert "No space left on device" in line
    assert line.endswith("Free some space and run the same command again: it goes on where it stopped.")
    assert done.stdout.splitlines()[-1] == "1"
    assert "sample photos of" in done.stdout


def _without_override() -> None:
    """Take the right to write everywhere from root (prctl PR_CAPBSET_DROP, CAP_DAC_OVERRIDE); others have none."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


def test_a_run_folder_that_cannot_be_written_is_one_line(tmp_path, fails):
    root = photo_sets.food_101(tmp_path / "photos", train=2, test=1)
    (tmp_path / "file").write_text("in the way")
    line = fails(*_training(root, tmp_path / "file" / "run"))
    assert line == f"{tmp_path}/file/run: Not a directory. Part of the path is a file: name another folder."
    (tmp_path / "locked").mkdir(mode=0o500)
    arguments = map(str, _training(root, tmp_path / "locked" / "run"))
    done = subprocess.run(
        [sys.executable, "-c", TRAINER, *arguments],
        env=environment(), capture_output=True, text=True, timeout=120, preexec_fn=_without_override,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert _line(done.stderr) == (
        f"{tmp_path}/locked/run: Permission denied. Give yourself the right to it, or name another folder."
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "a.csv"), "a.csv: No space left on device. Free some space and run"),
        (OSError("broken data stream when reading image file"), "broken data stream when reading image file."),
        (OSError(18, "Invalid cross-device link", "a", None, "b"), "a and b: Invalid cross-device link."),
        (RuntimeError("save failed: /x; No space left on device"), "No space left on device (the run's folder, or "),
    ],
)
def test_errors_of_the_system_are_described(error, line):
    assert main.describe(error).startswith(line)


@pytest.mark.long
def test_tensorflow_s_own_errors_of_a_full_disk_are_described(tmp_path):
    program = (
        "import sys, tensorflow as tf\nfrom trainer import main\n"
        "try:\n    tf.io.write_file(sys.argv[1], b'x' * 1000)\n"
        "except tf.errors.OpError as error:\n    print(isinstance(error, OSError), main.describe(error))"
    )
    done = _with_largest_file(10, "-c", program, tmp_path / "file")
    assert done.stdout.startswith("False File too large (the run's folder, or "), done.stderr


def test_faults_of_the_program_keep_their_traceback(monkeypatch):
    assert main.describe(ValueError("a fault")) is None
    monkeypatch.setattr(main, "app", lambda *args, **options: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        main.main()


def test_a_file_is_either_the_old_one_or_the_new_one(tmp_path):
    path = tmp_path / "file.txt"
    write_file(path, lambda beside: beside.write_text("old"))
    program = (
        "import pathlib, sys\nfrom trainer.run.files import write_file\n"
        "write_file(pathlib.Path(sys.argv[1]), lambda beside: beside.write_text('new' * 100))"
    )
    done = _with_largest_file(100, "-c", program, path)
    assert f"File too large: '{path}'" in done.stderr
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file.txt", "old")]
    assert os.access(path, os.R_OK)
