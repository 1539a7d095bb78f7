"""How fast and how large the served function is, beside a classic TensorFlow function, and above what floors.

    python bench/serving.py [--quick] [--architectures mobilenet_v2,xception] [--starts 3] [--requests 80] [--json FILE]

Every function is a process of functions-framework with its default workers and threads, and gets the same photo. In a
round each is started in turn, asked, and ended, every second round in the opposite order, so that other programs' load
hits all alike; ratios are those of one round, and their median and range over the rounds are printed. The peers have
the same network with the same random weights as Keras file (`peers/classic/main.py`, `peers/compiled/main.py`); their
answers are compared with Pointer's. Bundles are made at the first call (some minutes, kept in the temporary folder).
With two CPUs it then takes about 8 minutes, with --quick 2.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

from bench import bundles, floors, serving_tables, written  # noqa: E402
from bench.measured import LABEL, Measured, Plan, measure, percentile  # noqa: E402
from bench.preprocessing import jpeg, rendered_scene  # noqa: E402
from bench.processes import serve  # noqa: E402
from bench.serving_tables import Group  # noqa: E402
from classifier.registry.manifest import MODEL_FILE  # noqa: E402
from classifier.settings import Settings  # noqa: E402

PHOTO_SIZE = (512, 384)
CLIENTS = 8
CACHED_REQUESTS = 40
TENSORFLOWS = ("tensorflow-cpu", "tensorflow")
NEAR = 0.02
"""How far a float32 confidence may be from the peers'; they decode and resize the photo a little differently."""
EMPTY_FUNCTION = """\
def predict(request):
    return "ok"
"""


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", default="mobilenet_v2,xception", help="with commas (default: %(default)s)")
    parser.add_argument("--variants", default="float32,int8", help="with commas (default: %(default)s)")
    parser.add_argument("--starts", type=int, help="of each function (default: 3)")
    parser.add_argument("--requests", type=int, help="for labels after a start; a third for overlays (default: 80)")
    parser.add_argument("--quick", action="store_true", help="1 start and 12 requests")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    variants = options.variants.split(",")
    if not set(variants) <= set(bundles.VARIANTS):
        parser.error(f"expected --variants among {', '.join(bundles.VARIANTS)}; received {options.variants}")
    starts = options.starts or (1 if options.quick else 3)
    labels = options.requests or (12 if options.quick else 80)
    plan = Plan(labels, max(3, labels // 3), CLIENTS, 1.5 if options.quick else 3.0)
    report = machine() | {"load_before": round(os.getloadavg()[0], 1)}
    photo = some_photo()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        empty = empty_function(folder)
        groups = [group_of(architecture, variants) for architecture in options.architectures.split(",")]
        functions = [empty, *(function for group in groups for function in group.functions)]
        for function in functions:  # compiles what is not compiled yet, and fills the page cache
            tell(f"warming {function.name}")
            measure(function, photo, folder, Plan(0, 0, 1, 0))
        for number in range(starts):
            for function in functions if number % 2 == 0 else functions[::-1]:
                tell(f"round {number + 1} of {starts}: {function.name}")
                function.rounds.append(measure(function, photo, folder, plan))
        tell("floors")
        sgemm = measure_floors(groups)
        for group in groups:
            group.cached_ms = cached_ms(group.served, photo, folder)
        tell("")
    for group in groups:
        check_answers(group)
    report |= {"load_after": round(os.getloadavg()[0], 1), "starts": starts, "requests": labels, "sgemm": sgemm}
    serving_tables.show(report, empty, groups)
    if options.json:
        figures = {"machine": report, "empty": empty.figures(), "architectures": [group.figures() for group in groups]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def empty_function(folder: Path) -> Measured:
    """Write a function that does nothing."""
    source = folder / "empty" / "main.py"
    source.parent.mkdir()
    source.write_text(EMPTY_FUNCTION)
    return Measured("empty function", "empty", source, {})


def group_of(architecture: str, variants: Sequence[str]) -> Group:
    """Return the functions that serve one network: the peers, and Pointer with each variant."""
    made = bundles.made(architecture)
    peers = ROOT / "bench" / "peers"
    keras_model = {"KERAS_MODEL": str(made / bundles.KERAS_FILE)}
    return Group(
        architecture,
        multiplications=json.loads((made / bundles.FACTS_FILE).read_text())["multiplications"],
        classic=Measured("classic", "peer", peers / "classic" / "main.py", keras_model),
        compiled=Measured("classic, compiled", "peer", peers / "compiled" / "main.py", keras_model),
        pointers={variant: pointer_function(variant, made / variant) for variant in variants},
    )


def pointer_function(variant: str, store: Path) -> Measured:
    """Return Pointer's function with one store."""
    # The same photo is sent again and again, and the model is to be measured, not the memory of its results.
    environment = {"MODEL_STORE": str(store), "MODEL_NAME": bundles.MODEL, "RESULT_CACHE_BYTES": "0"}
    return Measured(f"Pointer, {variant}", "pointer", ROOT / "functions" / "main.py", environment)


def measure_floors(groups: Sequence[Group]) -> float:
    """Set the forward passes alone, with as many threads as the server gives one; return the rate of sgemm."""
    files = {
        f"{group.architecture} {variant}": model_file(Path(function.environment["MODEL_STORE"]))
        for group in groups
        for variant, function in group.pointers.items()
    }
    found = floors.measure(files, Settings.from_env({}).threads)
    for group in groups:
        for variant, function in group.pointers.items():
            function.forward_ms = found.forward_ms[f"{group.architecture} {variant}"]
    return found.sgemm


def cached_ms(function: Measured, photo: bytes, folder: Path) -> float:
    """Return the median milliseconds of a label that the result cache has."""
    environment = {name: value for name, value in function.environment.items() if name != "RESULT_CACHE_BYTES"}
    with serve(function.source, folder, environment) as served:
        served.first(LABEL, photo)
        replies = [served.post(LABEL, photo) for _ in range(CACHED_REQUESTS)]
    hits = [reply.milliseconds for reply in replies if "hit" in reply.headers.get("Cache-Status", "")]
    return percentile(hits, 0.5)


def check_answers(group: Group) -> None:
    """Make sure that the peers classify with the same network.

    Raises:
        RuntimeError: the answers differ.
    """
    label, confidence = group.classic.answer
    for function in (group.compiled, *(each for name, each in group.pointers.items() if name == "float32")):
        if function.answer[0] != label or abs(function.answer[1] - confidence) > NEAR:
            raise RuntimeError(
                f"Expected {label!r} with {confidence:.3f} of {function.name}; received {function.answer}."
            )


def tell(what: str) -> None:
    """Show what is being done, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r{what:60}", end="\r" if not what else "", file=sys.stderr, flush=True)


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
    packages = ("ai-edge-litert", "keras", "numpy", "pillow", "functions-framework", "firebase-functions")
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "processor": names[0].split("@")[0].strip() if names else platform.machine(),
        "python": platform.python_version(),
        "tensorflow": next(found.version for name in TENSORFLOWS for found in distributions(name=name)),
        **{package: version(package) for package in packages},
    }


if __name__ == "__main__":
    written.program(main)
