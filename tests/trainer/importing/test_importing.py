"""From a file and labelled photos to a bundle: which scaling fits, calibration, figures, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from rich.console import Console

from classifier.errors import InvalidRequest
from classifier.registry.bundle import read_bundle
from classifier.serving.model import Model
from tests.support.foreign import (
    LABELS,
    SIDE,
    colour_network,
    dense,
    labelled_photos,  # noqa: F401  # fixture
    run_tflite,
    to_tflite,
    with_metadata,
)
from trainer.importing.bundle import Request, import_model
from trainer.importing.convert import convert
from trainer.importing.graph import Graph
from trainer.importing.model import Told
from trainer.importing.quantise import CALIBRATION, quantise
from trainer.run.export_options import VariantName
from trainer.run.folder import RunFolder


@pytest.fixture(name="network", scope="module")
def network_fixture() -> keras.Model:
    return colour_network()


@pytest.fixture(name="content", scope="module")
def content_fixture(network: keras.Model) -> bytes:
    return to_tflite(network)


def imported(content: bytes, folder: Path, console: Console, photos: Path | None = None, **told: Any) -> Any:
    (folder / "m.tflite").write_bytes(content)
    (folder / "labels.txt").write_text("\n".join(LABELS))
    request = Request(folder / "m.tflite", Told(**told), "m", str(photos) if photos else None)
    (folder / "run").mkdir(exist_ok=True)
    return import_model(request, RunFolder(folder / "run"), console)


def test_photos_find_the_scaling_calibrate_and_measure(content: bytes, photos: Path, tmp_path: Path, console: Console):
    made = imported(content, tmp_path, console, photos)
    manifest = read_bundle(tmp_path / "run/bundle")
    assert manifest == made.manifest
    assert manifest.training["imported"]["scaling"]["name"] in ("-1..1", "torch")
    assert manifest.training["temperature"] != 1.0
    assert manifest.metrics["test"]["top_1"] == manifest.metrics["validation"]["top_1"] == 1.0
    assert manifest.metrics["calibration"]["temperature"] == manifest.training["temperature"]
    assert manifest.variants["float32"]["bytes"] == manifest.files["model.tflite"].bytes
    assert manifest.no_gradcam is None
    assert len(manifest.golden) == 4
    said = console.file.getvalue()
    assert "fits best" in said and "These photos do not tell" in said


def test_a_file_of_our_own_is_told_apart(tiny_bundle_original: Path, tmp_path: Path, console: Console):
    content = (tiny_bundle_original / "model.tflite").read_bytes()
    with pytest.raises(InvalidRequest, match=r"one of Pointer's own.*`admin_cli publish"):
        imported(content, tmp_path, console)


def test_a_told_scaling_that_collapses_is_refused(content: bytes, photos: Path, tmp_path: Path, console: Console):
    told = with_metadata(content, LABELS, [0.0], [1.0])
    with pytest.raises(InvalidRequest, match=r"scaling 0\.\.255 to fit; with it .* --scaling .*-1\.\.1"):
        imported(told, tmp_path, console, photos)
    assert not (tmp_path / "run/bundle").exists()
    made = imported(told, tmp_path, console, photos, scaling="-1..1")
    assert made.manifest.training["imported"]["scaling"]["name"] == "-1..1"


def test_labels_in_another_order_fit_no_scaling(content: bytes, photos: Path, tmp_path: Path, console: Console):
    other = tmp_path / "other.txt"
    other.write_text("\n".join([*LABELS[1:], LABELS[0]]))
    with pytest.raises(InvalidRequest, match="in the order of the model's outputs"):
        imported(content, tmp_path, console, photos, labels=other)


def test_without_photos_it_is_told_or_refused(content: bytes, tmp_path: Path, console: Console):
    with pytest.raises(InvalidRequest, match="Expected --scaling"):
        imported(content, tmp_path, console)
    made = imported(content, tmp_path, console, scaling="127.5:127.5")
    assert made.manifest.golden == ()
    assert "test" not in made.manifest.metrics
    assert read_bundle(tmp_path / "run/bundle").thresholds == {}


def test_folders_named_like_no_label_are_refused(content: bytes, tmp_path: Path, photos: Path, console: Console):
    other = tmp_path / "other.txt"
    other.write_text("red\ngreen\ncyan\nblack\n")
    with pytest.raises(InvalidRequest, match="Blue, Grey"):
        imported(content, tmp_path, console, photos, labels=other)


def test_a_model_that_cannot_explain_says_why(tmp_path: Path, console: Console):
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 8, strides=8)(image))
    content = to_tflite(keras.Model(image, dense()(dense(8, "tanh")(x))))
    made = imported(content, tmp_path, console, scaling="0..1")
    assert "TANH" in made.manifest.no_gradcam
    assert not Model((tmp_path / "run/bundle/model.tflite").read_bytes()).has_heatmaps


def test_a_keras_file_and_a_saved_model_become_the_same_file(network: keras.Model, tmp_path: Path):
    network.save(tmp_path / "m.keras")
    network.export(str(tmp_path / "sm"), verbose=False)
    image = np.random.default_rng(0).uniform(-1, 1, (1, SIDE, SIDE, 3)).astype(np.float32)
    for kind, file in (("keras", "m.keras"), ("saved-model", "sm")):
        (tmp_path / kind).mkdir()
        said = convert(tmp_path / kind, kind, tmp_path / file)
        assert said == {"shape": [1, SIDE, SIDE, 3]}
        given = run_tflite((tmp_path / kind / "float32.tflite").read_bytes(), image)
        np.testing.assert_allclose(given, np.asarray(network(image)), atol=1e-5)


def test_a_quantised_network_takes_and_gives_what_it_did(content: bytes, tmp_path: Path):
    rng = np.random.default_rng(0)
    (tmp_path / "float32.tflite").write_bytes(content)
    np.save(tmp_path / CALIBRATION, rng.integers(0, 256, (8, SIDE, SIDE, 3), np.uint8))
    variants: tuple[VariantName, ...] = ("float16", "int8-dynamic", "int8")
    assert quantise(tmp_path, variants=list(variants), scaling="-1..1") == {"failures": {}}
    image = rng.uniform(-1, 1, (1, SIDE, SIDE, 3)).astype(np.float32)
    for variant in variants:
        quantised = (tmp_path / f"{variant}.tflite").read_bytes()
        graph = Graph(quantised)
        assert graph.dtype(graph.inputs[0]) is graph.dtype(graph.outputs[0]) is np.float32
        np.testing.assert_allclose(run_tflite(quantised, image), run_tflite(content, image), atol=0.1)
