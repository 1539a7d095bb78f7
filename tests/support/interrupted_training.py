"""Trainings that are killed at a given moment: a process that has loaded Keras forks one for each."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEVER = 0
QUICK_TO_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""XLA_FLAGS of trainings on JAX that are so short that they would mostly compile."""


class Trainings:
    """Starts trainings of one configuration in one folder, one after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def killed_after(self, epoch: int, phase: str = "") -> None:
        """Train until an epoch is recorded, of any phase if none is named; then it kills itself."""
        self._start(epoch, phase)
        assert self._ended() == signal.SIGKILL

    def finished(self) -> None:
        """Train to the end."""
        self._start(NEVER, "")
        assert self._ended() == 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Kill a training, whose first epoch has begun, at the end of the block."""
        number = self._start(NEVER, "")
        yield
        os.kill(number, signal.SIGKILL)
        assert self._ended() == signal.SIGKILL

    def _start(self, epoch: int, phase: str) -> int:
        self.process.stdin.write(f"{json.dumps([epoch, phase])}\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline()
        assert said.startswith("training "), said + self.process.stderr.read()
        return int(said.split()[1])

    def _ended(self) -> int:
        said = self.process.stdout.readline()
        assert said.startswith("ended by "), said + self.process.stderr.read()
        return int(said.split()[2])


@contextmanager
def trainings(config: dict, run: Path) -> Iterator[Trainings]:
    """Return what starts trainings of a configuration (`TrainingConfig.to_json`) in a run's folder."""
    command = [sys.executable, "-m", "tests.support.interrupted_training", json.dumps(config), run]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        yield Trainings(process)
        process.stdin.close()


def main() -> None:
    from trainer.training import train  # noqa: F401  # loaded once, before the forks

    for line in sys.stdin:
        child = os.fork()
        if not child:
            _train(*json.loads(line))
        _, status = os.waitpid(child, 0)
        _say(f"ended by {os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}")


def _train(last: int, phase: str) -> None:
    from rich.console import Console

    from trainer.run.config import TrainingConfig
    from trainer.run.starting import start_run
    from trainer.training import checkpoints, phases, train

    config = TrainingConfig.from_json(json.loads(sys.argv[1]))
    said = []

    class Interrupted(checkpoints.Checkpointing):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch, logs)
            if not said:
                said.append(True)
                _say(f"training {os.getpid()}")

        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if epoch + 1 == last and phase in ("", self.phase):
                os.kill(os.getpid(), signal.SIGKILL)

    phases.Checkpointing = Interrupted
    train.train(config, start_run(Path(sys.argv[2]), config), Console(file=io.StringIO()))
    os._exit(0)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
