"""A training as a run of MLflow; server and experiment are those of MLflow's own environment variables.

``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME``. The package mlflow-skinny is the extra `mlflow`.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from classifier.errors import NotFound
from trainer.run.files import read_json, write_json
from trainer.tracking.tracker import numbers_of

EXPERIMENT = "pointer"
AT_ONCE = 100
"""Parameters that MLflow takes in one request."""


def require_mlflow() -> None:
    """Find out that MLflow is not installed before anything is trained.

    Raises:
        NotFound: it is not.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise NotFound(
            "Expected the package mlflow for --mlflow; it is not installed: pip install '.[trainer,mlflow]'."
        )


class MlflowRun:
    """Logs parameters, metrics by epoch, and pictures as artifacts.

    Args:
        kept: the file in a run's folder that names server and run, with which a resumed training goes on.
    """

    name = "MLflow"

    def __init__(self, kept: Path) -> None:
        self._kept = kept
        self._client: Any = None
        self._id = ""

    def begin(self, options: Mapping[str, str], history: Sequence[Mapping[str, Any]]) -> None:
        """Create a run, or go on with the one that was created for this folder; log what it does not have."""
        from mlflow import MlflowClient, get_tracking_uri
        from mlflow.entities import Metric, Param

        self._client, uri = MlflowClient(), get_tracking_uri()
        kept = read_json(self._kept) if self._kept.is_file() else {}
        done = 0
        if kept.get("uri") == uri:
            self._id = kept["run_id"]
            known = self._client.get_metric_history(self._id, "train/log_loss")
            done = max((metric.step for metric in known), default=0)
            self._client.update_run(self._id, status="RUNNING")
        else:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
            found = self._client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self._client.create_experiment(name)
            self._id = self._client.create_run(experiment, run_name=self._kept.resolve().parent.name).info.run_id
            write_json(self._kept, {"uri": uri, "run_id": self._id})
            params = [Param(key, value) for key, value in options.items()]
            for start in range(0, len(params), AT_ONCE):
                self._client.log_batch(self._id, params=params[start : start + AT_ONCE])
        now = int(time.time() * 1000)
        for step, entry in enumerate(history, start=1):
            if step > done:
                metrics = [Metric(key, value, now, step) for key, value in numbers_of(entry).items()]
                self._client.log_batch(self._id, metrics=metrics)

    def epoch(self, step: int, figures: Mapping[str, float]) -> None:
        """Log metrics."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._id, metrics=[Metric(key, value, now, step) for key, value in figures.items()])

    def result(self, figures: Mapping[str, float], pictures: Sequence[Path]) -> None:
        """Log the figures of the served file, under ``served``, and the pictures as artifacts."""
        self.epoch(0, {f"served/{name}": value for name, value in figures.items()})
        for path in pictures:
            self._client.log_artifact(self._id, str(path), "report")

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._id)
