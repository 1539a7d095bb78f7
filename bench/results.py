"""What training reaches on real photos: runs `trainer train` for several seeds and makes the table of docs/results.md.

    python bench/results.py [--seeds 7,8,9] [--architectures mobilenet_v2,inception_v3] [--table FILE]

Photos and weights are looked for in POINTER_DATA and POINTER_WEIGHTS, or where --data and --weights say. The seed
decides which photos validate, the order, the augmentation and the dropout; for the dogs, whose data set has no test
photos of its own, which photos test too. A network that has a teacher learns from one that is trained with the same
seed, and so has not seen the photos that validate. The figures are those of the bundle's manifest: of the file that is
served, on the test photos. The interval is Wilson's, at 95 %, of the mean share for one run's number of test photos.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

from classifier.registry.bundle import read_bundle  # noqa: E402

TRAINER = Path(sys.executable).parent / "trainer"
HEAD_ONLY = ("--fine-tune-epochs", "0")
HEADER = "| photos | network | trained | seeds | top-1, each | mean | s.d. | 95 % | s to train | s in all |"


@dataclass(frozen=True)
class Network:
    """A pretrained network's file of weights, and options."""

    weights: str
    options: tuple[str, ...] = ()
    fine_tuning: tuple[str, ...] = ()
    """Those that have no effect on a head alone."""
    architecture: str = ""
    """Of the trainer, where it is not its own name."""
    teacher: str = ""
    """Another one of these, from which it learns."""


STRONG = ("--augmentation-strength", "1.7", "--average-epochs", "2")
MOBILENET = "mobilenet_v2_1.0_224_no_top.weights.h5"
LITE0, LITE2 = (f"efficientnet_lite{number}_no_top.weights.h5" for number in (0, 2))
SLOWLY = ("--fine-tune-learning-rate", "5e-5")
ALL_LAYERS = (
    *STRONG, "--label-smoothing", "0.1", "--fine-tune-layers", "-1", "--layer-decay", "0.8", "--fine-tune-epochs", "18",
    "--variant", "int8",
)  # fmt: skip
MOBILENET_ALL, LITE0_ALL = ((*ALL_LAYERS, "--fine-tune-learning-rate", rate) for rate in ("2e-4", "1e-4"))
USUAL = ("mobilenet_v2", "inception_v3")
NETWORKS = {
    "mobilenet_v2": Network(MOBILENET),
    "inception_v3": Network(
        "inception_v3_through_mixed8_no_top_float.weights.h5",
        ("--backbone-layer", "mixed8", "--image-size", "400", "--precision", "mixed_bfloat16"),
        (
            "--label-smoothing", "0.1", "--mixup", "0.2", "--augmentation-strength", "1.7", "--average-epochs", "2",
            "--fine-tune-epochs", "18",
        ),
    ),
    "efficientnet_lite0": Network(LITE0, fine_tuning=(*SLOWLY, *STRONG, "--label-smoothing", "0.1")),
    "efficientnet_lite2": Network(LITE2, fine_tuning=(*SLOWLY, *STRONG, "--fine-tune-epochs", "6")),
    "mobilenet_v2_all": Network(
        MOBILENET, fine_tuning=MOBILENET_ALL, architecture="mobilenet_v2"
    ),
    "mobilenet_v2_all_256": Network(
        MOBILENET, ("--image-size", "256"), fine_tuning=MOBILENET_ALL,
        architecture="mobilenet_v2",
    ),
    "efficientnet_lite0_all_224": Network(
        LITE0, fine_tuning=LITE0_ALL, architecture="efficientnet_lite0"
    ),
    "efficientnet_lite0_all": Network(
        LITE0, ("--image-size", "240"), fine_tuning=LITE0_ALL,
        architecture="efficientnet_lite0",
    ),
    "mobilenet_v2_all_taught": Network(
        MOBILENET, fine_tuning=MOBILENET_ALL, architecture="mobilenet_v2",
        teacher="efficientnet_lite0_all",
    ),
    "mobilenet_v2_taught": Network(
        MOBILENET, fine_tuning=STRONG,
        architecture="mobilenet_v2", teacher="efficientnet_lite2",
    ),
    "efficientnet_lite0_taught": Network(
        LITE0, fine_tuning=(*SLOWLY, *STRONG), architecture="efficientnet_lite0", teacher="efficientnet_lite2",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One row: what is trained on what."""

    dataset: str
    architecture: str
    fine_tuned: bool

    @property
    def trained(self) -> str:
        """What of the network is trained."""
        return "head, then fine-tuned" if self.fine_tuned else "head"

    @property
    def options(self) -> tuple[str, ...]:
        """What `trainer train` is given beside data, weights and seed."""
        network = NETWORKS[self.architecture]
        return (*network.options, *(network.fine_tuning if self.fine_tuned else HEAD_ONLY))


@dataclass(frozen=True)
class Result:
    """One run."""

    top_1: float
    photos: int
    train_seconds: float
    seconds: float


def main() -> None:
    """Run everything; print each run's line, and the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = ROOT.parent / "shared"
    parser.add_argument("--seeds", default="7,8,9", help="default: %(default)s")
    parser.add_argument(
        "--architectures", default=",".join(USUAL), help=f"of {', '.join(NETWORKS)} (default: %(default)s)"
    )
    parser.add_argument("--datasets", default="food-101,dog-breed", help="default: %(default)s")
    parser.add_argument("--data", type=Path, default=os.environ.get("POINTER_DATA", shared / "data"))
    parser.add_argument("--weights", type=Path, default=os.environ.get("POINTER_WEIGHTS", shared / "weights"))
    parser.add_argument("--phases", default="head,fine-tuning", help="head: without fine-tuning (default: %(default)s)")
    parser.add_argument("--table", type=Path, help="write the table here too")
    options = parser.parse_args()
    unknown = set(options.architectures.split(",")) - set(NETWORKS)
    if unknown:
        parser.error(f"expected --architectures among {', '.join(NETWORKS)}; received {', '.join(sorted(unknown))}")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    rows = [HEADER, re.sub(r"[^|]+", " --- ", HEADER)]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.data, options.weights, Path(folder))
        for case in cases(options.architectures.split(","), options.datasets.split(","), options.phases.split(",")):
            results = []
            for seed in seeds:
                results.append(bench.run(case, seed))
                print(f"{case.dataset} {case.architecture}, {case.trained}, seed {seed}: {results[-1]}", flush=True)
            rows.append(row(case, seeds, results))
            print(rows[-1], flush=True)
    print("\n" + "\n".join(rows))
    if options.table:
        options.table.write_text("\n".join(rows) + "\n")


def cases(architectures: list[str], datasets: list[str], phases: list[str]) -> Iterator[Case]:
    """Yield the rows. Dogs get the head only: fine-tuning cannot help on ImageNet's own photos."""
    for architecture in architectures:
        for dataset in datasets:
            if "head" in phases:
                yield Case(dataset, architecture, fine_tuned=False)
            if "fine-tuning" in phases and dataset != "dog-breed":
                yield Case(dataset, architecture, fine_tuned=True)


@dataclass(frozen=True)
class Bench:
    """Where photos and weights are, and a folder for the teachers."""

    data: Path
    weights: Path
    teachers: Path

    def run(self, case: Case, seed: int) -> Result:
        """Train once in a folder that is removed afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            return self.train(case, seed, Path(folder, "run"))

    def train(self, case: Case, seed: int, run: Path) -> Result:
        """Train in a folder, its teacher first, if it has one that is not trained yet.

        Raises:
            SystemExit: the training failed; its output is the message.
        """
        network = NETWORKS[case.architecture]
        command = [
            TRAINER, "train", "--dataset", case.dataset, "--data-dir", self.data / case.dataset,
            "--architecture", network.architecture or case.architecture, "--weights", self.weights / network.weights,
            *case.options, "--seed", seed, "--no-report", "--run", run,
        ]  # fmt: skip
        if network.teacher:
            teacher = self.teachers / f"{case.dataset}-{network.teacher}-{seed}"
            if not teacher.is_dir():
                result = self.train(Case(case.dataset, network.teacher, case.fine_tuned), seed, teacher)
                print(f"{case.dataset} {network.teacher}, the teacher, seed {seed}: {result}", flush=True)
            command += ["--teacher", teacher]
        began = time.perf_counter()
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        seconds = time.perf_counter() - began
        trained = re.search(r"trained in (\d+) s", done.stdout)
        if done.returncode or trained is None:
            raise SystemExit(done.stdout + done.stderr)
        manifest = read_bundle(run / "bundle")
        return Result(manifest.metrics["test"]["top_1"], manifest.data["photos"]["test"], int(trained[1]), seconds)


def row(case: Case, seeds: list[int], results: list[Result]) -> str:
    """Return a line of the table."""
    shares = [result.top_1 for result in results]
    low, high = wilson(mean(shares), results[0].photos)
    spread = f"{100 * stdev(shares):.1f}" if len(shares) > 1 else ""
    cells = [
        case.dataset, case.architecture, case.trained, ", ".join(map(str, seeds)),
        ", ".join(f"{share:.1%}" for share in shares), f"**{mean(shares):.1%}**", spread, f"{low:.1%} to {high:.1%}",
        f"{mean(result.train_seconds for result in results):.0f}", f"{mean(result.seconds for result in results):.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the score interval (Wilson 1927) of a share of `count` independent photos."""
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - half, middle + half


if __name__ == "__main__":
    main()
