"""How fast photos reach a training, and how fast phase one is, next to the classic recipe. On Food-101's photos.

    python bench/training.py [--data DIR] [--weights FILE] [--epochs 10] [--only pipeline|phase-one] [--json FILE]

Pipelines: images/s of batches of 32 at 299x299 in the first epoch and, as the median, in later ones. Pointer's
`flow_from_dataframe` and Keras's `ImageDataGenerator.flow_from_dataframe` run through the threads that `fit` gives
them, as many as there are CPUs for both; tf.data decodes in parallel and is run without and with its cache. Pointer
resizes as when serving, antialiased. The two peers do not, as is their default (Keras's takes the nearest pixel,
tf.data's interpolates), so each is run a second time with an antialiased bilinear filter: like for like.

Phase one: a head on a frozen MobileNetV2, with the same number of epochs, photos, batch size, optimizer, dropout and
L2. Pointer computes the features once; its time is that of `trainer.training.train.train`, which also reads and checks
every photo. The classic recipe runs the backbone on every batch of every epoch, without augmentation. Both are
measured in full, with all that comes before the first epoch; nothing is extrapolated.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from bench import written  # noqa: E402

BATCH = 32
SIDE = 299
HEAD_SIDE = 224
RATE, DROPOUT = 3e-4, 0.2
WEIGHTS = "mobilenet_v2_1.0_224_no_top.weights.h5"
Batches = Callable[[], Iterator[Any]]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = ROOT.parent / "shared"
    data = Path(os.environ.get("POINTER_DATA", shared / "data"))
    weights = Path(os.environ.get("POINTER_WEIGHTS", shared / "weights"))
    parser.add_argument("--data", type=Path, default=data, help="folder with food-101 (default: %(default)s)")
    parser.add_argument("--weights", type=Path, default=weights / WEIGHTS, help="MobileNetV2's (default: %(default)s)")
    parser.add_argument("--only", choices=("pipeline", "phase-one"), help="default: both")
    parser.add_argument("--photos", type=int, help="only so many of each class and split (default: all)")
    parser.add_argument("--later", type=int, default=3, help="epochs of a pipeline after its first")
    parser.add_argument("--epochs", type=int, default=10, help="of the head (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    folder = options.data / "food-101"
    if not (folder / "images").is_dir():
        print(f"Nothing to measure: expected Food-101's photos in {folder}. Give --data, or set POINTER_DATA.")
        return
    figures: dict[str, Any] = {"cpus": len(os.sched_getaffinity(0)), "load_before": round(os.getloadavg()[0], 2)}
    if options.only != "phase-one":
        figures["pipelines"] = measure_pipelines(folder, options.photos, options.later)
        print_pipelines(figures["pipelines"], figures["cpus"])
    if options.only != "pipeline" and not options.weights.is_file():
        print(f"No phase one: expected MobileNetV2's weights at {options.weights}. Give --weights, or POINTER_WEIGHTS.")
    elif options.only != "pipeline":
        figures["phase_one"] = measure_phase_one(folder, options.weights, options.epochs, options.photos)
        print_phase_one(figures["phase_one"], options.epochs)
    figures["load_after"] = round(os.getloadavg()[0], 2)
    print(f"\nload {figures['load_before']} before, {figures['load_after']} after")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure_pipelines(folder: Path, most: int | None, later: int) -> list[dict[str, Any]]:
    """Return images/s of the first and the later epochs of each pipeline; their later epochs take turns."""
    frame = training_photos(folder, most)
    pipelines = {
        "Pointer flow_from_dataframe": pointer_batches(frame, folder, SIDE),
        "Keras ImageDataGenerator": classic_batches(frame, folder, SIDE),
        "the same, antialiased": classic_batches(frame, folder, SIDE, interpolation="bilinear"),
        "tf.data": tf_data_batches(frame, folder),
        "tf.data, antialiased": tf_data_batches(frame, folder, antialias=True),
        "tf.data with cache()": tf_data_batches(frame, folder, cached=True),
    }
    drain(pipelines["tf.data"](), at_most=4)  # fills the page cache and starts TensorFlow's threads
    first = {name: len(frame) / drain(batches()) for name, batches in pipelines.items()}
    rates: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(later):
        for name, batches in pipelines.items():
            rates[name].append(len(frame) / drain(batches()))
    return [
        {"pipeline": name, "photos": len(frame), "first": round(first[name], 1), "later": round(median(found), 1)}
        for name, found in rates.items()
    ]


def pointer_batches(frame: Any, folder: Path, side: int) -> Batches:
    """Return Pointer's pipeline: uint8."""
    from trainer.data.generator import flow_from_dataframe

    batches = flow_from_dataframe(frame, folder, target_size=(side, side), batch_size=BATCH)
    return lambda: through_threads(batches)


def classic_batches(frame: Any, folder: Path, side: int, interpolation: str = "nearest") -> Batches:
    """Return Keras's classic pipeline: float32, scaled to -1..1."""
    batches = classic_iterator(frame, folder, side, shuffle=True, interpolation=interpolation)
    return lambda: through_threads(batches)


def classic_iterator(frame: Any, folder: Path, side: int, *, shuffle: bool, interpolation: str = "nearest") -> Any:
    """Return `ImageDataGenerator.flow_from_dataframe` with a thread a CPU; Pillow's "bilinear" antialiases."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    with redirect_stdout(StringIO()):
        batches = ImageDataGenerator(preprocessing_function=symmetric).flow_from_dataframe(
            frame, str(folder), x_col="image_path", y_col="label", target_size=(side, side), batch_size=BATCH,
            shuffle=shuffle, seed=7, validate_filenames=False, interpolation=interpolation,
        )  # fmt: skip
    batches.workers, batches.max_queue_size = os.cpu_count() or 1, 10
    return batches


def tf_data_batches(frame: Any, folder: Path, *, cached: bool = False, antialias: bool = False) -> Batches:
    """Return a tf.data pipeline: float32 in 0..255; the cache keeps uint8."""
    import tensorflow as tf

    labels = sorted(frame["label"].unique())
    numbers = [labels.index(label) for label in frame["label"]]

    def read(path: Any, label: Any) -> tuple[Any, Any]:
        photo = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        photo = tf.image.resize(photo, (SIDE, SIDE), antialias=antialias)
        return (tf.cast(photo, tf.uint8) if cached else photo), label

    photos = tf.data.Dataset.from_tensor_slices(([str(folder / path) for path in frame["image_path"]], numbers))
    if cached:
        photos = photos.map(read, tf.data.AUTOTUNE).cache().shuffle(len(frame))
    else:
        photos = photos.shuffle(len(frame)).map(read, tf.data.AUTOTUNE)
    photos = photos.batch(BATCH).prefetch(tf.data.AUTOTUNE)
    return lambda: iter(photos)


def through_threads(batches: Any) -> Iterator[Any]:
    """Yield one epoch's batches as `fit` gets them: made ahead by threads, in order."""
    from keras.src.trainers.data_adapters.py_dataset_adapter import OrderedEnqueuer

    enqueuer = OrderedEnqueuer(batches, workers=batches.workers, max_queue_size=batches.max_queue_size)
    enqueuer.start()
    made = enqueuer.get()
    try:
        for _ in range(len(batches)):
            yield next(made)
    finally:
        enqueuer.stop()
    batches.on_epoch_end()


def drain(batches: Iterator[Any], at_most: int | None = None) -> float:
    """Take the batches and return the seconds that it took."""
    began = time.perf_counter()
    for number, _ in enumerate(batches, start=1):
        if number == at_most:
            break
    return time.perf_counter() - began


def measure_phase_one(folder: Path, weights: Path, epochs: int, most: int | None) -> list[dict[str, Any]]:
    """Train a head in both ways; return the seconds and the best validation accuracy of each."""
    import keras
    import pandas as pd
    from rich.console import Console

    from trainer.run.config import TrainingConfig
    from trainer.run.files import read_json
    from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
    from trainer.run.starting import start_run
    from trainer.training import train

    keras.ops.zeros(1)  # what is imported and started here is not measured
    config = TrainingConfig(
        DataConfig("food-101", str(folder), max_per_class=most),
        NetworkConfig("mobilenet_v2", str(weights), dropout=DROPOUT),
        ScheduleConfig(
            head_epochs=epochs, head_learning_rate=RATE, batch_size=BATCH, fine_tune_epochs=0, patience=epochs
        ),
    )
    with tempfile.TemporaryDirectory() as temporary:
        began = time.perf_counter()
        run = start_run(Path(temporary) / "run", config)
        train.train(config, run, Console(file=StringIO()))
        seconds = time.perf_counter() - began
        best = float(pd.read_csv(run.log)["val_accuracy"].max())
        decay = float(read_json(run.state)["head_decay"])
        frame = pd.read_csv(run.data, dtype=str)
    photos = {split: frame[frame["split"] == split] for split in ("train", "validation")}
    rows = [{"recipe": "Pointer: features once", "seconds": seconds, "val_accuracy": best}]
    began = time.perf_counter()
    history = classic_recipe(photos["train"], photos["validation"], folder, weights, epochs, decay)
    classic = {"recipe": "classic: fit on the generator", "seconds": time.perf_counter() - began}
    rows.append(classic | {"val_accuracy": max(history)})
    return [row | {name: len(part) for name, part in photos.items()} for row in rows]


def classic_recipe(train: Any, validation: Any, folder: Path, weights: Path, epochs: int, decay: float) -> list[float]:
    """Fit a head through a frozen backbone, as Keras's guide to transfer learning does; return val. accuracies."""
    import keras

    keras.utils.set_random_seed(7)
    backbone = keras.applications.MobileNetV2(
        include_top=False, weights=str(weights), input_shape=(HEAD_SIDE, HEAD_SIDE, 3)
    )
    backbone.trainable = False
    image = keras.Input((HEAD_SIDE, HEAD_SIDE, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(image, training=False))
    x = keras.layers.Dropout(DROPOUT)(x)
    penalty = keras.regularizers.L2(decay)
    x = keras.layers.Dense(train["label"].nunique(), activation="softmax", kernel_regularizer=penalty)(x)
    model = keras.Model(image, x)
    model.compile(keras.optimizers.Adam(RATE), loss="categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        classic_iterator(train, folder, HEAD_SIDE, shuffle=True),
        validation_data=classic_iterator(validation, folder, HEAD_SIDE, shuffle=False),
        epochs=epochs, verbose=0,
    )  # fmt: skip
    return [float(value) for value in history.history["val_accuracy"]]


def symmetric(pixels: Any) -> Any:
    """Scale 0..255 to -1..1."""
    return pixels / 127.5 - 1.0


def training_photos(folder: Path, most: int | None) -> Any:
    """Return a frame of Food-101's training photos: path and label."""
    import pandas as pd

    names = (folder / "meta" / "train.txt").read_text().split()
    frame = pd.DataFrame(
        {"image_path": [f"images/{name}.jpg" for name in names], "label": [name.split("/")[0] for name in names]}
    )
    return frame if most is None else frame.groupby("label").head(most).reset_index(drop=True)


def print_pipelines(rows: list[dict[str, Any]], cpus: int) -> None:
    """Print images/s, and how many times the classic pipeline's that is."""
    classic = next(row for row in rows if row["pipeline"].startswith("Keras"))
    print(f"{rows[0]['photos']} photos of Food-101 to {SIDE}x{SIDE}, batches of {BATCH}, {cpus} CPUs; images/s")
    print(f"{'':30}{'first epoch':>12}{'later':>10}{'later, times Keras':>22}")
    for row in rows:
        times = f"{row['later'] / classic['later']:.1f}x"
        print(f"{row['pipeline']:30}{row['first']:>12.0f}{row['later']:>10.0f}{times:>22}")


def print_phase_one(rows: list[dict[str, Any]], epochs: int) -> None:
    """Print seconds and accuracies."""
    print(
        f"\nMobileNetV2 frozen, a head on {rows[0]['train']} photos, validated on {rows[0]['validation']}, "
        f"{epochs} epochs of each"
    )
    print(f"{'':32}{'seconds':>8}{'best val. accuracy':>20}")
    for row in rows:
        print(f"{row['recipe']:32}{row['seconds']:>8.1f}{row['val_accuracy']:>20.1%}")
    print(f"{'faster':32}{rows[1]['seconds'] / rows[0]['seconds']:>7.1f}x")


if __name__ == "__main__":
    written.program(main)
