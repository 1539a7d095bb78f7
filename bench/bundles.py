"""Bundles with random weights, through the trainer's own network and export, published and promoted in local stores.

    python bench/bundles.py mobilenet_v2|xception FOLDER

It is a program of its own so that TensorFlow never runs in the process that measures. Weights do not matter to speed;
what the network computes, and how it is exported, does.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.config import VariantName

ROOT = Path(__file__).resolve().parent.parent
MODEL = "bench"
VARIANTS: tuple[VariantName, ...] = ("float32", "int8-dynamic")
CLASSES = 101
"""As many as Food-101 has: every class has its heatmap in each forward pass."""
SOURCES = ("bench/bundles.py", "trainer/network.py", "trainer/gradcam.py", "trainer/variants.py", "requirements.txt")


def stores(architecture: str) -> dict[str, Path]:
    """Return the store of each variant, with one promoted version; made once and kept in the temporary folder."""
    digest = hashlib.sha256()
    for source in SOURCES:
        digest.update((ROOT / source).read_bytes())
    folder = Path(tempfile.gettempdir()) / f"pointer-bench-{os.getuid()}" / f"{architecture}-{digest.hexdigest()[:12]}"
    if not folder.is_dir():
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            made = Path(partial) / "stores"
            print(f"making the bundles of {architecture}, once", file=sys.stderr)
            command = [sys.executable, __file__, architecture, str(made)]
            maker = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if maker.returncode:
                raise RuntimeError(f"The bundles of {architecture} could not be made:\n{maker.stdout}")
            made.rename(folder)
    return {variant: folder / variant for variant in VARIANTS}


def make(architecture: str, folder: Path) -> None:
    """Publish and promote one bundle for each variant, each in the store ``folder/variant``."""
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"})
    import keras

    from trainer import network
    from trainer.config import NetworkConfig
    from trainer.gradcam import serving_model
    from trainer.variants import convert, with_fusible_relus

    keras.utils.set_random_seed(7)
    backbone = network.build_backbone(NetworkConfig(architecture, weights="none"))
    head = network.build_head(backbone.output_shape[-1], CLASSES)
    served = serving_model(with_fusible_relus(backbone), head)
    for variant in VARIANTS:
        publish(convert(served, variant), variant, backbone.input_shape[1], folder / variant)


def publish(content: bytes, variant: str, side: int, store: Path) -> None:
    """Put a LiteRT file into a bundle, publish that and promote it."""
    from classifier import golden
    from classifier.bundle import entry_of
    from classifier.manifest import MODEL_FILE, InputSpec, Manifest
    from classifier.registry import Registry
    from classifier.store import LocalStore

    bundle = store / "bundle"
    bundle.mkdir(parents=True)
    (bundle / MODEL_FILE).write_bytes(content)
    manifest = Manifest(
        labels=tuple(f"class {number}" for number in range(CLASSES)),
        input=InputSpec(side, side),
        files={MODEL_FILE: entry_of(content)},
        variant=variant,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    (bundle / "manifest.json").write_bytes(manifest.to_json())
    registry = Registry(LocalStore(store), MODEL)
    published = registry.publish(bundle, who="bench", replay=golden.replay).version
    assert published is not None
    registry.promote(published, who="bench", reason="to be measured", replay=golden.replay)
    shutil.rmtree(bundle)


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
