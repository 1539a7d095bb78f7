"""Bundles with random weights, through the trainer's own network and export, published and promoted in local stores.

    python bench/bundles.py mobilenet_v2|xception FOLDER

The same network with the same weights is also kept as a Keras file, for the peers. It is a program of its own so that
TensorFlow never runs in the process that measures. Weights do not matter to speed; what the network computes, and how
it is exported, does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from trainer.run.export_options import VariantName

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

MODEL = "bench"
VARIANTS: tuple[VariantName, ...] = ("float32", "int8-dynamic", "int8")
CLASSES = 101
"""As many as Food-101 has: every class has its heatmap in each forward pass."""
CONTRAST = 8.0
"""How much larger than usual the head's random weights are: one class stands out, and answers can be compared."""
CALIBRATION_PHOTOS = 24
KERAS_FILE, FACTS_FILE = "keras/model.keras", "facts.json"
SOURCES = (
    "bench/bundles.py",
    "trainer/networks/backbones.py",
    "trainer/networks/gradcam.py",
    "trainer/export/litert.py",
    "requirements.txt",
)


def stores(architecture: str) -> dict[str, Path]:
    """Return the store of each variant, with one promoted version."""
    folder = made(architecture)
    return {variant: folder / variant for variant in VARIANTS}


def made(architecture: str) -> Path:
    """Return the folder with the stores, the Keras file and its facts; made once and kept in the temporary folder."""
    digest = hashlib.sha256()
    for source in SOURCES:
        digest.update((ROOT / source).read_bytes())
    folder = Path(tempfile.gettempdir()) / f"pointer-bench-{os.getuid()}" / f"{architecture}-{digest.hexdigest()[:12]}"
    if not folder.is_dir():
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            new = Path(partial) / "made"
            print(f"making the bundles of {architecture}, once", file=sys.stderr)
            command = [sys.executable, __file__, architecture, str(new)]
            maker = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if maker.returncode:
                raise RuntimeError(f"The bundles of {architecture} could not be made:\n{maker.stdout}")
            new.rename(folder)
    return folder


def make(architecture: str, folder: Path) -> None:
    """Publish and promote one bundle for each variant, each in the store ``folder/variant``; save the Keras file."""
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"})
    import keras
    import numpy as np

    from trainer.export.litert import convert_all, with_fusible_relus
    from trainer.networks import backbones, heads
    from trainer.networks.gradcam import serving_model
    from trainer.run.sections import NetworkConfig

    keras.utils.set_random_seed(7)
    backbone = backbones.build_backbone(NetworkConfig(architecture, weights="none"))
    head = heads.build_head(backbone.output_shape[-1], CLASSES)
    side = backbone.input_shape[1]
    settle(backbone, np.stack([*calibration_photos(side)][:8]))
    logits = head.get_layer(heads.LOGITS)
    logits.set_weights([CONTRAST * weights for weights in logits.get_weights()])
    save_plain(backbone, head, folder)
    served = serving_model(with_fusible_relus(backbone), head)
    contents, failures = convert_all(served, lambda: calibration_photos(side))
    for variant in VARIANTS:
        if variant in failures:
            raise RuntimeError(failures[variant])
        publish(contents[variant], variant, side, folder / variant)


def settle(backbone: Any, photos: NDArray[np.uint8]) -> None:
    """Give every batch normalisation the statistics of these photos: without, all features of random weights vanish."""
    from keras import layers

    from trainer.networks import backbones

    norms = [
        layer for layer in backbones.backbone_core(backbone).layers if isinstance(layer, layers.BatchNormalization)
    ]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    backbone(photos, training=True)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum


def save_plain(backbone: Any, head: Any, folder: Path) -> None:
    """Save the network as guides build it: one flat model from scaled float32 photos to probabilities."""
    import keras
    from keras import layers

    from trainer.networks import backbones, heads

    core = backbones.backbone_core(backbone)
    trained = head.get_layer(heads.LOGITS)
    answer = layers.Dense(CLASSES, activation="softmax")
    model = keras.Model(core.input, answer(layers.GlobalAveragePooling2D()(core.output)))
    answer.set_weights(trained.get_weights())
    file = folder / KERAS_FILE
    file.parent.mkdir(parents=True)
    model.save(file)
    file.with_name("labels.json").write_text(json.dumps(labels()))
    (folder / FACTS_FILE).write_text(json.dumps({"multiplications": sum(map(multiplications, model.layers))}) + "\n")


def multiplications(layer: Any) -> int:
    """Return how many multiplications with weights a convolution or dense layer makes for one photo; else 0."""
    from keras import layers

    if isinstance(layer, layers.Dense):
        return int(layer.kernel.shape[0] * layer.kernel.shape[1])
    if not isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.SeparableConv2D):
        return 0
    _, rows, columns, _ = layer.output.shape
    # Each weight is used once at each place of the output.
    kernels = [weight for weight in layer.weights if len(weight.shape) == 4]
    return int(rows * columns * sum(kernel.shape.num_elements() for kernel in kernels))


def calibration_photos(side: int) -> Iterator[NDArray[np.uint8]]:
    """Yield drawn photos; the ranges that calibrated int8 learns from them do not matter to speed either."""
    import numpy as np

    from bench.preprocessing import rendered_scene

    for seed in range(CALIBRATION_PHOTOS):
        yield np.asarray(rendered_scene((side, side), seed))


def labels() -> list[str]:
    """Return the names of the classes."""
    return [f"class {number}" for number in range(CLASSES)]


def publish(content: bytes, variant: str, side: int, store: Path) -> None:
    """Put a LiteRT file into a bundle, publish that and promote it."""
    from classifier.registry.bundle import entry_of
    from classifier.registry.fields import now
    from classifier.registry.manifest import MODEL_FILE, InputSpec, Manifest
    from classifier.registry.rules import Registry
    from classifier.serving import golden
    from classifier.storage.local import LocalStore

    bundle = store / "bundle"
    bundle.mkdir(parents=True)
    (bundle / MODEL_FILE).write_bytes(content)
    manifest = Manifest(
        labels=tuple(labels()),
        input=InputSpec(side, side),
        files={MODEL_FILE: entry_of(content)},
        variant=variant,
        created_at=now(),
    )
    (bundle / "manifest.json").write_bytes(manifest.to_json())
    registry = Registry(LocalStore(store), MODEL)
    published = registry.publish(bundle, who="bench", replay=golden.replay).version
    assert published is not None
    registry.promote(published, who="bench", reason="to be measured", replay=golden.replay)
    shutil.rmtree(bundle)


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
