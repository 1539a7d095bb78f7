"""What follows a training: TensorBoard's event files, MLflow's file store, and one that fails."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from classifier.errors import NotFound
from trainer.run.config import TrainingConfig
from trainer.run.files import read_json, write_json
from trainer.run.folder import RunFolder
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.tracking import mlflow_run
from trainer.tracking.mlflow_run import MlflowRun
from trainer.tracking.tensorboard import TensorBoard
from trainer.tracking.tracker import Tracking

CONFIG = TrainingConfig(DataConfig("folder", "photos"), NetworkConfig("base_cnn", "none"), ScheduleConfig())
METRICS = {"test": {"photos": 10, "top_1": 0.75}, "validation": {"top_1": 0.5}, "calibration": {"temperature": 2.0}}


def entry(epoch: int, phase: str = "fine-tuning") -> dict[str, Any]:
    return {
        "phase": phase, "epoch": epoch, "log_loss": 1.5 / epoch, "accuracy": 0.25, "val_log_loss": 2.0 / epoch,
        "val_accuracy": 0.5, "val_calibrated_log_loss": 1.0, "learning_rate": 0.001, "seconds": 2.5,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run's folder with the two pictures that a report has."""
    run = RunFolder(tmp_path / "mine")
    (run.report / "figures").mkdir(parents=True)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8))
    for name in ("confusion_matrix.png", "grad_cam.jpg", "samples.jpg"):
        picture.save(run.report / "figures" / name)
    return run


def train_twice(run: RunFolder, make: Any) -> str:
    """Follow a training that was interrupted after three epochs, the last of which its state does not know."""
    said = io.StringIO()
    tracking = Tracking([make()], Console(file=said, width=200))
    tracking.begin(run, CONFIG)
    history = [entry(1, "head"), entry(1), entry(2)]
    for step, each in enumerate(history, start=1):
        tracking.epoch(step, each)
    write_json(run.state, {"history": history[:2], "finished": ["head"]})
    again = Tracking([make()], Console(file=said, width=200))
    again.begin(run, CONFIG)
    again.epoch(3, entry(2))
    again.result(run, METRICS)
    again.close()
    return said.getvalue()


def test_event_files_have_every_epoch_once_the_figures_and_the_pictures(run):
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    assert train_twice(run, lambda: TensorBoard(run.tensorboard)) == ""
    scalars: dict[str, list[tuple[int, float]]] = {}
    pictures: dict[str, bytes] = {}
    (file,) = run.tensorboard.iterdir()
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        event = event_pb2.Event.FromString(record)
        for value in event.summary.value:
            kind = value.metadata.plugin_data.plugin_name
            if kind == "scalars":
                scalars.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
            elif kind == "images":
                pictures[value.tag] = tf.make_ndarray(value.tensor)[2]
            else:
                assert kind == "text" and b"schedule.head_epochs | 100" in tf.make_ndarray(value.tensor)[0]
    assert scalars["train/log_loss"] == [(1, 1.5), (2, 1.5), (3, 0.75)]
    assert scalars["validation/log_loss"] == [(1, 2), (2, 2), (3, 1)]
    assert scalars["served/test/top_1"] == [(3, 0.75)]
    assert {"learning_rate", "train/accuracy", "validation/accuracy", "validation/calibrated_log_loss"} < set(scalars)
    assert set(pictures) == {"confusion_matrix", "grad_cam"}
    assert Image.open(io.BytesIO(pictures["grad_cam"])).size == (8, 6)


def test_mlflow_gets_the_same(run, monkeypatch, tmp_path):
    """Against MLflow's own store of files, where its package is installed: the extra `mlflow`."""
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow-skinny, the extra mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "dishes")
    assert train_twice(run, lambda: MlflowRun(run.mlflow)) == ""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("dishes")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_id == read_json(run.mlflow)["run_id"]
    assert (found.info.run_name, found.info.status) == ("mine", "FINISHED")
    assert found.data.params["schedule.head_epochs"] == "100"
    assert found.data.metrics["served/test/top_1"] == 0.75
    steps = {metric.step: metric.value for metric in client.get_metric_history(found.info.run_id, "train/log_loss")}
    assert steps == {1: 1.5, 2: 1.5, 3: 0.75}
    names = {artifact.path for artifact in client.list_artifacts(found.info.run_id, "report")}
    assert names == {"report/confusion_matrix.png", "report/grad_cam.jpg"}


def test_one_that_fails_is_told_of_once_and_the_others_go_on(run):
    class Broken:
        name = "Broken"
        asked = 0

        def begin(self, options: Any, history: Any) -> None:
            self.asked += 1

        def epoch(self, step: int, figures: Any) -> None:
            self.asked += 1
            raise ConnectionError("no\nroute")

    class Whole(Broken):
        name = "Whole"

        def epoch(self, step: int, figures: Any) -> None:
            self.asked += 1

    broken, whole, said = Broken(), Whole(), io.StringIO()
    tracking = Tracking([broken, whole], Console(file=said, width=200))
    tracking.begin(run, CONFIG)
    for step in (1, 2, 3):
        tracking.epoch(step, entry(step))
    assert (broken.asked, whole.asked) == (2, 4)
    assert said.getvalue() == "warning: Broken is told nothing any more: no route\n"


def test_without_mlflow_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(mlflow_run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotFound, match=r"pip install '\.\[trainer,mlflow\]'"):
        mlflow_run.require_mlflow()
