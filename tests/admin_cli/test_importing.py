"""`admin_cli import`: what it hands to the trainer, and, with every kind of file, what is served in the end."""

from __future__ import annotations

import io
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image

from classifier.errors import NotFound
from classifier.photo.preprocessing import load_array
from classifier.registry.manifest import InputSpec, Manifest
from classifier.serving.model import Model
from tests.support.bundles import TINY_COLOURS, colour_photo
from tests.support.commands import Cli, cli_fixture  # noqa: F401  # fixture
from tests.support.foreign import (
    SIDE,
    colour_network,
    labelled_photos,  # noqa: F401  # fixture
    photo,
    run_tflite,
    scaled_by,
    to_tflite,
)
from trainer.importing.scaling import scaling_of
from trainer.main import app as trainer

LABELS = tuple(TINY_COLOURS)


@pytest.fixture(name="network", scope="module")
def network_fixture() -> keras.Model:
    return colour_network()


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are made under the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(name="labels")
def labels_fixture(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(LABELS))
    return path


def test_a_file_is_imported_measured_published_and_served(
    cli: Cli, network: keras.Model, labels: Path, photos: Path, tmp_path: Path
) -> None:
    """The whole way in one go: a .tflite that says nothing of its scaling, with photos."""
    content = to_tflite(network)
    (tmp_path / "flowers.tflite").write_bytes(content)
    said = cli("import", tmp_path / "flowers.tflite", "--labels", labels, "--photos", photos, "--publish").well()
    assert "trainer import" in said and "published v1; next: `admin_cli promote v1`" in " ".join(said.split())
    # Nobody is told to publish what is published a moment later.
    assert said.count("next: ") == 1 and "; `admin_cli publish runs/import-flowers` publishes it\n" in said
    bundle = tmp_path / "runs/import-flowers/bundle"
    manifest = Manifest.from_json((bundle / "manifest.json").read_bytes())
    assert manifest.labels == LABELS
    scaling = scaling_of(manifest.training["imported"]["scaling"]["name"])
    assert scaling.name in ("-1..1", "torch")  # which are alike
    assert manifest.metrics["test"]["top_1"] == 1.0
    assert manifest.golden and manifest.thresholds["unknown"] > 0
    assert {"report/report.html", "report/model_card.md", "report/test.json"} <= manifest.files.keys()
    cli("promote", "v1").well()
    (tmp_path / "red.png").write_bytes(colour_photo("red", seed=99))
    said = cli("predict", tmp_path / "red.png", "--gradcam", tmp_path / "out.jpg").well()
    assert "red, says v1" in said
    served = Model((bundle / "model.tflite").read_bytes())
    pixels = load_array(colour_photo("red", seed=99), InputSpec(SIDE, SIDE))
    logits = np.log(run_tflite(content, scaled_by(scaling, pixels)[None])[0])
    powers = np.exp(logits / manifest.training["temperature"])
    np.testing.assert_allclose(served.run(pixels).probabilities, powers / powers.sum(), atol=1e-5)


@pytest.mark.long
def test_what_was_imported_is_held_to_the_gate_and_is_no_run_to_go_on_from(
    cli: Cli, network: keras.Model, labels: Path, photos: Path, tmp_path: Path
) -> None:
    worse = keras.models.clone_model(network)
    weights = network.get_weights()
    weights[-1] = weights[-1] - 1e3 * (np.arange(len(LABELS)) == 0)  # which never says its first label
    worse.set_weights(weights)
    for name, each in (("good", network), ("worse", worse)):
        (tmp_path / f"{name}.tflite").write_bytes(to_tflite(each))
        told = ("--labels", labels, "--photos", photos, "--scaling=-1..1", "--publish")
        cli("import", tmp_path / f"{name}.tflite", *told).well()
    cli("promote", "v1").well()
    refused = cli("promote", "v2")
    assert refused.code == 5 and "top-1" in refused.out + refused.err, refused
    cli("promote", "v2", "--force", "--reason", "a test").well()

    assert "v2 was imported: there is no recipe to train again" in cli("retrain").failed(3)
    for command in ("report", "evaluate", "export"):
        with pytest.raises(NotFound, match=r"Expected a run folder with a config\.json; .*import-good has none"):
            trainer([command, str(tmp_path / "runs/import-good")], standalone_mode=False)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["keras", "h5", "saved-model", "float32", "uint8", "int8"])
def test_every_kind_of_file_is_served_as_it_was(cli: Cli, labels: Path, tmp_path: Path, kind: str) -> None:
    """With MobileNetV2, and its ImageNet weights where POINTER_WEIGHTS has them."""
    model, side = _mobilenet(), 96
    pixels = [np.asarray(Image.fromarray(photo(seed)).resize((side, side))) for seed in range(12)]
    scaled = [each.astype(np.float32) / 127.5 - 1 for each in pixels]
    path = tmp_path / f"model.{kind if kind in ('keras', 'h5') else 'tflite'}"
    if kind in ("keras", "h5"):
        model.save(path)
    elif kind == "saved-model":
        path = tmp_path / "saved"
        model.export(str(path), verbose=False)
    elif kind == "float32":
        path.write_bytes(to_tflite(model))
    else:
        path.write_bytes(to_tflite(model, io_type=getattr(tf, kind), photos=scaled))
    told = [] if kind in ("uint8", "int8") else ["--scaling", "-1..1"]
    cli("import", path, "--labels", labels, "--name", "mobile", "--publish", *told).well()
    cli("promote", "v1").well()
    buffer = io.BytesIO()
    Image.fromarray(pixels[0]).save(buffer, "PNG")
    (tmp_path / "photo.png").write_bytes(buffer.getvalue())
    reply = cli("predict", tmp_path / "photo.png", "--json", "--gradcam", tmp_path / "o.png").json()
    given = {each["label"]: each["confidence"] for each in reply["predictions"]}
    expected = np.asarray(model(scaled[0][None]))[0]
    served = Model((tmp_path / "runs/import-mobile/bundle/model.tflite").read_bytes()).run(pixels[0])
    if kind in ("uint8", "int8"):
        into = pixels[0] if kind == "uint8" else (pixels[0].astype(np.int16) - 128).astype(np.int8)
        expected = run_tflite(path.read_bytes(), into[None])[0]
    tolerance = 2 / 256 if kind in ("uint8", "int8") else 1e-5
    np.testing.assert_allclose([given[label] for label in LABELS], expected, atol=tolerance)
    assert served.heatmaps is not None and served.heatmaps.shape == (4, 3, 3)


def _mobilenet() -> keras.Model:
    keras.utils.set_random_seed(2)
    base = keras.applications.MobileNetV2((96, 96, 3), include_top=False, weights=None)
    weights = Path(os.environ.get("POINTER_WEIGHTS", "")) / "mobilenet_v2_1.0_224_no_top.weights.h5"
    if weights.is_file():
        base.load_weights(weights)
    hidden = layers.Dense(16, activation="relu")(layers.GlobalAveragePooling2D()(base.output))
    return keras.Model(base.input, layers.Dense(4, activation="softmax")(hidden))
