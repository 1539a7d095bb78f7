"""What no server can be faster than: a model's forward pass alone, and the multiplications of its network.

    python bench/floors.py THREADS name=model.tflite ...

It is a program of its own, because the algebra library takes its number of threads from the environment when it is
loaded. Prints JSON: the median milliseconds of a forward pass of each file, in turn and through
`classifier.serving.model`, and the best rate of numpy's sgemm, a product of float32 matrices, in 10^9 multiplications
a second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PASSES = 40
UNMEASURED_PASSES = 3
SIDE = 1536
PRODUCTS = 12


class Floors(NamedTuple):
    """What was measured."""

    forward_ms: dict[str, float]
    """Of each file."""
    sgemm: float
    """10^9 multiplications a second."""


def measure(files: Mapping[str, Path], threads: int) -> Floors:
    """Run this program.

    Args:
        files: the LiteRT files by name.
        threads: of a forward pass, and of sgemm.
    """
    command = [sys.executable, __file__, str(threads), *(f"{name}={file}" for name, file in files.items())]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return Floors(**json.loads(done.stdout))


def main() -> None:
    """Measure and print."""
    threads = int(sys.argv[1])
    files = {name: Path(file) for name, file in (argument.split("=", 1) for argument in sys.argv[2:])}
    print(json.dumps(Floors(forward_passes(files, threads), sgemm_rate())._asdict()))


def forward_passes(files: Mapping[str, Path], threads: int) -> dict[str, float]:
    """Return the median milliseconds of a forward pass of each file; they take turns."""
    sys.path.insert(0, str(ROOT / "functions"))
    import numpy as np

    from classifier.quiet import quiet
    from classifier.serving.model import Model

    with quiet(tell_on_error=True):
        models = {name: Model(file.read_bytes(), threads=threads) for name, file in files.items()}
    times: dict[str, list[float]] = {name: [] for name in files}
    random = np.random.default_rng(0)
    for number in range(-UNMEASURED_PASSES, PASSES):
        for name, model in models.items():
            photo = random.integers(0, 256, (model.height, model.width, 3), np.uint8)
            began = time.perf_counter()
            model.run(photo)
            if number >= 0:
                times[name].append((time.perf_counter() - began) * 1000)
    return {name: median(each) for name, each in times.items()}


def sgemm_rate() -> float:
    """Return the best of several products, in 10^9 multiplications a second."""
    import numpy as np

    left, right = np.random.default_rng(0).random((2, SIDE, SIDE), np.float32)
    best = float("inf")
    for _ in range(PRODUCTS):
        began = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - began)
    return SIDE**3 / best / 1e9


if __name__ == "__main__":
    main()
