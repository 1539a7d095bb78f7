"""Bundles for tests: folders of plain bytes, and a tiny real one that tells colours apart."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from classifier.errors import Refused
from classifier.registry.bundle import entry_of, entry_of_file
from classifier.registry.manifest import FileEntry, GoldenCase, InputSpec, Manifest

TINY_LABELS = ("blue", "green", "grey", "red")
TINY_COLOURS = {"blue": (20, 30, 220), "green": (30, 190, 40), "grey": (120, 120, 120), "red": (220, 30, 20)}
TINY_SIDE = 32

PLAIN_FILES = {
    "model.tflite": b"a model",
    "model.keras": b"what the next training starts from",
    "golden/0.png": b"dog",
    "report/model_card.md": b"# A model",
}


def write_bundle(folder: Path, files: Mapping[str, bytes] = PLAIN_FILES, **changes: Any) -> Path:
    """Write a bundle whose files are plain bytes; `changes` are fields of its manifest."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    fields: dict[str, Any] = {
        "labels": ("cat", "dog"),
        "input": InputSpec(8, 8),
        "files": {name: entry_of(data) for name, data in files.items()},
        "golden": tuple(GoldenCase(name, "dog", (0.25, 0.75)) for name in sorted(files) if name.startswith("golden/")),
        "metrics": {"top1": 0.9},
        "data": {"fingerprint": "f" * 64},
        "created_at": "2026-01-31T12:00:00Z",
    }
    (folder / "manifest.json").write_bytes(Manifest(**{**fields, **changes}).to_json())
    return folder


def replay_bytes(manifest: Manifest, read_file: Callable[[str], bytes]) -> None:
    """A replay for bundles of plain bytes: a golden file has to hold its case's label."""
    read_file("model.tflite")
    for case in manifest.golden:
        found = read_file(case.file).decode()
        if found != case.label:
            raise Refused(f"{case.file}: expected {case.label}; found {found}")


def colour_photo(label: str, *, size: tuple[int, int] = (TINY_SIDE, TINY_SIDE), seed: int = 0) -> bytes:
    """A PNG of one of `TINY_COLOURS` with a little noise; `size` is width and height in pixels."""
    noise = np.random.default_rng(seed).integers(-15, 16, (size[1], size[0], 3))
    pixels = np.clip(np.array(TINY_COLOURS[label]) + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def build_tiny_bundle(folder: Path, *options: str) -> Path:
    """Make a real bundle: four colours, 32 x 32 pixels, heatmaps of 4 x 4, two golden photos a label.

    `options` are those of ``tiny_model.py``.
    """
    from classifier.serving.model import Model

    folder.mkdir(parents=True, exist_ok=True)
    program = Path(__file__).with_name("tiny_model.py")
    subprocess.run([sys.executable, program, folder, *options], check=True, capture_output=True, timeout=300)
    model = Model((folder / "model.tflite").read_bytes())
    (folder / "golden").mkdir()
    (folder / "report").mkdir()
    (folder / "report/model_card.md").write_text("# Tells four colours apart\n")
    golden = []
    for index, label in enumerate(TINY_LABELS * 2):
        photo = colour_photo(label, seed=index)
        (folder / f"golden/{index}.png").write_bytes(photo)
        output = model.run(np.asarray(Image.open(io.BytesIO(photo))))
        probabilities = tuple(round(float(each), 6) for each in output.probabilities)
        golden.append(GoldenCase(f"golden/{index}.png", label, probabilities))
    manifest = Manifest(
        labels=TINY_LABELS,
        input=InputSpec(TINY_SIDE, TINY_SIDE),
        files=files_of(folder),
        golden=tuple(golden),
        metrics={"top1": 1.0},
        thresholds={"unknown": 0.4},
        data={"fingerprint": "f" * 64},
        created_at="2026-01-31T12:00:00Z",
    )
    (folder / "manifest.json").write_bytes(manifest.to_json())
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Make a folder that all workers of a run share: each start of TensorFlow takes seconds."""
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / name).exists():
            make(root / f"{name}.partial")
            (root / f"{name}.partial").rename(root / name)
    return root / name


@pytest.fixture(scope="session")
def confused_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny real bundle that takes green for blue; no test may change it."""
    return made_once(tmp_path_factory, "confused-bundle", lambda folder: build_tiny_bundle(folder, "confused"))


def files_of(folder: Path) -> dict[str, FileEntry]:
    """What a manifest has to say of a bundle's files as they are now."""
    return {
        path.relative_to(folder).as_posix(): entry_of_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


@pytest.fixture(scope="session")
def tiny_bundle_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's tiny bundle, which no test may change."""
    return made_once(tmp_path_factory, "tiny-bundle", build_tiny_bundle)


@pytest.fixture
def tiny_bundle(tiny_bundle_original: Path, tmp_path: Path) -> Path:
    """A copy of a tiny real bundle: it tells red, green, blue and grey apart by a photo's mean colour."""
    return shutil.copytree(tiny_bundle_original, tmp_path / "tiny-bundle")
