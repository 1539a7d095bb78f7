"""Precision, XLA, several devices and the JAX backend: each gives the network that plain training gives."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from classifier.errors import InvalidRequest
from classifier.registry.manifest import Manifest
from tests.support import photo_sets
from tests.support.bundles import write_bundle
from tests.support.interrupted_training import QUICK_TO_COMPILE
from tests.support.processes import ROOT
from trainer.compute import processes
from trainer.compute.strategy import Strategy, configure
from trainer.data.source import PhotoSource
from trainer.export.litert import convert
from trainer.export.measuring import check_heatmaps
from trainer.networks import backbones, heads
from trainer.networks.backbones import input_spec
from trainer.networks.gradcam import serving_model
from trainer.run.config import TrainingConfig
from trainer.run.sections import ComputeConfig, DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import start_run
from trainer.training import train
from trainer.training.trained import load_trained

PROGRAM = (sys.executable, "-m", "tests.support.training_on_devices")
TRAINER = Path(sys.executable).with_name("trainer")
SHARED = {"tensorflow": "mirrored", "jax": "data-parallel"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """27 training photos: batches of 10 leave a last one of 7."""
    return photo_sets.food_101(tmp_path_factory.mktemp("photos"), train=12)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    keras.utils.set_random_seed(11)
    path = tmp_path_factory.mktemp("weights") / "base_cnn.weights.h5"
    backbone = backbones.build_backbone(NetworkConfig("base_cnn", "none", image_size=32))
    backbones.backbone_core(backbone).save_weights(path)
    return path


@pytest.fixture(scope="module")
def environments(tmp_path_factory) -> dict[str, dict[str, str]]:
    """By backend. JAX has two virtual CPUs, keeps what it has compiled for the next process, and has no TensorFlow."""
    without = tmp_path_factory.mktemp("without")
    (without / "tensorflow.py").write_text("raise ImportError('not on a machine with JAX alone')\n")
    return {
        "tensorflow": {**os.environ, "KERAS_BACKEND": "tensorflow"},
        "jax": {
            **os.environ,
            "KERAS_BACKEND": "jax",
            "PYTHONPATH": str(without),
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2 " + QUICK_TO_COMPILE,
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
    }


@pytest.fixture(scope="module")
def runs(photos, weights, environments, tmp_path_factory) -> Callable[[str], tuple[Path, Path]]:
    """By backend, the runs of the same training on one device and shared out to two."""

    @functools.cache
    def trained(backend: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(backend)
        alone = _config(photos, weights, augment=False)
        shared = replace(alone, compute=ComputeConfig(distribution=SHARED[backend]))
        # TensorFlow's devices draw for themselves; JAX's draw what one would.
        more = {"WITHOUT_DROPOUT": "1"} if backend == "tensorflow" else {}
        done = _train({**environments[backend], **more}, (alone, folder / "alone"), (shared, folder / "shared"))
        assert done.returncode == 0, done.stderr
        return folder / "alone", folder / "shared"

    return trained


def _config(photos: Path, weights: Path, compute: ComputeConfig | None = None, **schedule) -> TrainingConfig:
    defaults = {"head_epochs": 2, "fine_tune_epochs": 2, "fine_tune_layers": 2, "average_epochs": 1.5, "batch_size": 10}
    return TrainingConfig(
        DataConfig("food-101", str(photos), validation_share=0.25),
        NetworkConfig("base_cnn", str(weights), image_size=32, dropout=0.0),
        ScheduleConfig(**{**defaults, "fine_tune_learning_rate": 1e-3, **schedule}),
        compute or ComputeConfig(),
    )


def _train(environment: dict[str, str], *jobs: tuple[TrainingConfig, Path]) -> subprocess.CompletedProcess[str]:
    arguments = [part for config, run in jobs for part in (json.dumps(config.to_json()), str(run))]
    return subprocess.run([*PROGRAM, *arguments], env=environment, capture_output=True, text=True)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The weights in a file, without the optimizer that a compiled head was saved with."""
    arrays: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return {name: array for name, array in arrays.items() if "optimizer" not in name.split("/")}


@pytest.mark.long
@pytest.mark.parametrize("backend", SHARED)
def test_two_devices_learn_what_one_learns(weights, runs, backend):
    alone, shared = runs(backend)
    logs = [pd.read_csv(run / "log.csv") for run in (alone, shared)]
    assert logs[0]["phase"].tolist() == ["head"] * 2 + ["fine-tuning"] * 2
    for column in ("val_log_loss", "val_accuracy", "log_loss"):
        # The photos that fill a batch up count in the average of an epoch's training log-loss, and only there.
        np.testing.assert_allclose(logs[1][column], logs[0][column], rtol=2e-2 if column == "log_loss" else 1e-4)
    changed = 0.0
    before = list(_arrays(weights).values())
    for part in ("backbone", "head"):
        one, two = (_arrays(run / f"{part}.weights.h5") for run in (alone, shared))
        assert one
        for name, array in one.items():
            np.testing.assert_allclose(two[name], array, atol=2e-4, err_msg=name)
            changed += not any(np.array_equal(array, other) for other in before)
    assert changed > 2  # the head's and some of the backbone's


@pytest.mark.long
def test_jax_resumes_as_if_undisturbed_and_tensorflow_exports(photos, weights, environments, runs, tmp_path):
    undisturbed, _ = runs("jax")
    run = tmp_path / "run"
    killed = _train({**environments["jax"], "KILL_AFTER": "1"}, (_config(photos, weights, augment=False), run))
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    def trainer(backend: str, *arguments: str | Path) -> str:
        done = subprocess.run([TRAINER, *arguments], env=environments[backend], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return " ".join(done.stdout.split())

    said = trainer("jax", "train", "--config", run / "config.json", "--run", run)
    assert "resuming after epoch 1" in said
    assert f"KERAS_BACKEND=tensorflow trainer export {run}" in said
    logs = [pd.read_csv(path / "log.csv").drop(columns="seconds") for path in (undisturbed, run)]
    pd.testing.assert_frame_equal(*logs)
    one, two = (_arrays(next((path / "checkpoints").glob("best-*"))) for path in (undisturbed, run))
    assert one
    assert one.keys() == two.keys()
    assert all(np.array_equal(two[name], array) for name, array in one.items())

    trainer("tensorflow", "export", run)
    manifest = Manifest.from_json((run / "bundle" / "manifest.json").read_bytes())
    assert manifest.metrics["heatmap_error"] < 1e-4
    assert manifest.labels == tuple(sorted(photo_sets.COLOURS))


@pytest.mark.long
def test_jax_trains_all_augmentation_and_a_head_convolution(photos, weights, environments, tmp_path):
    parts = {"flip": "both", "shear": 10.0, "rotation": 20.0, "head_views": 2}
    alone = _config(photos, weights, **parts)
    alone = replace(alone, network=replace(alone.network, head_convolution=6, head_convolution_size=3))
    shared = replace(alone, compute=ComputeConfig(distribution=SHARED["jax"]))
    runs = {name: tmp_path / name for name in ("alone", "killed", "shared")}
    done = _train(environments["jax"], (alone, runs["alone"]), (shared, runs["shared"]))
    assert done.returncode == 0, done.stderr
    killed = _train({**environments["jax"], "KILL_AFTER": "1"}, (alone, runs["killed"]))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = _train(environments["jax"], (alone, runs["killed"]))
    assert done.returncode == 0, done.stderr
    for part in ("backbone", "head"):
        one, again, two = (_arrays(run / f"{part}.weights.h5") for run in runs.values())
        assert one and all(np.array_equal(again[name], array) for name, array in one.items())
        for name, array in one.items():
            np.testing.assert_allclose(two[name], array, atol=2e-3, err_msg=name)
    logs = [pd.read_csv(runs[name] / "log.csv")["val_log_loss"] for name in ("alone", "shared")]
    np.testing.assert_allclose(*logs, rtol=1e-2)


@pytest.mark.long
@pytest.mark.parametrize("backend", SHARED)
def test_two_devices_learn_from_a_teacher_what_one_learns(photos, weights, environments, tmp_path, backend):
    """With photos without labels; JAX's is killed besides."""
    keras.utils.set_random_seed(12)
    backbone = backbones.build_backbone(NetworkConfig("base_cnn", "none", image_size=48))
    heads.classifier(backbone, heads.build_head(backbone.output_shape[-1], 3)).save(tmp_path / "network.keras")
    files = {"model.tflite": b"a model", "model.keras": (tmp_path / "network.keras").read_bytes()}
    teacher = write_bundle(tmp_path / "teacher", files, labels=tuple(sorted(photo_sets.COLOURS)))
    for number in range(3):
        photo_sets.write_photo(tmp_path / f"more/{number}.jpg", (150, 150, 50), 800 + number)
    alone = _config(photos, weights, augment=False, teacher=str(teacher))
    alone = replace(alone, data=replace(alone.data, unlabelled=str(tmp_path / "more")))
    shared = replace(alone, compute=ComputeConfig(distribution=SHARED[backend]))
    environment = {**environments[backend], **({"WITHOUT_DROPOUT": "1"} if backend == "tensorflow" else {})}
    if backend == "jax":
        killed = _train({**environment, "KILL_AFTER": "1"}, (shared, tmp_path / "shared"))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = _train(environment, (alone, tmp_path / "alone"), (shared, tmp_path / "shared"))
    assert done.returncode == 0, done.stderr
    logs = [pd.read_csv(tmp_path / name / "log.csv") for name in ("alone", "shared")]
    for column in ("val_log_loss", "val_accuracy", "log_loss"):
        np.testing.assert_allclose(logs[1][column], logs[0][column], rtol=2e-2 if column == "log_loss" else 1e-4)
    for part in ("backbone", "head"):
        one, two = (_arrays(tmp_path / name / f"{part}.weights.h5") for name in ("alone", "shared"))
        assert one
        for name, array in one.items():
            np.testing.assert_allclose(two[name], array, atol=2e-4, err_msg=name)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_the_network_that_float32_serves(photos, weights, tmp_path, precision):
    config = _config(photos, weights, ComputeConfig(precision=precision), fine_tune_epochs=1)
    run = start_run(tmp_path / "run", config)
    policies = []
    built = heads.classifier

    def seen(backbone, head, augmentation=None):
        core = backbones.backbone_core(backbone)
        policies.append({layer.dtype_policy.name for layer in core.layers if layer.weights})
        assert {layer.dtype_policy.name for layer in head.layers} == {"float32"}
        assert {variable.dtype for variable in core.trainable_variables} <= {"float32"}
        return built(backbone, head, augmentation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "classifier", seen)
        trained = train.train(config, run, Console(file=io.StringIO()))
    # Trained in the precision that was asked for, given back in float32.
    assert policies == [{precision}, {precision}, {"float32"}]
    assert keras.config.dtype_policy().name == "float32"
    log = pd.read_csv(run.log)
    assert np.isfinite(log["val_log_loss"]).all()
    source = PhotoSource(sorted((photos / "images").glob("*/*.jpg"))[:2], input_spec(config.network))
    pixels = [source.array(row) for row in range(2)]
    check_heatmaps(
        trained.backbone, trained.head, convert(serving_model(trained.backbone, trained.head, 1.0), "float32"), pixels
    )
    again = load_trained(run, config)
    for one, two in zip(trained.backbone.get_weights(), again.backbone.get_weights(), strict=True):
        assert np.array_equal(one, two)


def test_float16_has_a_loss_scale_and_the_others_have_none():
    kinds = {
        precision: type(Strategy(ComputeConfig(precision=precision)).optimizer(keras.optimizers.Adam()))
        for precision in ("float32", "mixed_float16", "mixed_bfloat16")
    }
    assert kinds["mixed_float16"] is keras.optimizers.LossScaleOptimizer
    assert kinds["float32"] is kinds["mixed_bfloat16"] is keras.optimizers.Adam


@pytest.mark.long
def test_a_compiled_training_learns_the_same(photos, weights, tmp_path):
    logs = []
    for compiled in (False, True):
        options = {"augment": False, "head_epochs": 1, "fine_tune_epochs": 1}
        config = _config(photos, weights, ComputeConfig(jit_compile=compiled), **options)
        run = start_run(tmp_path / str(compiled), config)
        train.train(config, run, Console(file=io.StringIO()))
        logs.append(pd.read_csv(run.log))
    # XLA draws other random numbers for the backbone's dropout.
    np.testing.assert_allclose(logs[1]["val_log_loss"], logs[0]["val_log_loss"], rtol=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"distribution": "data-parallel"},
            "needs KERAS_BACKEND=jax; received tensorflow, which has --distribution mir",
        ),
        ({"distribution": "mirrored"}, "needs two devices or more; found .*CPU:0. Leave it out"),
        ({"distribution": "mirrored", "jit_compile": True}, "leave out --jit-compile or --distribution mirrored"),
    ],
)
def test_options_that_do_not_fit_are_refused_with_the_remedy(options, message):
    with pytest.raises(InvalidRequest, match=message):
        configure(ComputeConfig(**options))


@pytest.mark.long
def test_two_processes_learn_what_one_learns_though_one_is_killed(photos, weights, environments, runs, tmp_path):
    """Through the command line, which is given again."""
    alone, _ = runs("jax")
    file, run = tmp_path / "asked.json", tmp_path / "run"
    config = _config(photos, weights, ComputeConfig(distribution="multi-worker"), augment=False)
    file.write_text(json.dumps(config.to_json()))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {**dict(zip(processes.SETTINGS, (address, "2"), strict=False)), "XLA_FLAGS": QUICK_TO_COMPILE}

    def train(*chief: str | Path) -> tuple[list[int], list[tuple[str, str]]]:
        processes = [
            subprocess.Popen(
                [*command, "train", "--config", file, "--run", run],
                env={**environments["jax"], **settings, "KERAS_DISTRIBUTION_PROCESS_ID": str(number)},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for number, command in enumerate((chief, [TRAINER]))
        ]  # fmt: skip
        try:
            said = [process.communicate(timeout=240) for process in processes]
        finally:
            for process in processes:
                process.kill()
        return [process.returncode for process in processes], said

    ended, said = train(sys.executable, "-m", "tests.support.training_killed")
    assert ended[0] == -signal.SIGKILL, said
    assert ended[1] != 0, said
    ended, said = train(TRAINER)
    assert ended == [0, 0], said
    assert "resuming after epoch 1" in " ".join(said[0][0].split())
    # The chief alone writes and tells.
    assert "fine-tuning   2/2" in said[0][0]
    assert f"next: KERAS_BACKEND=tensorflow trainer export {run}" in " ".join(said[0][0].split())
    assert "process 1 of 2 is done" in said[1][0]
    assert "fine-tuning" not in said[1][0]
    # The best epoch, which is exported, and the last one, from which more epochs would go on.
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert [name.split("-")[0] for name in kept] == ["best", "last"]
    logs = [pd.read_csv(path / "log.csv") for path in (alone, run)]
    for column in ("val_log_loss", "val_accuracy", "log_loss"):
        np.testing.assert_allclose(logs[1][column], logs[0][column], rtol=2e-2 if column == "log_loss" else 1e-4)
    one, two = (_arrays(next((path / "checkpoints").glob("best-*"))) for path in (alone, run))
    assert one
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, atol=2e-4, err_msg=name)


@pytest.mark.long
def test_the_gpu_benchmark_runs_without_tensorflow(environments, tmp_path):
    program = ROOT / "bench" / "gpu.py"
    sizes = ["--architectures", "base_cnn", "--image-size", "32", "--batch-sizes", "4", "--steps", "2", "--layers", "1"]
    done = subprocess.run(
        [sys.executable, program, *sizes, "--devices", "2", "--json", tmp_path / "figures.json"],
        env=environments["jax"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert row["resident_per_s"] > 0
    assert 0 <= row["waits"] <= 1
    assert "figures of the CPU" in done.stdout
