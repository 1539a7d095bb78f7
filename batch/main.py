"""The program that `admin_cli` starts: `python -m batch.main COMMAND JSON [BEAM OPTIONS]`.

It tells what happens as JSON, one object a line, on standard output; what libraries say goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any, TextIO

from classifier.errors import PointerError
from classifier.exit_codes import exit_code


def main() -> None:
    """Run one command; an expected error is the last line, with its exit code."""
    events = _events()
    threading.Thread(target=_end_with_the_caller, name="caller", daemon=True).start()
    command, values, options = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]

    def tell(event: str, **facts: Any) -> None:
        events.write(json.dumps({"event": event, **facts}) + "\n")
        events.flush()

    try:
        run(command, values, options, tell)
    except PointerError as error:
        store = getattr(error, "store", "")
        where = f" The store is {store}." if store else ""
        tell("error", message=f"{error}{where}", code=exit_code(error))
        _end(exit_code(error))
    except KeyboardInterrupt:
        _end(130)
    _end(0)


def run(command: str, values: Mapping[str, Any], options: list[str], tell: Any) -> None:
    """Run a command; what it needs is imported when it is known."""
    from batch.job import Job

    if command == "label":
        from batch.labels import label

        label(Job.of(values["job"]), values["how"], options, tell)
    elif command == "difference":
        from batch.differences import difference

        difference(values, tell)
    else:
        raise ValueError(command)


def _events() -> TextIO:
    """Return what was standard output, where nothing else is written from now on: runners and models print to it."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def _end_with_the_caller() -> None:
    """Wait until whoever started this program is gone, however that came, and end it with its workers."""
    while os.read(0, 1):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _end(code: int) -> None:
    """End at once, with the workers: threads and processes of a runner that failed may never."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
