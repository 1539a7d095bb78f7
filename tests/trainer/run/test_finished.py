"""What a run still lacks, at every moment from its first photo to its report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.support.bundles import write_bundle
from trainer.run.config import TrainingConfig
from trainer.run.files import write_json
from trainer.run.finished import next_step
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import start_run

CONFIG = TrainingConfig(
    DataConfig("folder", "x"), NetworkConfig("base_cnn", "none"), ScheduleConfig(fine_tune_epochs=3)
)
BEST = {"phase": "training", "epoch": 2, "val_accuracy": 0.5}


def test_each_step_is_the_next_one_until_nothing_is_missing(tmp_path: Path) -> None:
    run = start_run(tmp_path / "run", CONFIG)

    def step(config: TrainingConfig = CONFIG, *, report: bool = True) -> str | None:
        return next_step(run, config, report=report)

    def write_state(finished: list[str], best: dict[str, object]) -> None:
        planned = {"training": [3, CONFIG.schedule.patience]} if finished else {}
        state = {"finished": finished, "planned": planned, "best": {**best, "weights": "w.h5", "seeds": []}}
        write_json(run.state, state)

    assert step() == "training"
    write_state([], BEST)
    assert step() == "training"
    write_state(["training"], BEST)
    assert step() == "bundle"
    write_bundle(run.bundle, training={"best_epoch": BEST})
    assert step() == "report"
    assert step(report=False) is None
    write_bundle(run.bundle, {"model.tflite": b"m", "report/report.html": b"r"}, training={"best_epoch": BEST})
    assert step() is None

    # More is asked for, or was trained since: what is there is not all that there should be.
    longer = replace(CONFIG, schedule=replace(CONFIG.schedule, fine_tune_epochs=4))
    assert step(longer) == "training"
    write_state(["training"], {**BEST, "epoch": 3})
    assert step() == "bundle"
    write_state(["training"], BEST)
    (run.bundle / "manifest.json").write_text("{")
    assert step() == "bundle"
