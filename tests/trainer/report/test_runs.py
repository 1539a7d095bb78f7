"""`trainer runs`: runs of several states beside each other, as a table, JSON and a page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from classifier.errors import NotFound
from tests.support.bundles import write_bundle
from trainer.main import app
from trainer.report.runs import data_letters, read_runs
from trainer.run.config import TrainingConfig
from trainer.run.files import write_json
from trainer.run.folder import RunFolder
from trainer.run.locks import only_one
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig


def write_run(path: Path, fingerprint: str, top_1: float | None, finished: list[str], **network) -> Path:
    """A run's folder without weights; with a bundle if it has figures."""
    config = TrainingConfig(DataConfig("folder", "photos"), NetworkConfig(**network), ScheduleConfig())
    write_json(path / "config.json", config.to_json())
    photos = {"train": 80, "validation": 10, "test": 10}
    write_json(path / "data.json", {"dataset": "folder", "fingerprint": fingerprint, "photos": photos, "classes": 3})
    write_json(path / "state.json", {"finished": finished})
    log = pd.DataFrame(
        {"phase": "head", "epoch": [1, 2, 3], "val_accuracy": [0.5, 0.7, 0.6], "val_log_loss": [1.2, 0.8, 0.9],
         "seconds": [40.0, 30.5, 20.0]}
    )  # fmt: skip
    log.to_csv(path / "log.csv", index=False)
    if top_1 is not None:
        figures = {"photos": 10, "top_1": top_1, "top_1_low": top_1 - 0.2, "top_1_high": top_1 + 0.1, "ece": 0.034}
        write_bundle(
            path / "bundle",
            metrics={"test": figures, "latency_cpus": {"serving": 1, "all": 2}},
            variant="int8", variants={"int8": {"latency_ms": 4.25}, "float32": {"latency_ms": 9.0}},
        )  # fmt: skip
    return path


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    for name in ("worse", "better"):
        write_run(Path(name), "aa11", 0.7 if name == "worse" else 0.8, ["head", "fine-tuning"])
    write_run(Path("begun"), "bb22", None, ["head"], architecture="mobilenet_v2", image_size=96)
    Path("begun/.partial-lock").touch()
    write_run(Path("trained"), "aa11", None, ["training"], architecture="base_cnn", weights="none")
    write_run(Path("spoilt"), "aa11", None, [])
    Path("spoilt/config.json").write_text("{")
    Path("inputs").mkdir()
    return [Path(name) for name in ("worse", "begun", "better", "inputs", "trained", "spoilt")]


def test_the_best_comes_first_and_what_is_missing_is_none(folders):
    runs, others = read_runs([*folders, Path("worse")])
    assert [each.name for each in runs] == ["better", "worse", "begun", "trained", "spoilt"]
    assert others == ["inputs"]
    assert [each.state for each in runs[:4]] == ["exported", "exported", "interrupted", "trained"]
    assert runs[4].state == "cannot be read" and str(runs[4].problem).startswith("spoilt/config.json is not JSON")
    best, begun = runs[0], runs[2]
    assert (best.top_1, best.top_1_low, best.ece, best.variant, best.latency_ms) == (
        0.8,
        0.8 - 0.2,
        0.034,
        "int8",
        4.25,
    )
    assert (best.epochs, best.seconds, best.serving_cpus) == (3, 90.5, 1)
    assert (begun.architecture, begun.image_size, begun.top_1, begun.variant) == ("mobilenet_v2", 96, None, None)
    assert data_letters(runs) == {"aa11": "A", "bb22": "B"}
    with pytest.raises(NotFound, match=r"Expected folders of runs with a config\.json; inputs has none"):
        read_runs([Path("inputs")])


def test_the_table_json_and_the_page_say_the_same(folders):
    names = [str(each) for each in folders]
    shown = CliRunner().invoke(app, ["runs", *names], terminal_width=80, env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    first = shown.stdout.splitlines()[1]
    assert first.split() == ["better", "xception", "8", "A", "80.0%", "(60-90)", "3.4%", "1:30", "4.2", "int8"]
    assert "A: folder, 3 classes, 80 train and 10 test photos (aa11)" in shown.stdout
    assert "passed over, no runs: inputs" in shown.stderr

    said = CliRunner().invoke(app, ["runs", *names, "--json", "--html", "all.html"], env={"COLUMNS": "80"})
    assert [each["top_1"] for each in json.loads(said.stdout)] == [0.8, 0.7, None, None, None]
    page = Path("all.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1
    assert "http://" not in page and "https://" not in page
    for text in ("60.0 to 90.0", "cannot be read: spoilt/config.json", "Figures of different photos", "aa11"):
        assert text in page


def test_who_works_in_a_run_and_who_does_not(folders):
    """A training that was killed, or refused its photos, is not taken for one that goes on."""
    Path("refused").mkdir()
    Path("refused.inputs").mkdir()  # what a retraining was handed
    shutil.copy("begun/config.json", "refused.inputs/config.json")
    assert read_runs([Path("begun"), Path("refused.inputs")])[1] == ["refused.inputs"]
    shutil.copy("begun/config.json", "refused/config.json")

    def states() -> list[str]:
        return [each.state for each in read_runs([Path("begun"), Path("refused")])[0]]

    assert states() == ["interrupted", "not begun"]
    for name in ("begun", "refused"):
        with only_one(Path(name), RunFolder(Path(name)).config):
            assert states()[("begun", "refused").index(name)] == "training"
    assert states() == ["interrupted", "not begun"]


def test_no_name_is_broken_where_the_terminal_is_narrow(folders):
    long = write_run(
        Path("runs/food-101-after-v2-0a1b2c3d"), "aa11", 0.7, ["training"], architecture="mobilenet_v3_large"
    )
    shown = CliRunner().invoke(app, ["runs", str(long), "better"], env={"COLUMNS": "80"}).stdout.splitlines()
    assert shown[0].split()[0] == "network"
    assert shown[1] == "better"
    assert shown[3] == str(long)
    assert shown[4].split()[0] == "mobilenet_v3_large"
    assert max(map(len, shown)) <= 80
