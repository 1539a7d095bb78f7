"""The score of the served file: each signal by its definition, the choice of one, and OOD photos."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from classifier.endpoints.app import create_app
from classifier.errors import Corrupt, InvalidRequest, NotFound
from classifier.registry.bundle import entry_of_file
from classifier.registry.manifest import InputSpec, Manifest
from classifier.serving.model import Model
from classifier.settings import Settings
from tests.support import photo_sets, tiny_model
from tests.support.bundles import TINY_COLOURS, colour_photo
from tests.support.serving import MODEL, publish
from trainer.data import ood_photos
from trainer.export.litert import convert_all
from trainer.metrics import separation
from trainer.networks import ood_score
from trainer.networks.gradcam import serving_model
from trainer.networks.heads import build_head
from trainer.networks.ood_score import (
    METHODS,
    FeatureSpace,
    best_method,
    compare,
    compare_left_out,
    feature_space,
    fit,
    signal,
)


@pytest.fixture(scope="module")
def clusters() -> dict[str, np.ndarray]:
    """Features of three classes, of photos of something else, and logits of a head that knows the class means."""
    rng = np.random.default_rng(3)
    means = np.eye(3, 24) * 6 + 4
    truth = np.arange(300) % 3

    def near(of: np.ndarray) -> np.ndarray:
        return np.abs(of + rng.normal(0, 0.5, (len(of), 24))).astype(np.float32)

    kernel = np.eye(3, 24).T * 2
    known, other = near(means[truth]), near(np.roll(means, 8, axis=1)[truth])
    return {"truth": truth, "known": known, "other": other, "logits": known @ kernel, "other_logits": other @ kernel}


def test_each_signal_is_that_of_its_definition(clusters):
    known, logits = clusters["known"].astype(np.float64), clusters["logits"].astype(np.float64)
    space = feature_space(clusters["known"], clusters["truth"], components=5)

    def found(name: str) -> np.ndarray:
        values = np.asarray(signal(name, clusters["known"], clusters["logits"].astype(np.float32), space))
        assert values.shape == (300, 1)
        return values[:, 0]

    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found("probability"), (chances / chances.sum(axis=1, keepdims=True)).max(axis=1), 1e-5)
    np.testing.assert_allclose(found("energy"), np.log(np.exp(logits).sum(axis=1)), 1e-5)
    means = np.stack([known[clusters["truth"] == number].mean(axis=0) for number in range(3)])
    cosines = known @ means.T / np.linalg.norm(known, axis=1)[:, None] / np.linalg.norm(means, axis=1)
    np.testing.assert_allclose(found("similarity"), cosines.max(axis=1), 1e-5)
    centred = known - known.mean(axis=0)
    _, _, rows = np.linalg.svd(centred, full_matrices=False)
    outside = centred - centred @ rows[:5].T @ rows[:5]
    np.testing.assert_allclose(found("residual"), -(outside**2).sum(axis=1), rtol=1e-3, atol=1e-3)


def test_scores_lie_within_0_and_1_around_the_median_photo(clusters):
    score = fit(feature_space(clusters["known"], clusters["truth"]), clusters["known"], clusters["logits"])
    for method in METHODS:
        scores = np.asarray(score.of(method).scores(clusters["known"], clusters["logits"]))
        assert scores.shape == (300, 1)
        assert ((scores >= 0) & (scores <= 1)).all()
        assert np.median(scores) == pytest.approx(0.5, abs=0.08)


def test_ood_photos_score_lower_and_the_best_method_is_taken(clusters):
    score = fit(feature_space(clusters["known"], clusters["truth"]), clusters["known"], clusters["logits"])
    found = compare(score, (clusters["known"], clusters["logits"]), (clusters["other"], clusters["other_logits"]))
    assert found["similarity"].auroc > 0.99
    assert found["energy+similarity"].auroc > 0.99
    assert found["similarity"].accepted < 0.05
    aurocs = {name: told.auroc for name, told in found.items()}
    assert aurocs[best_method(aurocs)] >= max(aurocs.values()) - ood_score.SAME
    # The preferred one of equals; the best one otherwise.
    assert best_method(dict.fromkeys(METHODS, 0.9)) == next(iter(METHODS))
    assert best_method(dict.fromkeys(METHODS, 0.9) | {"probability": 0.95}) == "probability"


def test_classes_left_out_stand_for_ood_photos(clusters):
    train = (clusters["known"][:150], clusters["truth"][:150])
    validation = (clusters["known"][150:], clusters["truth"][150:])
    found = compare_left_out(train, validation)
    assert found["similarity"].auroc > 0.9
    assert found["kernel"].auroc > 0.9
    assert found["energy"].auroc > 0.9
    assert all(0 <= told.accepted <= 1 for told in found.values())
    # With one class there is nothing to leave out.
    one = clusters["truth"] == 0
    alone = (clusters["known"][one], clusters["truth"][one])
    found = compare_left_out(alone, alone)
    assert {(told.auroc, told.accepted) for told in found.values()} == {(0.5, 1.0)}


def test_shuffled_tiles_are_the_same_pixels_elsewhere():
    photo = np.arange(30 * 33 * 3, dtype=np.uint32).reshape(30, 33, 3).astype(np.uint8)
    shuffled = ood_score.shuffled_tiles(photo, 7, np.random.default_rng(1))
    assert shuffled.shape == photo.shape
    assert not np.array_equal(shuffled, photo)
    np.testing.assert_array_equal(np.sort(shuffled.ravel()), np.sort(photo.ravel()))
    # What does not fill a tile stays.
    np.testing.assert_array_equal(shuffled[28:], photo[28:])


def test_the_threshold_lets_95_of_100_pass_and_no_more_than_it_has_to():
    scores = np.arange(100) / 100 + 0.0000004
    limit = separation.threshold(scores)
    assert (scores >= limit).sum() == 96
    assert (scores >= limit + 0.01).sum() == 95
    assert separation.threshold(np.array([0.3, 0.3, 0.3])) == 0.3
    # Of the 30 lowest of new photos one in 31 is below the lowest of these on average, but two in 31 below the next.
    assert separation.threshold(np.arange(30) / 30) == 0.0
    rng = np.random.default_rng(3)
    below = [np.mean(rng.normal(size=200) < separation.threshold(rng.normal(size=30))) for _ in range(300)]
    assert np.mean(below) < 0.045
    assert separation.threshold(np.array([0.7])) == 0.7
    found = separation.separation(np.array([0.5, 0.6, 0.1]), np.array([0.0, 0.2]), 0.15)
    assert found == {
        "photos": 2,
        "auroc": pytest.approx(5 / 6, abs=1e-6),
        "rejected": 0.5,
        "accepted": pytest.approx(2 / 3, abs=1e-6),
    }


@pytest.mark.long
@pytest.mark.parametrize("method", ["energy+similarity", "energy+residual", "kernel"])
def test_every_exported_file_gives_the_same_score(method, clusters):
    keras.utils.set_random_seed(5)
    image = keras.Input((32, 32, 3), dtype="uint8", name="image")
    features = keras.layers.Conv2D(24, 5, strides=4, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    backbone = keras.Model(image, keras.Sequential([keras.layers.ReLU()])(features), name="backbone")
    head = build_head(24, 4)
    rng = np.random.default_rng(5)
    photos = rng.integers(0, 256, (32, 8, 8, 3), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    pooled = np.asarray(backbone(photos)).mean(axis=(1, 2))
    logits = np.asarray(head(pooled)) / 1.5
    score = fit(feature_space(pooled, np.arange(32) // 8), pooled, logits, method)
    expected = np.asarray(score.scores(pooled, logits))[:, 0]
    contents, failures = convert_all(serving_model(backbone, head, 1.5, score), lambda: photos)
    assert failures == {}
    for name, content in contents.items():
        model = Model(content)
        assert model.has_score
        found = np.array([model.run(photo).score for photo in photos])
        if name == "float32":
            np.testing.assert_allclose(found, expected, atol=0.01)
        assert np.corrcoef(found, expected)[0, 1] > 0.9, name


@pytest.fixture
def scored_bundle(tiny_bundle: Path) -> Path:
    """The tiny bundle with a file that has a score."""
    tiny_model.export(tiny_bundle, score=True)
    manifest = Manifest.from_json((tiny_bundle / "manifest.json").read_bytes())
    files = {name: entry_of_file(tiny_bundle / name) for name in manifest.files}
    changed = dataclasses.replace(manifest, files=files, thresholds={"unknown": 0.4}, tta={"views": ["original"]})
    (tiny_bundle / "manifest.json").write_bytes(changed.to_json())
    return tiny_bundle


def test_an_ood_photo_is_unknown_however_sure_the_label_is(scored_bundle, tmp_path):
    publish(tmp_path / "store", scored_bundle)
    client = create_app(Settings(model_store=str(tmp_path / "store"), model_name=MODEL)).test_client()
    for label in TINY_COLOURS:
        body = client.post("/", data=colour_photo(label), content_type="image/png").get_json()
        assert (body["label"], body["status"]) == (label, "ok")
        assert body["score"] == round(body["score"], 6) > 0.4
    teal = io.BytesIO()
    Image.new("RGB", (32, 32), (20, 120, 118)).save(teal, "PNG")
    body = client.post("/", data=teal.getvalue(), content_type="image/png").get_json()
    assert body["status"] == "unknown"
    assert body["score"] < 0.4 < body["confidence"]
    assert client.get("/model").get_json()["thresholds"] == {"unknown": 0.4}
    assert client.get("/model").get_json()["tta"] == {"views": ["original"]}


def test_a_score_of_another_shape_is_refused(tmp_path):
    image = keras.Input((8, 8, 3), batch_size=1, dtype="uint8", name="image")
    values = keras.layers.Rescaling(1 / 255)(image)
    pooled = keras.layers.GlobalAveragePooling2D()(values)
    outputs = {
        "probabilities": keras.layers.Softmax()(pooled),
        "heatmaps": keras.layers.Permute((3, 1, 2))(values),
        "score": keras.layers.Rescaling(1.0)(values),
    }
    keras.Model(image, outputs).export(str(tmp_path / "model.tflite"), format="litert", verbose=False)
    with pytest.raises(Corrupt, match="'score' of type float32 and rank 2"):
        Model((tmp_path / "model.tflite").read_bytes())


def test_ood_photos_are_found_below_a_folder_and_unreadable_ones_left_out(tmp_path):
    console, spec = Console(file=io.StringIO()), InputSpec(32, 32)
    with pytest.raises(NotFound, match="--ood"):
        ood_photos.read_ood_photos(tmp_path / "none", spec, console)
    (tmp_path / "a/b").mkdir(parents=True)
    with pytest.raises(InvalidRequest, match="found none"):
        ood_photos.read_ood_photos(tmp_path, spec, console)
    (tmp_path / "a/broken.jpg").write_bytes(b"no photo")
    (tmp_path / "a/notes.txt").write_text("no photo either")
    with pytest.raises(InvalidRequest, match="found none"):
        ood_photos.read_ood_photos(tmp_path, spec, console)
    photo_sets.write_photo(tmp_path / "a/b/one.PNG", (200, 10, 10), 1)
    photo_sets.write_photo(tmp_path / "two.jpg", (10, 200, 10), 2)
    found = ood_photos.read_ood_photos(tmp_path, spec, console)
    assert sorted(path.name for path in found.paths) == ["one.PNG", "two.jpg"]


def test_folders_of_ood_photos_have_names(tmp_path):
    for name in ("a", "b", "c=d"):
        (tmp_path / name).mkdir()
    near, far, odd = (str(tmp_path / name) for name in ("a", "b", "c=d"))
    assert ood_photos.named_folders([]) == {}
    assert ood_photos.named_folders([odd]) == {"ood": tmp_path / "c=d"}
    assert ood_photos.named_folders([f"near={near}", f"far={far}"]) == {"near": tmp_path / "a", "far": tmp_path / "b"}
    with pytest.raises(InvalidRequest, match="near=FOLDER and far=FOLDER; ood is there twice"):
        ood_photos.named_folders([near, far])
    with pytest.raises(NotFound, match=r"Expected a folder of photos at --ood .*nowhere"):
        ood_photos.named_folders([f"near={tmp_path / 'nowhere'}"])


def test_a_space_of_few_photos_is_small():
    space = feature_space(np.random.default_rng(0).random((6, 40)), np.array([0, 0, 0, 1, 1, 1]))
    assert isinstance(space, FeatureSpace)
    assert (space.class_means.shape, space.components.shape) == ((2, 40), (40, 3))
    np.testing.assert_allclose(np.linalg.norm(space.class_means, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(space.components.T @ space.components, np.eye(3), atol=1e-9)
