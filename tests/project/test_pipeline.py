"""The whole path on the sample photos, every part real: draw, train, publish, promote, serve, explain."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from classifier.photo.preprocessing import load_array
from classifier.registry.manifest import Manifest
from classifier.registry.rules import Registry
from classifier.serving.model import Model
from classifier.storage.local import LocalStore
from tests.support.processes import ROOT
from tests.support.real_data import DATA, needs_photos
from tests.support.serving import MODEL, serve

BIN = Path(sys.executable).parent
SCRIPT = ROOT / "scripts" / "sample_model.sh"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A folder with the samples, the run and the store that `make run` makes, made by the same script.

    Two runs of the tests with one POINTER_SAMPLE, an empty folder at first, make it once; each changes a copy.
    """
    root = tmp_path_factory.mktemp("pipeline")
    if kept := os.environ.get("POINTER_SAMPLE"):
        if not (Path(kept) / "store" / MODEL / "channels.json").exists():  # what the script writes last
            make_sample_model(Path(kept))
        shutil.copytree(kept, root, dirs_exist_ok=True)
    else:
        make_sample_model(root)
    return root


def make_sample_model(root):
    environment = {
        "PATH": f"{BIN}:/usr/bin:/bin",
        "MODEL_STORE": str(root / "store"),
        "MODEL_NAME": MODEL,
        "SAMPLES": str(root / "samples"),
        "RUN": str(root / "run"),
        "HOME": str(root),
    }
    done = subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def answers(pipeline):
    """What the served model says of each held-out photo: label, confidence, heatmap [h, w], and the object's box."""
    boxes = pd.read_csv(pipeline / "samples" / "boxes.csv").set_index("image_path")
    names = (pipeline / "samples/meta/test.txt").read_text().split()
    rows = []
    with serve(pipeline / "store", pipeline / "serving") as service:
        for name in names:
            path = f"images/{name}.jpg"
            photo = (pipeline / "samples" / path).read_bytes()
            reply = service.post("/?gradcam=1&gradcam_format=heatmap", files={"image": photo}).json()
            heatmap = Image.open(io.BytesIO(base64.b64decode(reply["gradcam"]["image"])))
            rows.append(
                (name.split("/")[0], reply, np.asarray(heatmap), boxes.loc[path], Image.open(io.BytesIO(photo)).size)
            )
    return rows


def test_the_sample_model_knows_held_out_photos(answers):
    right = [reply["label"] == label for label, reply, *_ in answers]
    assert len(right) >= 100
    assert np.mean(right) >= 0.95


def test_the_sample_model_passes_what_it_was_trained_for(answers):
    assert np.mean([reply["status"] == "unknown" for _, reply, *_ in answers]) <= 0.05


def test_the_sample_model_is_called_a_demonstration(pipeline):
    with serve(pipeline / "store", pipeline / "noticed") as service:
        assert "A demonstration: trained on drawings" in service.get("/model").json()["notice"]


def test_grad_cam_points_at_the_object(answers):
    """The pointing game: the heatmap's highest cell lies in the object's bounding box."""
    hits = []
    for _, _, heatmap, box, (width, height) in answers:
        row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
        x, y = (column + 0.5) / heatmap.shape[1] * width, (row + 0.5) / heatmap.shape[0] * height
        hits.append(box["left"] <= x <= box["right"] and box["top"] <= y <= box["bottom"])
    assert np.mean(hits) >= 0.9


def test_the_manifest_says_what_was_measured_on_what_is_served(pipeline, answers):
    manifest, _ = Registry(LocalStore(pipeline / "store"), MODEL).manifest("v1")
    right = [reply["label"] == label for label, reply, *_ in answers]
    assert manifest.metrics["test"]["photos"] == len(answers)
    assert manifest.metrics["test"]["top_1"] == pytest.approx(np.mean(right), abs=1e-6)
    assert manifest.metrics["heatmap_error"] < 1e-4
    limit, unknown = manifest.thresholds["unknown"], manifest.metrics["unknown"]
    accepted = [reply["status"] == "ok" for _, reply, *_ in answers]
    assert [reply["score"] >= limit - 1e-6 for _, reply, *_ in answers] == accepted
    assert unknown["accepted"]["test"] == pytest.approx(np.mean(accepted), abs=1e-6)
    assert unknown["accepted"]["validation"] >= 0.95
    assert unknown["chosen_by"].keys() == {"classes_left_out", "shuffled_tiles"}
    honest = manifest.metrics["calibration"]["test"]["ece_after"]
    assert honest == manifest.metrics["test"]["ece"]
    assert manifest.tta["top_1"] == manifest.metrics["test"]["tta_top_1"]
    # The script asks for this one by name, and no others are made.
    assert tuple(manifest.variants) == ("float32",)
    assert manifest.labels == ("cookie", "doughnut", "fried_egg", "pizza", "watermelon")
    assert len(manifest.golden) == 4
    assert manifest.data["photos"] == {"train": 270, "validation": 30, "test": 100}


def test_the_tables_of_the_report_agree_with_each_other(pipeline):
    report = pipeline / "run/bundle/report"
    figures = json.loads((report / "test.json").read_text())
    confusion = pd.read_csv(report / "test_confusion_matrix.csv", index_col="true")
    per_class = pd.read_csv(report / "test_per_class.csv", index_col="label")
    assert confusion.to_numpy().sum() == figures["photos"]
    assert np.trace(confusion) / figures["photos"] == pytest.approx(figures["top_1"], abs=1e-6)
    for label in per_class.index:
        assert per_class.loc[label, "recall"] == pytest.approx(
            confusion.loc[label, label] / confusion.loc[label].sum(), abs=1e-5
        )
    assert per_class["f1"].mean() == pytest.approx(figures["f1"], abs=1e-5)


def test_evaluate_measures_the_same_again(pipeline):
    done = subprocess.run(
        [BIN / "trainer", "evaluate", pipeline / "run", "--json"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    manifest = Manifest.from_json((pipeline / "run/bundle/manifest.json").read_bytes())
    assert json.loads(done.stdout) == manifest.metrics["test"]


def test_the_network_for_other_servers_answers_as_the_served_file(pipeline):
    """Which is float32 until it is exported again below: nothing but the order of the arithmetic differs."""
    from trainer.evaluation.served_bundle import open_bundle
    from trainer.export.portable import portable_network
    from trainer.run.folder import RunFolder

    bundle = open_bundle(RunFolder(pipeline / "run"))
    manifest, model = bundle.manifest, Model(bundle.content)
    photos = [load_array((bundle.folder / case.file).read_bytes(), manifest.input) for case in manifest.golden]
    found, answers = portable_network(bundle)(np.stack(photos)), [model.run(photo) for photo in photos]
    np.testing.assert_allclose(found["probabilities"], [answer.probabilities for answer in answers], atol=1e-4)
    np.testing.assert_allclose(found["score"], [answer.score for answer in answers], atol=1e-4)


@needs_photos
@pytest.mark.real_data
def test_the_sample_model_does_not_claim_to_know_real_photos(pipeline):
    for ood in ("dog-breed/train", "food-101/images"):
        command = [BIN / "trainer", "evaluate", pipeline / "run", "--ood", DATA / ood, "--json"]
        told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["ood"]
        sys.stdout.write(f"{ood}: {told}\n")
        assert told["photos"] == 500
        assert told["rejected"] >= 0.95
        assert told["accepted"] >= 0.95


@pytest.mark.long
@pytest.mark.parametrize(("form", "kind"), [("saved-model", "saved_model"), ("onnx", "onnx")])
def test_exports_for_other_servers_answer_as_the_served_file(pipeline, form, kind):
    from trainer.export.portable import FORMATS

    command = [BIN / "trainer", "export", pipeline / "run", "--format", form]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{form} (float32) in {pipeline / 'run' / kind / '1'}, within ")
    manifest = Manifest.from_json((pipeline / "run/bundle/manifest.json").read_bytes())
    model = Model((pipeline / "run/bundle/model.tflite").read_bytes())
    names = (pipeline / "samples/meta/test.txt").read_text().split()
    photos = [load_array((pipeline / f"samples/images/{name}.jpg").read_bytes(), manifest.input) for name in names]
    found, answers = FORMATS[form].load(pipeline / "run" / kind / "1")(np.stack(photos)), [model.run(p) for p in photos]
    np.testing.assert_allclose(found["probabilities"], [answer.probabilities for answer in answers], atol=1e-4)
    np.testing.assert_allclose(found["score"], [answer.score for answer in answers], atol=1e-4)
    largest = max(answer.heatmaps.max() for answer in answers)
    np.testing.assert_allclose(found["heatmaps"], [answer.heatmaps for answer in answers], atol=1e-4 * largest)


@pytest.mark.long
def test_export_makes_the_bundle_again(pipeline):
    before = Manifest.from_json((pipeline / "run/bundle/manifest.json").read_bytes())
    command = [BIN / "trainer", "export", pipeline / "run", "--no-report"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    after = Manifest.from_json((pipeline / "run/bundle/manifest.json").read_bytes())
    assert after.labels == before.labels
    assert tuple(after.variants) == ("float32", "float16", "int8-dynamic", "int8")
    assert not [name for name, row in after.variants.items() if "failed" in row]
    best = max(row["top_1"] for row in after.variants.values())
    assert after.variants[after.variant]["top_1"] >= best - 0.005 - 1e-9
    photo = (pipeline / "run/bundle" / after.golden[0].file).read_bytes()
    again = Model((pipeline / "run/bundle/model.tflite").read_bytes()).run(load_array(photo, after.input))
    np.testing.assert_allclose(again.probabilities, before.golden[0].probabilities, atol=before.golden_tolerance)


def test_the_model_for_the_next_training_gives_the_same_answers(pipeline):
    import keras

    manifest = Manifest.from_json((pipeline / "run/bundle/manifest.json").read_bytes())
    network = keras.saving.load_model(pipeline / "run/bundle/model.keras")
    for case in manifest.golden:
        photo = load_array((pipeline / "run/bundle" / case.file).read_bytes(), manifest.input)
        logits = network.predict(photo[None], verbose=0) / manifest.training["temperature"]
        found = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]
        np.testing.assert_allclose(found, case.probabilities, atol=0.1)
