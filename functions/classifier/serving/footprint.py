"""How much memory a served file takes: measured in a process of its own, started for nothing else.

That process is ``python -m classifier.serving.footprint FILE THREADS``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from classifier.serving.model import Model

STATUS = Path("/proc/self/status")
RUNS = 2


def added_memory(content: bytes, threads: int) -> int | None:
    """Return by how many bytes loading and running a LiteRT file raises the peak of a process that serves.

    The file's own bytes are among them. None where the system does not tell (only Linux does), or the process failed.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        file.write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-m", "classifier.serving.footprint", file, str(threads)],
            capture_output=True, text=True, env=environment,
        )  # fmt: skip
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip() else None


def main(file: Path, threads: int) -> None:
    """Write the bytes added by a file to standard output, or nothing where they cannot be known."""
    import ai_edge_litert.interpreter  # noqa: F401  (what every file needs is not added by this one)

    before = _peak()
    model = Model(file.read_bytes(), threads=threads)
    photo = np.zeros((model.height, model.width, 3), np.uint8)
    for _ in range(RUNS):
        model.run(photo)
    after = _peak()
    if before is not None and after is not None:
        sys.stdout.write(str(after - before))


def _peak() -> int | None:
    """Return the most bytes of memory that were resident so far (VmHWM).

    Not getrusage's maximum: a process begins with that of the one that started it.
    """
    if not STATUS.is_file():
        return None
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[:1] == ["VmHWM:"]), None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
