"""The Python API: it says what the function says, of paths, bytes and Pillow images, one or many."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from classifier import Classifier, open_bundle, open_model
from classifier.errors import Corrupt, InvalidImage, InvalidRequest, NotFound
from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.local import LocalStore
from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.processes import environment
from tests.support.serving import MODEL, copy_store, damage, photo_bytes, publish


@pytest.fixture(scope="module")
def model(published: Path) -> Classifier:
    return open_model(published, MODEL)


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({}, {}),
        ({"tta": 1, "top_k": 2}, {"tta": True, "top_k": 2}),
        ({"gradcam": 1}, {"gradcam": True}),
        ({"gradcam": "blue", "gradcam_size": 100, "tta": 1}, {"gradcam": "Blue", "overlay_size": 100, "tta": True}),
    ],
)
def test_it_says_what_the_function_says(
    model: Classifier, client: FlaskClient, asked: dict[str, Any], options: dict[str, Any]
) -> None:
    photo = photo_bytes((400, 300))
    asked |= {"gradcam_format": "png"} if "gradcam" in asked else {}
    reply = client.post("/", data=photo, content_type="image/jpeg", query_string=asked).json
    result = model.predict(photo, **options)
    assert (result.label, result.status) == (reply["label"], reply["status"])
    assert (result.confidence, result.score) == pytest.approx((reply["confidence"], reply["score"]), abs=1e-6)
    told = [(each["label"], pytest.approx(each["confidence"], abs=1e-6)) for each in reply["predictions"]]
    assert list(result.predictions) == told
    assert (result.overlay is None) == ("gradcam" not in reply)
    if result.overlay is not None:
        shown = Image.open(io.BytesIO(base64.b64decode(reply["gradcam"]["image"])))
        assert np.array_equal(np.asarray(result.overlay), np.asarray(shown))


def test_a_photo_is_a_path_bytes_or_an_image(model: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "green.png"
    path.write_bytes(colour_photo("green", size=(50, 40)))
    image = Image.open(path)
    results = model.predict([path, str(path), path.read_bytes(), image, image.convert("RGBA"), image.convert("CMYK")])
    assert [each.label for each in results] == ["green"] * 6
    assert len({each.probabilities for each in results[:5]}) == 1
    (only,) = model.predict(iter([path]))
    assert only == results[0] == model.predict(path)
    assert model.predict([]) == []
    with pytest.raises(FrozenInstanceError):
        only.label = "red"


def test_an_image_is_turned_as_its_exif_says(model: Classifier) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = photo_bytes(exif=exif)
    turned = model.predict(Image.open(io.BytesIO(photo)), gradcam=True)
    assert turned.overlay is not None and turned.overlay.size == (240, 320)


def test_results_have_everything_asked_for(model: Classifier) -> None:
    assert (model.labels, model.version) == (TINY_LABELS, "v1")
    results = model.predict([colour_photo(label) for label in TINY_LABELS * 3], top_k=2)
    assert [each.label for each in results] == list(TINY_LABELS * 3)
    for each in results:
        assert len(each.predictions) == 2 and sum(each.probabilities) == pytest.approx(1, abs=1e-6)
        assert each.confidence == max(each.probabilities) == each.probabilities[TINY_LABELS.index(each.label)]


def test_mistakes_are_told(model: Classifier, tmp_path: Path) -> None:
    red = colour_photo("red")
    (tmp_path / "notes.jpg").write_text("none")
    with pytest.raises(InvalidImage, match=r"notes\.jpg: Expected"):
        model.predict([red, tmp_path / "notes.jpg"])
    with pytest.raises(InvalidImage, match="photo 2: "):
        model.predict([red, b"none"])
    with pytest.raises(NotFound, match="nowhere"):
        model.predict("nowhere.jpg")
    with pytest.raises(InvalidRequest, match="zebra"):
        model.predict(red, gradcam="zebra")
    with pytest.raises(InvalidRequest, match="top_k"):
        model.predict(red, top_k=0)


def test_versions_and_bundles_are_opened(
    tmp_path: Path, tiny_bundle: Path, confused_bundle: Path, published: Path
) -> None:
    store = copy_store(published, tmp_path / "store")
    publish(store, confused_bundle, promote=False)
    green = colour_photo("green")
    for version, said in (("production", "green"), ("v1", "green"), ("2", "blue"), (" V2 ", "blue")):
        assert open_model(store, MODEL, version).predict(green).label == said
    bundle = open_bundle(tiny_bundle)
    assert bundle.version is None and bundle.predict(green).label == "green"
    for version, name in (("v3", MODEL), ("canary", MODEL), ("production", "cats"), ("v1", "cats")):
        with pytest.raises(NotFound):
            open_model(store, name, version)
    with pytest.raises(NotFound, match="trainer export"):
        open_bundle(tmp_path)
    damage(store, "v2")
    with pytest.raises(Corrupt):
        open_model(store, MODEL, "v2")
    (tiny_bundle / "model.tflite").write_bytes(b"another")
    with pytest.raises(Corrupt):
        open_bundle(tiny_bundle)


def test_nothing_promoted_says_what_to_do(local_store: LocalStore, tiny_bundle: Path) -> None:
    Registry(local_store, MODEL).publish(tiny_bundle, who="kim", replay=golden.replay)
    with pytest.raises(NotFound, match="admin_cli promote v1"):
        open_model(local_store.folder, MODEL)


def test_importing_the_package_imports_none_of_it() -> None:
    program = (
        "import sys; import classifier; from classifier import errors\n"
        "print({'numpy', 'PIL', 'classifier.api', 'classifier.serving'} & set(sys.modules))\n"
        "from classifier import open_model; print(open_model.__module__, 'open_bundle' in dir(classifier))\n"
        "print('tensorflow' in sys.modules, hasattr(classifier, 'nothing'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["set()", "classifier.api True", "False False"]
