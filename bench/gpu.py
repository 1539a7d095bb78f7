"""How fast networks are fine-tuned on an accelerator, and how long it waits for photos. Needs no TensorFlow.

    python bench/gpu.py [--architectures xception,mobilenet_v2] [--batch-sizes 32,64,128] [--devices 1] [--json FILE]

It needs keras, numpy and pillow as pinned in the requirements, and jax with CUDA (`pip install "jax[cuda12]"` of the
pinned version); where JAX finds no accelerator it says so and measures the CPU: add small sizes, such as
`--architectures mobilenet_v2 --image-size 64 --batch-sizes 4 --steps 3`.

The networks and the photos' way to pixels are the trainer's. A step is forward, backward and update of all layers but
batch normalisation (`--layers` for fewer), compiled; weights are random, which costs the same. Columns:

    resident   images/s on one batch that stays on the device, without waiting for each step: the ceiling
    step       milliseconds of such a step
    fed        images/s with batches made by threads from photos that were decoded once, copied to the device
    waits      share of the fed time, with the device synchronised after each step, that passes before the next batch
               is there and copied: the device has nothing to do
    decoding   images/s of an epoch in which every photo is decoded, and its share of waiting

No figure of a GPU has been recorded with it yet.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from trainer.networks import heads

os.environ["KERAS_BACKEND"] = "jax"
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

import jax  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from bench.preprocessing import jpeg, rendered_scene  # noqa: E402
from classifier.photo.preprocessing import load_array  # noqa: E402
from classifier.registry.manifest import InputSpec  # noqa: E402
from classifier.settings import available_cpus  # noqa: E402
from trainer.compute.strategy import Strategy  # noqa: E402
from trainer.networks import backbones  # noqa: E402
from trainer.run.sections import ComputeConfig, NetworkConfig, Precision  # noqa: E402

PRECISIONS: tuple[Precision, ...] = ("float32", "mixed_float16", "mixed_bfloat16")
PHOTO_SIZE = (512, 384)
DISTINCT_PHOTOS = 16
"""Photos that are drawn; more are copies of their bytes, decoded anew."""
CLASSES = 101
WARM_UP = 2
BATCHES_AHEAD = 8

State = tuple[Any, Any, Any]


@dataclass
class Row:
    """What was measured of one network at one batch size."""

    architecture: str
    side: int
    batch: int
    devices: int
    precision: str
    layers: int
    """How many are trained, without the head."""
    compile_s: float
    resident_per_s: float
    step_ms: float
    fed_per_s: float
    waits: float
    decoding_per_s: float
    decoding_waits: float


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", default="xception,mobilenet_v2", help="default: %(default)s")
    parser.add_argument("--batch-sizes", default="32,64,128", help="of all devices together (default: %(default)s)")
    parser.add_argument("--precision", choices=PRECISIONS, default="mixed_bfloat16", help="default: %(default)s")
    parser.add_argument("--image-size", type=int, help="side in pixels (default: the architecture's)")
    parser.add_argument("--layers", type=int, default=-1, help="last layers to train; -1: all (default: %(default)s)")
    parser.add_argument("--devices", type=int, default=1, help="that share a batch (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="of each measurement (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=available_cpus(), help="threads that decode")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    if len(jax.devices()) < options.devices:
        parser.error(f"expected --devices of at most {len(jax.devices())}; received {options.devices}")
    report = machine()
    print(
        f"{report['devices']} x {report['device']}, {report['cpus']} CPUs, JAX {report['jax']}, "
        f"Keras {report['keras']}, Python {report['python']}; {options.precision}"
    )
    if jax.default_backend() == "cpu":
        print("JAX finds no accelerator: these are figures of the CPU.")
    print(f"\n{'':22}resident     step       fed   waits  decoding   waits  compile")
    print(f"{'network':14}{'batch':>6}{'img/s':>10}{'ms':>9}{'img/s':>10}{'':>8}{'img/s':>10}{'':>8}{'s':>9}")
    rows = []
    for architecture in options.architectures.split(","):
        for batch in map(int, options.batch_sizes.split(",")):
            rows.append(measure(architecture, batch, options))
            print_row(rows[-1])
    loaded = sorted({name.partition(".")[0] for name in sys.modules} & {"tensorflow", "tf_keras"})
    assert not loaded, f"Expected a measurement without TensorFlow; {loaded} were imported."
    if options.json:
        figures = {"machine": report, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(architecture: str, batch: int, options: argparse.Namespace) -> Row:
    """Build one network, and time its training step on resident, kept and freshly decoded photos."""
    distribution = None
    if options.devices > 1:
        names = keras.distribution.list_devices()[: options.devices]
        distribution = keras.distribution.DataParallel(devices=names)
    strategy = Strategy(ComputeConfig(precision=options.precision), distribution, options.devices)
    with strategy.scope():
        config = NetworkConfig(architecture, "none", image_size=options.image_size)
        backbone = backbones.build_backbone(config, precision=options.precision)
        trained = backbones.set_trainable_layers(backbone, options.layers, scratch=False)
        head = heads.build_head(backbone.output_shape[-1], CLASSES)
        model = heads.classifier(backbone, head)
        step, state = training_step(model, strategy.optimizer(keras.optimizers.Adam(1e-5)))
        side = backbone.input_shape[1]
        photos = Photos(batch * options.steps, side, batch)
        truth = np.arange(batch, dtype=np.int32) % CLASSES
        place = placing(distribution)
        resident = place((photos.batch(0), truth))
        began = time.perf_counter()
        for _ in range(WARM_UP):
            state, loss = step(state, *resident)
            finished(loss)
        compiled = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(options.steps):
            state, loss = step(state, *resident)
        finished((state, loss))
        ceiling = time.perf_counter() - began
        epochs = []
        for fresh in (True, False):
            photos.keeps = not fresh
            if not fresh:
                photos.fill(options.workers)
            rates = {}
            for synchronised in (False, True):
                batches = ahead(photos, options.workers, lambda images: place((images, truth)))
                waited, total, state = epoch(step, state, batches, synchronised=synchronised)
                rates[synchronised] = (waited, total)
            epochs.append((batch * options.steps / rates[False][1], rates[True][0] / rates[True][1]))
    decoding, kept = epochs
    return Row(
        architecture, side, batch, options.devices, options.precision, trained, round(compiled, 2),
        round(batch * options.steps / ceiling, 1), round(ceiling / options.steps * 1000, 2),
        round(kept[0], 1), round(kept[1], 4), round(decoding[0], 1), round(decoding[1], 4),
    )  # fmt: skip


def training_step(
    model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> tuple[Callable[..., tuple[State, Any]], State]:
    """Return the compiled step (state, photos, truth) -> (state, loss), and the state that it begins with."""
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    def loss(trainable: Any, others: Any, optimizer_state: Any, photos: Any, truth: Any) -> tuple[Any, Any]:
        logits, others = model.stateless_call(trainable, others, photos, training=True)
        value = loss_of(truth, logits)
        if scaled:
            with keras.StatelessScope(zip(optimizer.variables, optimizer_state, strict=True)):
                return optimizer.scale_loss(value), others
        return value, others

    def step(state: State, photos: Any, truth: Any) -> tuple[State, Any]:
        trainable, others, optimizer_state = state
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, others), slopes = gradient(trainable, others, optimizer_state, photos, truth)
        trainable, optimizer_state = optimizer.stateless_apply(optimizer_state, slopes, trainable)
        return (trainable, others, optimizer_state), value

    variables = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    # Copies: the step takes its state over, and the model's own variables must stay.
    state = tuple([jax.numpy.copy(variable.value) for variable in part] for part in variables)
    return jax.jit(step, donate_argnums=0), state  # type: ignore[return-value]


class Photos:
    """Batches of JPEG photos as uint8 [batch, side, side, 3].

    Args:
        count: how many photos; distinct ones are few, but each is decoded for itself.
        side: of the arrays, in pixels.
        size: photos a batch.
    """

    def __init__(self, count: int, side: int, size: int) -> None:
        self.files = [jpeg(rendered_scene(PHOTO_SIZE, seed)) for seed in range(DISTINCT_PHOTOS)]
        self.spec = InputSpec(width=side, height=side, resize="stretch")
        self.count, self.size, self.keeps = count, size, False
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return self.count // self.size

    def batch(self, number: int) -> NDArray[np.uint8]:
        """Return a batch: decoded, or from what was decoded before."""
        return np.stack([self._array(row) for row in range(number * self.size, (number + 1) * self.size)])

    def fill(self, workers: int) -> None:
        """Decode the distinct photos; every other one would have the same pixels."""
        with ThreadPoolExecutor(workers) as pool:
            arrays = pool.map(lambda file: load_array(file, self.spec), self.files)
            self._kept = dict(enumerate(arrays))

    def _array(self, row: int) -> NDArray[np.uint8]:
        file = row % len(self.files)
        return self._kept[file] if self.keeps else load_array(self.files[file], self.spec)


def ahead(photos: Photos, workers: int, place: Callable[[Any], Any]) -> Iterator[Any]:
    """Yield the batches in order; threads make the next ones meanwhile, and each is copied when it is asked for."""
    with ThreadPoolExecutor(workers) as pool:
        numbers = iter(range(len(photos)))
        coming = deque(pool.submit(photos.batch, number) for number in islice(numbers, BATCHES_AHEAD))
        while coming:
            images = coming.popleft().result()
            coming.extend(pool.submit(photos.batch, number) for number in islice(numbers, 1))
            yield place(images)


def epoch(
    step: Callable[..., tuple[State, Any]], state: State, batches: Iterator[Any], *, synchronised: bool
) -> tuple[float, float, State]:
    """Train on the batches; return the seconds spent waiting for them, the seconds in all, and the new state."""
    waited, loss = 0.0, None
    began = time.perf_counter()
    while True:
        asked = time.perf_counter()
        found = next(batches, None)
        if found is None:
            break
        if synchronised:
            finished(found)
        waited += time.perf_counter() - asked
        state, loss = step(state, *found)
        if synchronised:
            finished((state, loss))
    finished((state, loss))
    return waited, time.perf_counter() - began, state


def finished(values: Any) -> None:
    """Wait until the device has computed them."""
    jax.block_until_ready(values)  # type: ignore[no-untyped-call]


def placing(distribution: Any) -> Callable[[Any], Any]:
    """Return what copies arrays to the device, or in equal shares to several."""
    if distribution is None:
        return lambda arrays: jax.tree.map(jax.device_put, arrays)

    def place(array: Any) -> Any:
        return keras.distribution.distribute_tensor(jax.numpy.asarray(array), distribution.get_data_layout(array.shape))

    return lambda arrays: jax.tree.map(place, arrays)


def print_row(row: Row) -> None:
    """Print one line of the table."""
    print(
        f"{row.architecture:14}{row.batch:>6}{row.resident_per_s:>10.1f}{row.step_ms:>9.1f}{row.fed_per_s:>10.1f}"
        f"{row.waits:>8.1%}{row.decoding_per_s:>10.1f}{row.decoding_waits:>8.1%}{row.compile_s:>9.1f}",
        flush=True,
    )


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "device": jax.devices()[0].device_kind,
        "devices": len(jax.devices()),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{package: version(package) for package in ("jax", "keras", "numpy", "pillow")},
    }


if __name__ == "__main__":
    main()
