"""How fast and how large the served function is, next to an empty function as the floor.

    python bench/serving.py [--architectures mobilenet_v2,xception] [--variant float32] [--runs 5] [--json FILE]

Each run starts the empty function and then one process for each model, in turn, so that other programs' load hits all
alike. Figures are medians over the runs, and over all requests of all runs; each run alternates requests with and
without an overlay on one kept connection. Bundles have random weights and are made at the first call (a minute or
two, kept in the temporary folder); with them the accuracy guard cannot choose, so the variant with the faster forward
pass is marked as the one that would be served.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

from bench import bundles  # noqa: E402
from bench.preprocessing import jpeg, rendered_scene  # noqa: E402
from bench.processes import Memory, Reply, serve  # noqa: E402
from classifier.manifest import MODEL_FILE  # noqa: E402
from classifier.model import Model  # noqa: E402
from classifier.preprocessing import decode  # noqa: E402
from classifier.settings import Settings  # noqa: E402

LABEL, OVERLAY = "/", "/?gradcam=1"
PHOTO_SIZE = (512, 384)
UNMEASURED_REQUESTS = 5
FORWARD_PASSES = 40
EMPTY_FUNCTION = """\
from firebase_functions import https_fn


@https_fn.on_request()
def predict(request: https_fn.Request) -> https_fn.Response:
    return https_fn.Response("ok")
"""


@dataclass
class Measured:
    """One function, and what was measured of it: a value for each run, or for each request."""

    name: str
    source: Path
    environment: dict[str, str]
    store: Path | None = None
    """The model's; None for the empty function."""
    forward_ms: float = math.nan
    first_ms: list[float] = field(default_factory=list)
    first_cpu_ms: list[float] = field(default_factory=list)
    label_ms: list[float] = field(default_factory=list)
    overlay_ms: list[float] = field(default_factory=list)
    decode_ms: list[float] = field(default_factory=list)
    infer_ms: list[float] = field(default_factory=list)
    encode_ms: list[float] = field(default_factory=list)
    rest_ms: list[float] = field(default_factory=list)
    """Of a label: what is neither decode nor infer."""
    memory: list[Memory] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return the medians, for `--json`."""
        figures: dict[str, Any] = {
            "name": self.name,
            "first_ms": median(self.first_ms),
            "first_best_ms": min(self.first_ms),
            "first_cpu_ms": median(self.first_cpu_ms),
            "label_p50_ms": median(self.label_ms),
            "label_p99_ms": percentile(self.label_ms, 0.99),
            "pss_mb": median(memory.pss for memory in self.memory),
            "rss_mb": median(memory.rss for memory in self.memory),
        }
        if self.store:
            figures |= {
                "overlay_p50_ms": median(self.overlay_ms),
                "overlay_p99_ms": percentile(self.overlay_ms, 0.99),
                "forward_p50_ms": self.forward_ms,
                "decode_p50_ms": median(self.decode_ms),
                "infer_p50_ms": median(self.infer_ms),
                "encode_p50_ms": median(self.encode_ms),
                "rest_p50_ms": median(self.rest_ms),
                "file_mb": model_file(self.store).stat().st_size / 1e6,
            }
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()}


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", default="mobilenet_v2,xception", help="with commas (default: %(default)s)")
    parser.add_argument("--variant", choices=bundles.VARIANTS, help="only this one (default: all)")
    parser.add_argument("--runs", type=int, default=5, help="starts of each function (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=60, help="of each kind in a run (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    photo = some_photo()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        empty = folder / "empty" / "main.py"
        empty.parent.mkdir()
        empty.write_text(EMPTY_FUNCTION)
        functions = [Measured("empty function", empty, {})]
        for architecture in options.architectures.split(","):
            for variant, store in bundles.stores(architecture).items():
                if options.variant in (None, variant):
                    functions.append(model_function(f"{architecture} {variant}", store))
        for each in functions:  # compiles what is not compiled yet, and fills the page cache
            measure(each, photo, folder, requests=0)
            each.first_ms, each.first_cpu_ms, each.memory = [], [], []
        for run in range(options.runs):
            for each in functions:
                if sys.stderr.isatty():
                    print(f"\rrun {run + 1} of {options.runs}: {each.name:30}", end="", file=sys.stderr, flush=True)
                measure(each, photo, folder, options.requests)
        if sys.stderr.isatty():
            print("\r" + " " * 60, end="\r", file=sys.stderr)
    measure_forward([each for each in functions if each.store], photo)
    report = machine() | {"load_before": round(load_before, 2), "load_after": round(os.getloadavg()[0], 2)}
    print_tables(functions, report, options.runs)
    if options.json:
        figures = {"machine": report, "functions": [each.figures() for each in functions]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def model_function(name: str, store: Path) -> Measured:
    """Return Pointer's function with one store."""
    environment = {"MODEL_STORE": str(store), "MODEL_NAME": bundles.MODEL}
    return Measured(name, ROOT / "functions" / "main.py", environment, store)


def measure(function: Measured, photo: bytes, folder: Path, requests: int) -> None:
    """Start the function once, and add what it shows to its figures."""
    with serve(function.source, folder, function.environment) as served:
        function.first_ms.append(served.first(LABEL, photo))
        function.first_cpu_ms.append(served.cpu_milliseconds())
        for number in range(-UNMEASURED_REQUESTS, requests):
            label = served.post(LABEL, photo)
            overlay = served.post(OVERLAY, photo) if function.store else None
            if number < 0:
                continue
            function.label_ms.append(label.milliseconds)
            if overlay:
                steps = server_timing(label)
                function.overlay_ms.append(overlay.milliseconds)
                function.decode_ms.append(steps["decode"])
                function.infer_ms.append(steps["infer"])
                function.encode_ms.append(server_timing(overlay)["encode"])
                function.rest_ms.append(label.milliseconds - steps["decode"] - steps["infer"])
        function.memory.append(served.memory())


def measure_forward(functions: list[Measured], photo: bytes) -> None:
    """Measure the forward passes alone, with as many threads as the server gives one; the models take turns."""
    threads = Settings.from_env({}).threads
    models: list[tuple[Model, NDArray[np.uint8], list[float]]] = []
    for function in functions:
        assert function.store
        model = Model(model_file(function.store).read_bytes(), threads=threads)
        array = decode(photo, width=model.width, height=model.height).array(model.width, model.height)
        models.append((model, array, []))
    for number in range(FORWARD_PASSES + 3):
        for model, array, times in models:
            began = time.perf_counter()
            model.run(array)
            if number >= 3:
                times.append((time.perf_counter() - began) * 1000)
    for function, (_, _, times) in zip(functions, models, strict=True):
        function.forward_ms = median(times)


def print_tables(functions: list[Measured], report: dict[str, Any], runs: int) -> None:
    """Print what a caller sees, and where the milliseconds go."""
    floor, *models = [each.figures() for each in functions]
    served = set()
    for architecture in {each["name"].split()[0] for each in models}:
        rivals = [each for each in models if each["name"].startswith(f"{architecture} ")]
        if len(rivals) > 1:
            served.add(min(rivals, key=lambda each: float(each["forward_p50_ms"]))["name"])
    print(
        f"{report['cpus']} CPUs ({report['processor']}), Python {report['python']}, LiteRT {report['ai-edge-litert']}, "
        f"numpy {report['numpy']},\nPillow {report['pillow']}, functions-framework {report['functions-framework']}, "
        f"firebase-functions {report['firebase-functions']}; load {report['load_before']} before, "
        f"{report['load_after']} after"
    )
    print(f"\n{f'ms; medians of {runs} starts':28}   start to first reply        label       overlay  over-  MB in all")
    print(f"{'':28}   wall  best  CPU  floor    p50   p99    p50   p99   head   PSS  RSS")
    for each in (floor, *models):
        overlay = f"{'-':>7}{'-':>6}{'-':>7}"
        if each is not floor:
            more = each["overlay_p50_ms"] - each["label_p50_ms"]
            overlay = f"{each['overlay_p50_ms']:>7.1f}{each['overlay_p99_ms']:>6.0f}{more:>7.1f}"
        print(
            f"{'*' if each['name'] in served else ' '} {each['name']:26}{each['first_ms']:>7.0f}"
            f"{each['first_best_ms']:>6.0f}{each['first_cpu_ms']:>5.0f}{each['first_ms'] / floor['first_ms']:>6.2f}x"
            f"{each['label_p50_ms']:>7.1f}{each['label_p99_ms']:>6.0f}{overlay}"
            f"{each['pss_mb']:>6.0f}{each['rss_mb']:>5.0f}"
        )
    print(f"\n{'ms; medians':28}   file  forward pass  in the server:             rest of")
    print(f"{'':28}     MB         alone  decode   infer  encode  a label")
    for each in models:
        print(
            f"{'*' if each['name'] in served else ' '} {each['name']:26}{each['file_mb']:>7.1f}"
            f"{each['forward_p50_ms']:>14.1f}{each['decode_p50_ms']:>8.1f}{each['infer_p50_ms']:>8.1f}"
            f"{each['encode_p50_ms']:>8.1f}{each['rest_p50_ms']:>9.1f}"
        )
    print(
        "\n* would be served: the faster forward pass of its architecture. floor: wall over the empty function's."
        "\nCPU: user and system. Overhead: of an overlay over a label, p50. PSS: of all processes; RSS: of the largest."
    )


def server_timing(reply: Reply) -> dict[str, float]:
    """Return the milliseconds of each step, as the reply's header tells them."""
    return {step: float(value) for step, value in re.findall(r"(\w+);dur=([\d.]+)", reply.headers["Server-Timing"])}


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def some_photo() -> bytes:
    """Return a Food-101 photo of 512x384 pixels where POINTER_DATA has one, or else a rendered scene as JPEG."""
    from PIL import Image

    data = Path(os.environ.get("POINTER_DATA", ROOT.parent / "shared" / "data"))
    for path in sorted((data / "food-101" / "images").glob("*/*.jpg")):
        with Image.open(path) as image:
            if image.size == PHOTO_SIZE:
                return path.read_bytes()
    return jpeg(rendered_scene(PHOTO_SIZE))


def model_file(store: Path) -> Path:
    """Return the file of the store's one version."""
    return store / bundles.MODEL / "versions" / "v1" / MODEL_FILE


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    packages = ("ai-edge-litert", "numpy", "pillow", "functions-framework", "firebase-functions")
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "processor": names[0].split("@")[0].strip() if names else platform.machine(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


if __name__ == "__main__":
    main()
