"""Puts the clock of a Python program that has this folder on its path ahead by the seconds in the file JUMPING_CLOCK.

Python imports it before anything else; the file is read again at each look at the clock, so that it can jump while the
program runs. The monotonic clock and what the kernel stamps files with stay as they are, as on a machine whose clock is
set. A library that moves the clock below Python (libfaketime 0.9.10) breaks Python's sleep when it spares the monotonic
one.
"""

import datetime
import os
import time
from pathlib import Path
from typing import Any

_time, _time_ns = time.time, time.time_ns


def _ahead() -> float:
    return float(Path(os.environ["JUMPING_CLOCK"]).read_text(encoding="ascii") or 0)


class _Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return cls.fromtimestamp(time.time(), tz)


if "JUMPING_CLOCK" in os.environ:
    time.time = lambda: _time() + _ahead()
    time.time_ns = lambda: _time_ns() + int(_ahead() * 1e9)
    datetime.datetime = _Jumping  # type: ignore[misc]
