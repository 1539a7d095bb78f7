"""Trains until an epoch is recorded, then kills itself: python -m tests.interrupted_training CONFIG RUN EPOCH [PHASE].

With EPOCH 0 it says "training" when the first epoch begins and goes on; without PHASE any phase will do.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from trainer import keeper, phases, training
from trainer.config import TrainingConfig
from trainer.run_folder import start_run


class Interrupted(keeper.Keeper):
    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        sys.stdout.write("training\n")
        sys.stdout.flush()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if epoch + 1 == int(sys.argv[3]) and sys.argv[4:] in ([], [self.phase]):
            os.kill(os.getpid(), signal.SIGKILL)


phases.Keeper = Interrupted
config = TrainingConfig.from_json(json.loads(sys.argv[1]))
training.train(config, start_run(Path(sys.argv[2]), config), Console(file=io.StringIO()))
