"""What quantisation costs and saves: every variant of MobileNetV2 and Xception beside TensorFlow's own int8 files.

    python bench/quantisation.py [--data DIR] [--weights DIR] [--network NAME] [--threads 2] [--repeats 5]

MobileNetV2 has its ImageNet weights and a linear head that is trained here on food-101; its top-1, agreement and
heatmaps are those of the test photos. Xception's weights are random: only its speed, size and memory mean anything,
and its agreement says how far rounding carries through a network that has learnt nothing. Latency is the median of one
forward pass with all CPUs or so many threads, the ratio that to float32's: the median over the repeats, with their
range; all in turn in one process. Memory is what loading and running the file adds to the peak of a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from trainer.networks import heads

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from rich.console import Console  # noqa: E402

from bench import written  # noqa: E402
from classifier.quiet import quiet  # noqa: E402
from classifier.registry.manifest import InputSpec  # noqa: E402
from classifier.settings import available_cpus  # noqa: E402

SHARED = ROOT.parent / "shared"
XCEPTION_CLASSES = 101
XCEPTION_PHOTOS = 60
RUNS = 20
"""Forward passes of each file in one repeat."""


def main() -> None:
    """Print a table a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data, weights = (
        os.environ.get("POINTER_DATA", SHARED / "data"),
        os.environ.get("POINTER_WEIGHTS", SHARED / "weights"),
    )
    parser.add_argument("--data", type=Path, default=Path(data), help="folder with food-101")
    parser.add_argument("--weights", type=Path, default=Path(weights), help="folder with the MobileNetV2 weights")
    parser.add_argument("--network", choices=("mobilenet_v2", "xception"), help="only this one")
    cpus = available_cpus()
    parser.add_argument("--threads", type=int, default=cpus, help="of a forward pass (default: %(default)s, all CPUs)")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.network != "xception":
        mobilenet_v2(options.data / "food-101", options.weights, options.threads, options.repeats)
    if options.network != "mobilenet_v2":
        xception(options.data / "food-101", options.threads, options.repeats)


def mobilenet_v2(photos: Path, weights: Path, threads: int, repeats: int) -> None:
    """Train a head on food-101, then compare the variants on its test photos."""
    with quiet(tell_on_error=True):
        from trainer.training import train
    from trainer.data.loaders import class_targets
    from trainer.run.config import TrainingConfig
    from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
    from trainer.run.starting import start_run

    config = TrainingConfig(
        DataConfig("food-101", str(photos)),
        NetworkConfig("mobilenet_v2", str(weights / "mobilenet_v2_1.0_224_no_top.weights.h5")),
        ScheduleConfig(fine_tune_epochs=0),
    )
    with tempfile.TemporaryDirectory() as folder, quiet(tell_on_error=True):
        trained = train.train(config, start_run(Path(folder) / "run", config), Console(quiet=True))
    frame = trained.photos.frame
    rows = {split: np.flatnonzero(frame["split"] == split) for split in ("train", "test")}
    truth = class_targets(frame["label"], trained.labels, one_hot=False)[rows["test"]]
    print(f"MobileNetV2 224, {len(trained.labels)} classes, ImageNet weights, {len(truth)} test photos")
    compare(trained.backbone, trained.head, trained.photos.source, list(frame["label"]), rows, truth, threads, repeats)


def xception(photos: Path, threads: int, repeats: int) -> None:
    """Compare the variants of a network that has learnt nothing."""
    with quiet(tell_on_error=True):
        import keras
    from trainer.data.source import PhotoSource
    from trainer.networks import backbones
    from trainer.run.sections import NetworkConfig

    keras.utils.set_random_seed(7)
    backbone = backbones.build_backbone(NetworkConfig("xception", "none"))
    head = heads.build_head(backbone.output_shape[-1], XCEPTION_CLASSES)
    paths = sorted((photos / "images").glob("*/*.jpg"))[::5]
    source = PhotoSource(paths, InputSpec(width=299, height=299))
    numbers = np.arange(len(paths))
    test = numbers[:: len(paths) // XCEPTION_PHOTOS][:XCEPTION_PHOTOS]
    rows = {"train": np.setdiff1d(numbers, test), "test": test}
    print(f"Xception 299, {XCEPTION_CLASSES} classes, random weights, {len(test)} photos")
    labels = [path.parent.name for path in paths]
    compare(backbone, head, source, labels, rows, None, threads, repeats)


def compare(
    backbone: object,
    head: object,
    source: object,
    labels: list[str],
    rows: dict[str, NDArray[np.intp]],
    truth: NDArray[np.int32] | None,
    threads: int,
    repeats: int,
) -> None:
    """Convert, measure and print; without the truth, no top-1."""
    from bench.peers.converter import tensorflows
    from trainer.data.sampling import calibration_rows
    from trainer.data.source import PhotoSource
    from trainer.export.litert import convert_all, with_fusible_relus
    from trainer.export.measuring import Compared, latencies, measure_variants
    from trainer.networks.backbones import BACKBONE
    from trainer.networks.gradcam import serving_model

    assert isinstance(source, PhotoSource)
    chosen = calibration_rows(labels, rows["train"])
    photos = [source.array(int(row)) for row in chosen]
    with stopwatch() as (seconds, processor), quiet(tell_on_error=True):
        served = serving_model(with_fusible_relus(backbone), head)
        contents, failures = convert_all(served, lambda: photos)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"converted in {seconds[0]:.0f} s ({processor[0]:.0f} s of CPU) with {len(chosen)} calibration photos, "
        f"peak memory {peak:.0f} MB"
    )
    with stopwatch() as (_, peer), quiet(tell_on_error=True):
        contents |= tensorflows(served, contents["float32"], lambda: photos, f"/{BACKBONE}")
    print(f"TensorFlow's own two int8 files: {peer[0]:.0f} s of CPU")
    with quiet(tell_on_error=True):
        known = np.zeros(len(rows["test"]), np.int32) if truth is None else truth
        variants, broken = measure_variants(contents, source, Compared(rows["test"], known), threads)
        photo = source.array(int(rows["test"][0]))
        times = [latencies(contents, photo, threads, RUNS) for _ in range(repeats)]
    print("variant               top-1   lost  agreement  heatmaps  p50 ms  ratio (range)         MB  MB in memory")
    for variant in variants:
        ratios = [each[variant.name] / each["float32"] for each in times]
        top_1 = "-" if truth is None else f"{variant.top_1:.1%}"
        memory = "-" if variant.memory is None else f"{variant.memory / 1e6:.0f}"
        print(
            f"{variant.name:<20}  {top_1:>5}  {variant.damage.top_1_loss * 100:>5.2f}"
            f"  {variant.damage.agreement:>9.1%}  {variant.heatmap_correlation:>8.3f}"
            f"  {median(each[variant.name] for each in times):>6.1f}"
            f"  {median(ratios):>5.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            f"  {len(variant.content) / 1e6:>7.1f}  {memory:>12}"
        )
    for name, why in (failures | broken).items():
        print(f"{name}: failed: {why}")
    print()


@contextmanager
def stopwatch() -> Iterator[tuple[list[float], list[float]]]:
    """Yield two lists that hold the block's seconds and CPU seconds once it is over."""
    seconds: list[float] = []
    processor: list[float] = []
    began, used = time.perf_counter(), time.process_time()
    yield seconds, processor
    seconds.append(time.perf_counter() - began)
    processor.append(time.process_time() - used)


if __name__ == "__main__":
    written.program(main)
