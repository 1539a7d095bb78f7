"""Test-time augmentation: everything is the mean over several views of the photo, wherever it is asked for."""

from __future__ import annotations

import base64
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
from classifier.photo.preprocessing import WHOLE, Photo, decode
from classifier.registry.manifest import InputSpec, Manifest
from classifier.serving import views
from classifier.serving.model import Model, Output
from classifier.serving.query import PASSES, VIEWS, Tta
from classifier.serving.views import View
from classifier.settings import Settings
from tests.support.bundles import TINY_COLOURS, TINY_SIDE, files_of
from tests.support.serving import MODEL, publish
from trainer.networks.gradcam import serving_model
from trainer.networks.heads import build_head
from trainer.networks.ood_score import feature_space, fit

SPEC = InputSpec(TINY_SIDE, TINY_SIDE, "stretch")


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


def photo_of(image: np.ndarray) -> Photo:
    return decode(png(image), width=TINY_SIDE, height=TINY_SIDE)


def said_of(model: Model, photo: Photo, tta: Tta) -> Output:
    return views.look(model, views.arrays_of(photo, SPEC, tta), tta)


@pytest.mark.parametrize("scored", [False, True])
def test_it_is_the_mean_of_both_views(halves: np.ndarray, sided_files: dict[bool, bytes], scored: bool) -> None:
    model = Model(sided_files[scored])
    assert model.has_score == scored
    one, mirrored = model.run(halves), model.run(np.ascontiguousarray(halves[:, ::-1]))
    both = said_of(model, photo_of(halves), "mirror")
    assert abs(one.probabilities - mirrored.probabilities).max() > 1e-4
    np.testing.assert_allclose(both.probabilities, (one.probabilities + mirrored.probabilities) / 2, atol=1e-7)
    np.testing.assert_allclose(both.heatmaps, (one.heatmaps + mirrored.heatmaps[:, :, ::-1]) / 2, atol=1e-6)
    assert both.score == pytest.approx((one.score + mirrored.score) / 2)
    assert (both.probabilities.dtype, both.heatmaps.dtype) == (np.float32, np.float32)
    again = said_of(model, photo_of(halves[:, ::-1]), "mirror")
    np.testing.assert_allclose(again.probabilities, both.probabilities, atol=1e-6)
    np.testing.assert_allclose(again.heatmaps, both.heatmaps[:, :, ::-1], atol=1e-5)


def test_crops_are_the_corners_and_the_centre_and_all_mirrors_them(
    halves: np.ndarray, sided_files: dict[bool, bytes]
) -> None:
    model, photo = Model(sided_files[True]), photo_of(np.random.default_rng(1).permuted(halves, axis=0))
    arrays = views.arrays_of(photo, SPEC, "crops")
    assert [array.shape for array in arrays] == [(TINY_SIDE, TINY_SIDE, 3)] * 5
    each = [model.run(array) for array in arrays]
    flipped = [model.run(np.ascontiguousarray(array[:, ::-1])) for array in arrays]
    crops, everything = said_of(model, photo, "crops"), said_of(model, photo, "all")
    for found, seen in ((crops, each), (everything, each + flipped)):
        np.testing.assert_allclose(found.probabilities, np.mean([one.probabilities for one in seen], axis=0), atol=1e-6)
        assert found.score == pytest.approx(np.mean([one.score for one in seen]))
        assert found.heatmaps.shape == each[0].heatmaps.shape
    mirrored = said_of(model, photo_of(np.asarray(photo.image)[:, ::-1]), "all")
    np.testing.assert_allclose(mirrored.probabilities, everything.probabilities, atol=1e-4)
    np.testing.assert_allclose(mirrored.heatmaps, everything.heatmaps[:, :, ::-1], rtol=1e-2, atol=1e-3)


def test_heatmaps_of_views_are_put_back_to_where_they_belong() -> None:
    """What a view shows at a place of the photo counts there, by the share of each cell, and nowhere else."""

    def output(maps: np.ndarray) -> Output:
        return Output(np.ones(1, np.float32), maps[None].astype(np.float32), 1.0)

    # A ramp over the photo, as each crop sees it: cell means of one linear function stay exact wherever they are put.
    cells, frame = 7, np.linspace(0, 1, 8)

    def ramp(start: float, end: float) -> np.ndarray:
        edges = np.linspace(start, end, cells + 1)
        return np.tile((edges[1:] + edges[:-1]) / 2, (cells, 1))

    seen = []
    for crop in views.CROPS:
        maps = ramp(crop[0], crop[2])
        seen += [(View(crop, False), output(maps)), (View(crop, True), output(maps[:, ::-1]))]
    (found,) = views.mean(seen).heatmaps
    assert np.abs(found - (frame[1:] + frame[:-1]) / 2).max() < 0.5 / cells / 2
    np.testing.assert_allclose(found, found[::-1], atol=1e-6)
    # One hot cell in the corner of one crop, of 7/8: it covers 49/64 of the photo's corner cell, and spills nowhere.
    hot, cold = np.zeros((cells, cells)), np.zeros((cells, cells))
    hot[0, 0] = 1
    one, other = View(views.CROPS[0], False), View(views.CROPS[3], False)
    (found,) = views.mean([(one, output(hot)), (other, output(cold))]).heatmaps
    # The other crop begins at 1/8, and shows 1/8 of the first cell either way.
    np.testing.assert_allclose(found[0, 0], (49 / 64) / (1 + 1 / 64), rtol=1e-6)
    assert np.count_nonzero(found) == 1
    (plain,) = views.mean([(View(WHOLE, False), output(hot)), (View(WHOLE, True), output(hot))]).heatmaps
    assert (plain[0, 0], plain[0, -1], plain.sum()) == pytest.approx((0.5, 0.5, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_a_window_is_that_of_the_upright_photo(orientation: int, resize: str) -> None:
    ramp = np.mgrid[:96, :160].astype(np.float32)
    pixels = np.stack([ramp[1] * 255 / 159, ramp[0] * 255 / 95, np.zeros_like(ramp[0])], axis=-1).astype(np.uint8)
    stored = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    stored.save(file, "PNG", exif=exif)
    photo = decode(file.getvalue(), width=32, height=32)
    upright = np.asarray(photo.image, np.float32)
    left, top, right, bottom = photo.region(32, 32, resize)
    for x0, y0, x1, y1 in views.CROPS:
        seen = photo.array(32, 32, resize, (x0, y0, x1, y1)).astype(np.float32).mean(axis=(0, 1))
        edges = (
            left + x0 * (right - left),
            left + x1 * (right - left),
            top + y0 * (bottom - top),
            top + y1 * (bottom - top),
        )
        columns = slice(round(edges[0] * upright.shape[1]), round(edges[1] * upright.shape[1]))
        rows = slice(round(edges[2] * upright.shape[0]), round(edges[3] * upright.shape[0]))
        np.testing.assert_allclose(seen, upright[rows, columns].mean(axis=(0, 1)), atol=2)


def test_heatmaps_are_mirrored_back(halves: np.ndarray, tiny_bundle: Path) -> None:
    model = Model((tiny_bundle / "model.tflite").read_bytes())
    for tta in VIEWS:
        red = said_of(model, photo_of(halves), tta).heatmaps[3]
        assert red[:, :2].sum() > 10 * red[:, 2:].sum(), tta


def test_a_caller_may_ask_for_it(
    client: FlaskClient, halves: np.ndarray, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Model((bundle / "model.tflite").read_bytes())
    asked: tuple[tuple[str, Tta], ...] = (
        ("0", ""), ("false", ""), ("1", "mirror"), ("True", "mirror"), ("mirror", "mirror"), ("crops", "crops"),
        ("all", "all"), ("crops", "crops"),
    )  # fmt: skip
    said = {}
    for value, tta in asked:
        body = client.post(f"/?tta={value}&top_k=4", data=png(halves), content_type="image/png").get_json()
        expected = said_of(model, photo_of(halves), tta)
        found = {one["label"]: one["confidence"] for one in body["predictions"]}
        assert found["red"] == pytest.approx(expected.probabilities[3], abs=2e-6)
        assert (body["tta"], body["score"]) == (tta != "", pytest.approx(expected.score, abs=2e-6))
        assert body.get("views") == (PASSES[tta] if tta else None)
        said[tta] = found
    assert len({tuple(found.values()) for found in said.values()}) == 4
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [(line["tta"], line["views"], line["cached"]) for line in lines if line["message"] == "Predicted."]
    assert [views for _, views, _ in told] == [1, 1, 2, 2, 2, 5, 10, 5]
    assert [cached for *_, cached in told] == [False, True, False, True, True, False, False, True]


@pytest.mark.parametrize("value", [True, 1, "mirror", "crops", "all", False, None])
def test_json_may_ask_for_it(client: FlaskClient, halves: np.ndarray, value: object) -> None:
    photo = base64.b64encode(png(halves)).decode()
    reply = client.post("/", json={"image": photo, "tta": value})
    expected = {True: 2, "mirror": 2, "crops": 5, "all": 10}.get(value)  # type: ignore[call-overload]
    assert (reply.status_code, reply.get_json().get("views")) == (200, expected)
    for wrong in ("both", "1", 2):
        reply = client.post("/", json={"image": photo, "tta": wrong})
        assert reply.status_code == 400
        assert "Expected tta to be true, false, mirror, crops or all; received" in reply.get_json()["detail"]


@pytest.mark.parametrize("value", ["2", "", "yes", "flip", "Crops"])
def test_another_value_is_refused(client: FlaskClient, halves: np.ndarray, value: str) -> None:
    reply = client.post(f"/?tta={value}", data=png(halves), content_type="image/png")
    assert (reply.status_code, reply.get_json()["type"]) == (400, "urn:pointer:problem:invalid-request")
    assert "tta" in reply.get_json()["detail"]


def test_the_model_says_what_it_gains(client: FlaskClient) -> None:
    assert client.get("/model").get_json()["tta"] == {}
