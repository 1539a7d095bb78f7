"""Explanations by occlusion, and models that have no Grad-CAM: what they answer, and what may be published."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from classifier.endpoints.app import create_app
from classifier.errors import CannotExplain, Corrupt, InvalidRequest
from classifier.registry.manifest import Manifest
from classifier.serving import occlusion
from classifier.serving.golden import replay
from classifier.serving.model import Model
from classifier.serving.occlusion import GRID, PASSES, explain
from classifier.serving.query import query_of
from classifier.settings import Settings
from tests.support.bundles import TINY_COLOURS, TINY_LABELS, TINY_SIDE
from tests.support.serving import MODEL, publish
from tests.support.silent import WHY, rewritten, silenced, silent_model


@pytest.fixture(scope="module")
def silent_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return silent_model(tmp_path_factory.mktemp("silent"))


@pytest.fixture
def silent_bundle(tiny_bundle: Path, silent_file: bytes) -> Path:
    return silenced(tiny_bundle, silent_file)


@pytest.fixture
def silent_client(silent_bundle: Path, tmp_path: Path) -> FlaskClient:
    publish(tmp_path / "store", silent_bundle)
    return create_app(Settings.from_env({"MODEL_STORE": str(tmp_path / "store"), "MODEL_NAME": MODEL})).test_client()


def red_on_blue() -> np.ndarray:
    image = np.empty((TINY_SIDE, TINY_SIDE, 3), np.uint8)
    image[:], image[:8, :8] = TINY_COLOURS["blue"], TINY_COLOURS["red"]
    return image


def as_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_heat_is_where_the_model_looks(silent_file: bytes):
    model, image = Model(silent_file), red_on_blue()
    seen = model.run(image)
    assert TINY_LABELS[int(seen.probabilities.argmax())] == "red"
    assert seen.heatmaps is None
    heat = explain(model, image, seen, TINY_LABELS.index("red"))
    assert heat.shape == (GRID, GRID)
    assert heat.min() >= 0
    assert heat[:2, :2].min() > 0.1
    assert heat[3:, :].max() == heat[:, 3:].max() == 0


def test_every_part_of_the_photo_is_covered_by_some_patch():
    covered = np.zeros((50, 37, 3), bool)
    for row in range(GRID):
        for column in range(GRID):
            covered |= occlusion._covered(np.zeros((50, 37, 3), np.uint8), row, column) == occlusion.GREY
    assert covered.all()


def test_a_model_with_grad_cam_can_be_explained_by_occlusion_too(client: FlaskClient):
    photo = as_png(red_on_blue())
    replies = {
        asked: client.post("/", query_string={"gradcam": asked, "gradcam_format": "heatmap"}, data=photo).get_json()
        for asked in ("1", "occlusion", "Occlusion:Red", "occlusion:label:red")
    }
    assert len({reply["gradcam"]["label"] for name, reply in replies.items() if name in ("1", "occlusion")}) == 1
    assert replies["Occlusion:Red"]["gradcam"] == replies["occlusion:label:red"]["gradcam"]
    assert replies["Occlusion:Red"]["gradcam"]["label"] == "red"
    assert replies["1"]["gradcam"]["image"] != replies["occlusion"]["gradcam"]["image"]


def test_its_price_is_64_passes(silent_file: bytes, monkeypatch: pytest.MonkeyPatch):
    model, image, runs = Model(silent_file), red_on_blue(), []
    seen = model.run(image)
    monkeypatch.setattr(model, "run", lambda image: (runs.append(1), seen)[1])
    explain(model, image, seen, 0)
    assert len(runs) == PASSES == 64


def test_a_model_of_which_so_many_passes_take_too_long_is_not_begun(
    silent_file: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(occlusion, "LONGEST", 0.0)
    model, image = Model(silent_file), red_on_blue()
    with pytest.raises(CannotExplain, match=r"64 forward passes take at most 0 s"):
        explain(model, image, model.run(image), 0)


def test_a_model_without_grad_cam_says_so_and_names_the_remedy(silent_client: FlaskClient):
    photo = as_png(red_on_blue())
    said = silent_client.post("/?gradcam=1", data=photo)
    assert said.status_code == 400
    assert said.get_json()["type"] == "urn:pointer:problem:cannot-explain"
    assert WHY in said.get_json()["detail"]
    assert "gradcam=occlusion" in said.get_json()["detail"]
    explained = silent_client.post("/?gradcam=occlusion", data=photo)
    assert explained.get_json()["gradcam"]["label"] == "red"
    plain = silent_client.post("/", data=photo)
    assert plain.get_json()["label"] == "red"
    model = silent_client.get("/model").get_json()
    assert model["no_gradcam"] == WHY
    assert "heatmaps" not in model["signature"]["outputs"]


@pytest.mark.parametrize(("file", "said"), [("silent", None), ("tiny", WHY)])
def test_a_manifest_that_says_other_than_its_file_is_not_published(
    tiny_bundle: Path, silent_file: bytes, file: str, said: str | None
):
    if file == "silent":
        (tiny_bundle / "model.tflite").write_bytes(silent_file)
    manifest = rewritten(tiny_bundle, no_gradcam=said)
    with pytest.raises(Corrupt, match="heatmaps, as the manifest says"):
        replay(manifest, lambda name: (tiny_bundle / name).read_bytes())


def test_manifests_of_before_have_grad_cam(tiny_bundle: Path):
    plain = json.loads((tiny_bundle / "manifest.json").read_bytes())
    assert "no_gradcam" not in plain
    assert Manifest.from_json(json.dumps(plain).encode()).no_gradcam is None


@pytest.mark.parametrize(
    ("value", "label", "by_occlusion"),
    [
        ("occlusion", "", True),
        ("occlusion:", "", True),
        ("OCCLUSION: pizza", " pizza", True),
        ("occlusion:label:1", "1", True),
        ("label:occlusion", "occlusion", False),
        ("pizza", "pizza", False),
        ("occlusions", "occlusions", False),
    ],
)
def test_how_it_is_asked_for(value: str, label: str, by_occlusion: bool):
    query = query_of({"gradcam": value})
    assert (query.gradcam, query.occlusion) == (label, by_occlusion)


def test_a_label_that_is_not_known_is_told_before_64_passes(client: FlaskClient):
    said = client.post("/?gradcam=occlusion:violet", data=as_png(red_on_blue()))
    assert said.status_code == 400
    assert "violet" in said.get_json()["detail"]
    with pytest.raises(InvalidRequest):
        query_of({"gradcam": f"occlusion:{'x' * 1001}"})
