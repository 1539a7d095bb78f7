"""`trainer tune` as one of several processes: python -m tests.support.shared_tuning TUNE_ARGUMENT...

Each worker waits in its first trial until the other has begun one too; then the worker b kills itself in its second.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from trainer.main import main

NAME = os.environ["KERASTUNER_TUNER_ID"]


def install(meeting: Path) -> None:
    from trainer.search import trials

    run = trials.HeadRunner.run

    def meet_then_run(self, number, config, share):
        mine = meeting / f"{NAME}-{len(list(meeting.glob(f'{NAME}-*')))}"
        mine.touch()
        deadline = time.monotonic() + 120
        while not all((meeting / f"{name}-0").exists() for name in "ab"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if mine.name == "b-1":
            os.kill(os.getpid(), signal.SIGKILL)
        return run(self, number, config, share)

    trials.HeadRunner.run = meet_then_run


if __name__ == "__main__":
    if NAME != "chief":
        install(Path(os.environ["MEETING"]))
    main()
