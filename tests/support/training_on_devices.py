"""Trains on two virtual CPUs, on any Keras backend: python -m tests.support.training_on_devices CONFIG RUN [...].

With the environment variable KILL_AFTER it kills itself when that epoch of fine-tuning is recorded. With
WITHOUT_DROPOUT the backbone has none: what each device draws for itself differs.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path

if os.environ["KERAS_BACKEND"] == "tensorflow":  # JAX reads XLA_FLAGS
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )

import keras
from rich.console import Console

from trainer.networks import backbones
from trainer.run.config import TrainingConfig
from trainer.run.starting import start_run
from trainer.training import checkpoints, phases, train


class Interrupted(checkpoints.Checkpointing):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if self.phase == "fine-tuning" and str(epoch + 1) == os.environ.get("KILL_AFTER"):
            os.kill(os.getpid(), signal.SIGKILL)


phases.Checkpointing = Interrupted
if "WITHOUT_DROPOUT" in os.environ:
    spatial_dropout = keras.layers.SpatialDropout2D
    backbones.layers.SpatialDropout2D = lambda rate, name: spatial_dropout(0.0, name=name)
for plain, run in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    config = TrainingConfig.from_json(json.loads(plain))
    trained = train.train(config, start_run(Path(run), config), Console(file=io.StringIO()))
    for layer in (*trained.backbone.layers, *backbones.backbone_core(trained.backbone).layers, *trained.head.layers):
        assert layer.dtype_policy.name == "float32", layer.name
    assert {variable.dtype for variable in trained.backbone.variables} <= {"float32", "uint32", "int64"}
    trained.backbone.save_weights(Path(run) / "backbone.weights.h5")
    trained.head.save_weights(Path(run) / "head.weights.h5")
    keras.backend.clear_session()
