"""Runs what opens a foreign file in a process of its own: whatever it crashes, hangs or fills is an error message.

The parts run so are programs: ``python -m trainer.importing.trial`` loads and runs a composed file once,
``python -m trainer.importing.convert`` opens a Keras file or a SavedModel and converts it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from classifier import errors
from classifier.errors import InvalidRequest, PointerError

ANSWER = "answer.json"
LONGEST = 1800.0
"""Seconds; the conversion of a large network with calibration takes minutes."""
ROOTS = [str(Path(__file__).parents[2]), str(Path(errors.__file__).parents[1])]
"""Where this package and the classifier lie, also where they are not installed."""


def run_isolated(module: str, arguments: Sequence[str], folder: Path, *, longest: float = LONGEST) -> dict[str, Any]:
    """Run a module with arguments and return what it answered.

    Args:
        module: whose ``main`` calls `answer`.
        arguments: after the folder.
        folder: where it may write; its answer is there.
        longest: seconds.

    Raises:
        InvalidRequest: it could not use the file, crashed over it, or took too long.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*ROOTS, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    command = [sys.executable, "-m", module, str(folder), *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=longest, check=False)
    except subprocess.TimeoutExpired as error:
        raise InvalidRequest(
            f"Expected a model that can be opened within {longest:g} s; this one takes longer."
        ) from error
    path = folder / ANSWER
    if done.returncode == 0 and path.is_file():
        said: dict[str, Any] = json.loads(path.read_bytes())
        if "error" in said:
            kind = getattr(errors, said["kind"], InvalidRequest)
            raise (kind if issubclass(kind, PointerError) and kind not in WITH_FIELDS else InvalidRequest)(
                said["error"]
            )
        return said
    raise InvalidRequest(f"Expected a model that can be opened; {_cause(done)}. Export it again, or as another kind.")


WITH_FIELDS = (errors.InvalidManifest, errors.Unauthenticated, errors.RateLimited, errors.Overloaded)
"""Errors that a message alone does not make."""


def answer(folder: Path, work: Callable[[], dict[str, Any]]) -> None:
    """Do the work and write what it returns, or the error that it raised on purpose, as JSON."""
    limit_memory()
    try:
        said = work()
    except PointerError as error:
        said = {"error": str(error), "kind": type(error).__name__}
    except MemoryError:
        said = {"error": "Expected a model that fits into the memory of this machine; this one does not.", "kind": ""}
    (folder / ANSWER).write_text(json.dumps(said), encoding="utf-8")


def limit_memory() -> None:
    """Let what would fill the machine's memory fail instead: a file may say that it has tensors of any size."""
    import resource

    from trainer.data.source import usable_memory

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = usable_memory()
    if soft == resource.RLIM_INFINITY or soft > most:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _cause(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"this one ends the process that opens it ({signal.Signals(-done.returncode).name})"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    last = lines[-1][:300] if lines else "it said nothing"
    return f"this one cannot be: {last.rstrip('.')}"
