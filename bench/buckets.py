"""What a model in a bucket costs a start, beside the same model in a folder.

    python bench/buckets.py [--architecture mobilenet_v2] [--starts 5] [--write PAGE]

Every function is started in turn, every second round in the opposite order, and asked for one label; figures are from
the start of the process on. The bucket is a storage emulator on this machine: what it takes to answer is within the
figures, the network of a data centre is not. The classic function fetches its model with google-cloud-storage. Pointer
reads with either of its clients (STORAGE_CLIENT). Differences are those of one round. `serving.py` prints this too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

from bench import bundles, written  # noqa: E402
from bench.measured import Measured, Plan, Round, measure  # noqa: E402
from classifier.registry.manifest import MODEL_FILE  # noqa: E402
from classifier.storage.opening import JSON_API, LIBRARY  # noqa: E402
from classifier.storage.protocol import ObjectStore  # noqa: E402

BUCKET = "bench"
ONE_LABEL = Plan(0, 0, 1, 0)
PEERS = ROOT / "bench" / "peers"


def main() -> None:
    """Measure, and print the table."""
    from bench.serving import some_photo

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="mobilenet_v2")
    parser.add_argument("--variant", default="int8")
    parser.add_argument("--starts", type=int, default=5, help="of each function (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show(options.architecture, options.variant, measured(
            options.architecture, options.variant, options.starts, some_photo(), Path(folder)
        ))  # fmt: skip


def measured(architecture: str, variant: str, starts: int, photo: bytes, folder: Path) -> list[Measured]:
    """Start every function so many times, from a folder and from a bucket.

    Raises:
        RuntimeError: one does not start, or answers anything but 200.
    """
    made = bundles.made(architecture)
    store = made / variant
    with emulated_bucket() as environment:
        fill(store, made / bundles.KERAS_FILE)
        pointer = {"MODEL_NAME": bundles.MODEL, "RESULT_CACHE_BYTES": "0", **environment}
        source = ROOT / "functions" / "main.py"
        functions = [
            Measured("Pointer, a folder", "pointer", source, pointer | {"MODEL_STORE": str(store)}),
            *(
                Measured(
                    f"Pointer, a bucket by {client}", "pointer", source,
                    pointer | {"MODEL_STORE": f"gs://{BUCKET}", "STORAGE_CLIENT": client},
                )
                for client in (JSON_API, LIBRARY)
            ),
            Measured(
                "classic, a folder", "peer", PEERS / "classic" / "main.py",
                {"KERAS_MODEL": str(made / bundles.KERAS_FILE)},
            ),
            Measured(
                "classic, a bucket", "peer", PEERS / "bucket" / "main.py", {"KERAS_BUCKET": BUCKET, **environment}
            ),
        ]  # fmt: skip
        for function in functions:  # compiles what is not compiled yet, and fills the page cache
            measure(function, photo, folder, ONE_LABEL)
        for number in range(starts):
            for function in functions if number % 2 == 0 else functions[::-1]:
                function.rounds.append(measure(function, photo, folder, ONE_LABEL))
    return functions


def show(architecture: str, variant: str, functions: list[Measured]) -> None:
    """Print a line a function, with what the bucket adds in the same round."""
    size = (bundles.made(architecture) / variant / bundles.MODEL / "versions/v1" / MODEL_FILE).stat().st_size
    print(
        f"{architecture}, {variant} ({size / 1e6:.1f} MB); start to first label, {len(functions[0].rounds)} starts\n"
        f"{'medians':41}{'ms':>7}{'more':>7}{'MB':>7}{'more':>7}"
    )
    folder = functions[0]
    for function in functions:
        if function.name.endswith("a folder"):
            folder = function
        more = "".join(
            f"{'' if function is folder else f'{median(differences(folder, function, figure)):+.0f}':>7}"
            for figure in ("first_ms", "pss")
        )
        print(
            f"{function.name:41}{function.of_rounds(lambda each: each.first_ms):7.0f}{more[:7]}"
            f"{function.of_rounds(lambda each: each.memory.pss):7.0f}{more[7:]}"
        )


def differences(folder: Measured, bucket: Measured, figure: str) -> list[float]:
    """Return how much more the bucket costs, in each round."""

    def of(each: Round) -> float:
        return each.first_ms if figure == "first_ms" else each.memory.pss

    return [of(theirs) - of(ours) for ours, theirs in zip(folder.rounds, bucket.rounds, strict=True)]


@contextmanager
def emulated_bucket() -> Iterator[dict[str, str]]:
    """Serve an empty bucket from memory; yield the environment by which clients find it."""
    program = ROOT / "tests" / "support" / "gcs_emulator.py"
    with subprocess.Popen(
        [sys.executable, program, BUCKET], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            environment = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{int(process.stdout.readline())}"}
            os.environ.update(environment)
            yield environment
        finally:
            os.environ.pop("STORAGE_EMULATOR_HOST", None)
            process.terminate()


def fill(store: Path, keras_model: Path) -> None:
    """Copy a store and the peer's model into the bucket."""
    from classifier.storage.opening import open_bucket

    bucket: ObjectStore = open_bucket(BUCKET)
    files = {path.relative_to(store).as_posix(): path for path in store.rglob("[!.]*") if path.is_file()}
    files |= {f"keras/{name}": keras_model.with_name(name) for name in (keras_model.name, "labels.json")}
    for name, path in files.items():
        bucket.write(name, path.read_bytes(), if_generation=0)


if __name__ == "__main__":
    written.program(main)
