"""Test-time augmentation: everything is the mean over the photo and its mirror image, wherever it is asked for."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from classifier.endpoints.app import create_app
from classifier.registry.manifest import Manifest
from classifier.serving.model import Model
from classifier.settings import Settings
from tests.support.bundles import TINY_COLOURS, TINY_SIDE, files_of
from tests.support.serving import MODEL, publish
from trainer.networks.gradcam import serving_model
from trainer.networks.heads import build_head
from trainer.networks.ood_score import feature_space, fit


@pytest.fixture
def halves() -> np.ndarray:
    """Red on the left, blue on the right."""
    image = np.empty((TINY_SIDE, TINY_SIDE, 3), np.uint8)
    image[:, :17], image[:, 17:] = TINY_COLOURS["red"], TINY_COLOURS["blue"]
    return image


@pytest.fixture(scope="module")
def sided_files(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, bytes]:
    """Files of a network that sees left and right differently, without and with a score."""
    folder = tmp_path_factory.mktemp("sided")
    keras.utils.set_random_seed(4)
    image = keras.Input((TINY_SIDE, TINY_SIDE, 3), dtype="uint8", name="image")
    features = keras.layers.Conv2D(8, 7, strides=5, activation="relu", name="edges")(
        keras.layers.Rescaling(1 / 64)(image)
    )
    backbone, head = keras.Model(image, features, name="backbone"), build_head(8, len(TINY_COLOURS))
    rng = np.random.default_rng(4)
    pooled, truth = rng.random((40, 8)).astype(np.float32), np.arange(40) % 4
    score = fit(feature_space(pooled, truth), pooled, np.asarray(head(pooled)))
    for name, how in (("without", None), ("with", score)):
        served = serving_model(backbone, head, score=how)
        served.export(str(folder / f"{name}.tflite"), format="litert", verbose=False)
    return {True: (folder / "with.tflite").read_bytes(), False: (folder / "without.tflite").read_bytes()}


@pytest.fixture
def bundle(tiny_bundle: Path, sided_files: dict[bool, bytes]) -> Path:
    """The tiny bundle with such a network in it."""
    (tiny_bundle / "model.tflite").write_bytes(sided_files[True])
    manifest = Manifest.from_json((tiny_bundle / "manifest.json").read_bytes())
    changed = dataclasses.replace(manifest, files=files_of(tiny_bundle), golden=())
    (tiny_bundle / "manifest.json").write_bytes(changed.to_json())
    return tiny_bundle


@pytest.fixture
def client(bundle: Path, tmp_path: Path) -> FlaskClient:
    publish(tmp_path / "store", bundle)
    return create_app(Settings(model_store=str(tmp_path / "store"), model_name=MODEL)).test_client()


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("scored", [False, True])
def test_it_is_the_mean_of_both_views(halves: np.ndarray, sided_files: dict[bool, bytes], scored: bool) -> None:
    model = Model(sided_files[scored])
    assert model.has_score == scored
    one, mirrored = model.run(halves), model.run(np.ascontiguousarray(halves[:, ::-1]))
    both = model.run(halves, tta=True)
    assert abs(one.probabilities - mirrored.probabilities).max() > 1e-4
    np.testing.assert_allclose(both.probabilities, (one.probabilities + mirrored.probabilities) / 2, atol=1e-7)
    np.testing.assert_allclose(both.heatmaps, (one.heatmaps + mirrored.heatmaps[:, :, ::-1]) / 2, atol=1e-7)
    assert both.score == pytest.approx((one.score + mirrored.score) / 2)
    assert (both.probabilities.dtype, both.heatmaps.dtype) == (np.float32, np.float32)
    again = model.run(np.ascontiguousarray(halves[:, ::-1]), tta=True)
    np.testing.assert_allclose(again.probabilities, both.probabilities, atol=1e-6)
    np.testing.assert_allclose(again.heatmaps, both.heatmaps[:, :, ::-1], atol=1e-6)


def test_heatmaps_are_mirrored_back(halves: np.ndarray, tiny_bundle: Path) -> None:
    red = Model((tiny_bundle / "model.tflite").read_bytes()).run(halves, tta=True).heatmaps[3]
    assert red[:, :2].sum() > 20 * red[:, 2:].sum()


def test_a_caller_may_ask_for_it(
    client: FlaskClient, halves: np.ndarray, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Model((bundle / "model.tflite").read_bytes())
    said = {}
    for value, tta in (("0", False), ("false", False), ("1", True), ("true", True)):
        body = client.post(f"/?tta={value}&top_k=4", data=png(halves), content_type="image/png").get_json()
        expected = model.run(halves, tta=tta)
        found = {one["label"]: one["confidence"] for one in body["predictions"]}
        assert found["red"] == pytest.approx(expected.probabilities[3], abs=2e-6)
        assert (body["tta"], body["score"]) == (tta, pytest.approx(expected.score, abs=2e-6))
        said[tta] = found
    assert said[True] != said[False]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["tta"] for line in lines if line["message"] == "Predicted."] == [False, False, True, True]


@pytest.mark.parametrize("value", ["2", "", "yes", "flip"])
def test_another_value_is_refused(client: FlaskClient, halves: np.ndarray, value: str) -> None:
    reply = client.post(f"/?tta={value}", data=png(halves), content_type="image/png")
    assert (reply.status_code, reply.get_json()["type"]) == (400, "urn:pointer:problem:invalid-request")
    assert "tta" in reply.get_json()["detail"]


def test_the_model_says_what_it_gains(client: FlaskClient) -> None:
    assert client.get("/model").get_json()["tta"] == {}
