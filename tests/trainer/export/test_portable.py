"""Exports for other servers: what TensorFlow and ONNX Runtime make of them is what the bundle's LiteRT file says."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2
from typer.testing import CliRunner

from classifier.errors import Corrupt, NotFound
from classifier.photo.preprocessing import load_array
from classifier.registry.bundle import read_bundle
from classifier.registry.manifest import MANIFEST_FILE, GoldenCase, InputSpec, Manifest
from classifier.serving.model import Model
from tests.support import photo_sets
from tests.support.bundles import files_of
from trainer.evaluation.served_bundle import open_bundle
from trainer.export import portable
from trainer.export.coreml_file import _coremltools, expect_declared, read_declared
from trainer.export.fitted import FITTED_FILE, read_fitted, write_fitted
from trainer.export.litert import convert
from trainer.export.portable import export_portable
from trainer.main import app
from trainer.networks import backbones, heads, ood_score
from trainer.networks.gradcam import serving_model
from trainer.run.config import TrainingConfig
from trainer.run.files import write_json
from trainer.run.folder import RunFolder
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig

pytestmark = pytest.mark.long

LABELS = ("crème brûlée", "<b>\nあ", "pizza")
TOLERANCE = 1e-4
"""Float32 arithmetic in another order; of a heatmap relative to the largest value."""
WITHOUT_KERAS = """
import sys
sys.modules["keras"] = None  # importing it is an error
import numpy as np, tensorflow as tf
given = np.load(sys.argv[1])
outputs = tf.saved_model.load(sys.argv[2]).signatures["explain"](image=tf.constant(given["images"]))
np.savez(sys.argv[3], **{name: output.numpy() for name, output in outputs.items()})
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    root = photo_sets.folder(tmp_path_factory.mktemp("photos"), photos=4)
    return sorted(root.rglob("*.png"))


@pytest.fixture(scope="module")
def images(photos) -> np.ndarray:
    return np.stack([load_array(photo.read_bytes(), InputSpec(32, 32)) for photo in photos])


@pytest.fixture(scope="module")
def original(photos, images, tmp_path_factory) -> RunFolder:
    """A run with a bundle of random weights, but for the last layer: its logits tell these photos apart."""
    keras.utils.set_random_seed(5)
    backbone = backbones.build_backbone(NetworkConfig("base_cnn", "none", image_size=32))
    head = heads.build_head(backbone.output_shape[-1], len(LABELS), (16,))
    pooled = np.asarray(keras.ops.mean(backbone(images), axis=(1, 2)))
    logits = np.asarray(head(pooled))
    *hidden, kernel, bias = head.get_weights()
    head.set_weights([*hidden, kernel / logits.std(axis=0), (bias - logits.mean(axis=0)) / logits.std(axis=0)])
    space = ood_score.feature_space(pooled, np.arange(len(images), dtype=np.int32) % len(LABELS))
    score = ood_score.fit(space, pooled, np.asarray(head(pooled)) / 1.7, "energy+residual")
    run = RunFolder(tmp_path_factory.mktemp("run"))
    config = TrainingConfig(DataConfig("folder", "gone"), NetworkConfig("base_cnn", "none"), ScheduleConfig())
    write_json(run.config, config.to_json())
    (run.bundle / "golden").mkdir(parents=True)
    (run.bundle / "model.tflite").write_bytes(convert(serving_model(backbone, head, 1.7, score), "float32"))
    heads.classifier(backbone, head).save(run.bundle / "model.keras")
    write_fitted(run.bundle, 1.7, score)
    for number, photo in enumerate(photos[:3]):
        (run.bundle / f"golden/{number}.png").write_bytes(photo.read_bytes())
    golden = tuple(GoldenCase(f"golden/{number}.png", LABELS[0], (1.0, 0.0, 0.0)) for number in range(3))
    _write_manifest(run.bundle, golden=golden)
    return run


@pytest.fixture(scope="module")
def expected(original, images) -> dict[str, np.ndarray]:
    """What the bundle's file says of the photos."""
    answers = [Model((original.bundle / "model.tflite").read_bytes()).run(image) for image in images]
    return {
        "probabilities": np.stack([answer.probabilities for answer in answers]),
        "score": np.array([answer.score for answer in answers]),
        "heatmaps": np.stack([answer.heatmaps for answer in answers]),
    }


@pytest.fixture(scope="module")
def saved_model(original) -> Path:
    return export_portable(original, "saved-model")[0]


@pytest.fixture(scope="module")
def onnx_folder(original) -> Path:
    return export_portable(original, "onnx")[0]


@pytest.fixture
def run(original, tmp_path) -> RunFolder:
    """A copy that a test may change."""
    for file in (path for path in (original.config, *original.bundle.rglob("*")) if path.is_file()):
        copy = tmp_path / "run" / file.relative_to(original.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    return RunFolder(tmp_path / "run")


@pytest.fixture
def untouched(monkeypatch):
    """Writes a file that says what it is instead of converting; what it answers is the network's."""
    networks = []

    def write(network, labels, folder):
        networks.append(network)
        (folder / "file").write_text(f"{len(networks)}")

    def load(folder):
        return lambda images: {name: np.asarray(each) for name, each in networks[-1](images, training=False).items()}

    form = portable.Format("saved_model", write, load)
    monkeypatch.setitem(portable.FORMATS, "saved-model", form)
    return form


def _write_manifest(bundle: Path, **changes) -> None:
    if (bundle / MANIFEST_FILE).is_file():
        manifest = Manifest.from_json((bundle / MANIFEST_FILE).read_bytes())
    else:
        manifest = Manifest(
            labels=LABELS,
            input=InputSpec(32, 32),
            files={},
            thresholds={"unknown": 0.25},
            notice="Only a test.",
            created_at="2026-01-31T12:00:00Z",
        )
    (bundle / MANIFEST_FILE).write_bytes(replace(manifest, files=files_of(bundle), **changes).to_json())
    read_bundle(bundle)


def _agree(found, expected) -> None:
    for name in ("probabilities", "score"):
        np.testing.assert_allclose(found[name], expected[name], atol=TOLERANCE, err_msg=name)
    largest = expected["heatmaps"].max()
    np.testing.assert_allclose(found["heatmaps"], expected["heatmaps"], atol=TOLERANCE * largest)


def _code(folder: Path) -> list[str]:
    """The indented blocks of an export's README."""
    text = (folder / "README.md").read_text()
    return [
        re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    ]


def test_photos_and_their_probabilities_differ_enough_to_tell(expected):
    assert np.ptp(expected["probabilities"], axis=0).max() > 0.05
    assert np.ptp(expected["score"]) > 0.05
    assert expected["heatmaps"].max() > 0


def test_tensorflow_without_keras_says_what_the_served_file_says(saved_model, images, expected, tmp_path):
    np.savez(tmp_path / "images.npz", images=images)
    arguments = [tmp_path / "images.npz", saved_model, tmp_path / "outputs.npz"]
    done = subprocess.run([sys.executable, "-c", WITHOUT_KERAS, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "outputs.npz", allow_pickle=True)
    _agree(found, expected)
    best = found["probabilities"].argmax(axis=1)
    assert [label.decode() for label in found["label"]] == [LABELS[number] for number in best]
    assert len(set(best)) > 1


def test_the_signatures_are_those_that_servers_call_by_name(saved_model):
    description = saved_model_pb2.SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())
    (graph,) = description.meta_graphs
    assert list(graph.meta_info_def.tags) == ["serve"]
    taken = {name: graph.signature_def[name] for name in ("serving_default", "explain")}
    for signature in taken.values():
        assert signature.method_name == "tensorflow/serving/predict"
        (image,) = signature.inputs.values()
        assert list(signature.inputs) == ["image"]
        assert image.dtype == tf.uint8.as_datatype_enum
        assert [each.size for each in image.tensor_shape.dim] == [-1, 32, 32, 3]
    assert set(taken["serving_default"].outputs) == {"label", "probabilities", "score"}
    assert set(taken["explain"].outputs) == {"label", "probabilities", "score", "heatmaps"}
    # As rows of one reply: every output has one for each photo.
    assert {each.tensor_shape.dim[0].size for each in taken["explain"].outputs.values()} == {-1}


def test_the_readme_s_request_is_answered_with_a_label(saved_model, photos, expected, monkeypatch, tmp_path, capsys):
    """The server is of the test; it reads and answers as TensorFlow Serving documents its REST interface."""
    signature = tf.saved_model.load(str(saved_model)).signatures["serving_default"]

    class Server(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/models/pointer:predict"
            outputs = signature(image=tf.constant(asked["instances"], tf.uint8))
            rows = zip(*(output.numpy().tolist() for output in outputs.values()), strict=True)
            predictions = [dict(zip(outputs, row, strict=True)) for row in rows]
            body = json.dumps({"predictions": predictions}, default=bytes.decode).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *said):
            pass

    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(photos[-1].read_bytes())
    preparing, starting, asking = _code(saved_model)
    assert "tensorflow/serving" in starting
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        exec(preparing + asking.replace("localhost:8501", f"127.0.0.1:{server.server_port}"), {})
        thread.join()
    assert capsys.readouterr().out == LABELS[expected["probabilities"][-1].argmax()] + "\n"


def test_onnx_runtime_says_what_the_served_file_says(onnx_folder, images, expected):
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_folder / "model.onnx", providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["n", 32, 32, 3])
    names = [output.name for output in session.get_outputs()]
    assert set(names) == {"probabilities", "score", "heatmaps"}
    assert {output.shape[0] for output in session.get_outputs()} == {"n"}
    _agree(dict(zip(names, session.run(names, {"image": images}), strict=True)), expected)
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == list(LABELS)


def test_the_readme_s_call_of_onnx_runtime_works(onnx_folder, photos, expected, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(photos[-1].read_bytes())
    Path("model.onnx").symlink_to(onnx_folder / "model.onnx")
    found: dict = {}
    exec("".join(_code(onnx_folder)), found)
    np.testing.assert_allclose(found["probabilities"][0], expected["probabilities"][-1], atol=TOLERANCE)
    np.testing.assert_allclose(found["score"][0], expected["score"][-1], atol=TOLERANCE)


def test_what_lies_beside_says_what_it_is(saved_model, onnx_folder, original, tmp_path_factory):
    for folder, names in ((saved_model, {"label"}), (onnx_folder, set())):
        facts = json.loads((folder / "model.json").read_text())
        assert facts["labels"] == list(LABELS)
        assert (folder / "labels.txt").read_text().splitlines() == ["crème brûlée", "<b> あ", "pizza"]
        assert facts["input"]["shape"] == ["n", 32, 32, 3]
        shapes = {name: (each["dtype"], each["shape"]) for name, each in facts["outputs"].items()}
        assert set(shapes) == {"probabilities", "score", "heatmaps"} | names
        assert shapes["heatmaps"] == ("float32", ["n", 3, 4, 4])
        assert facts["temperature"] == 1.7
        assert facts["thresholds"] == {"unknown": 0.25}
        assert facts["served_file"]["sha256"] == read_bundle(original.bundle).files["model.tflite"].sha256
        assert facts["agreement"]["golden_photos"] == 3
        assert facts["agreement"]["largest_difference_from_served_file"] < TOLERANCE
        assert ("tf2onnx" in facts["made_with"]) == (folder == onnx_folder)
        text = (folder / "README.md").read_text()
        assert all(said in text for said in ("Only a test.", "uint8 [n, 32, 32, 3]", "below 0.25", "by 1.7."))
        assert "quantisation" not in text
        # No path of the machine goes along.
        places = [
            str(place).encode() for place in (original.path, tmp_path_factory.getbasetemp(), Path(__file__).parent)
        ]
        assert not [
            file for file in folder.rglob("*") if file.is_file() and any(p in file.read_bytes() for p in places)
        ]


def test_each_export_has_the_next_number_and_changes_none_before(run, untouched):
    (run.path / "saved_model.partial").mkdir()
    (run.path / "saved_model.partial" / "left by a crash").touch()
    first, _ = export_portable(run, "saved-model")
    before = {file: file.read_bytes() for file in first.iterdir()}
    second, _ = export_portable(run, "saved-model")
    assert (first, second) == (run.path / "saved_model/1", run.path / "saved_model/2")
    assert {file: file.read_bytes() for file in first.iterdir()} == before
    assert {file.name for file in second.iterdir()} == {"file", "labels.txt", "model.json", "README.md"}
    assert (second / "file").read_text() == "2"


@pytest.mark.parametrize("off", [0.002, float("nan")])
def test_a_file_that_answers_otherwise_is_not_kept(run, untouched, monkeypatch, off):
    export_portable(run, "saved-model")

    def load(folder):
        right = untouched.load(folder)
        return lambda images: {**right(images), "score": right(images)["score"] + np.float32(off)}

    monkeypatch.setitem(portable.FORMATS, "saved-model", replace(untouched, load=load))
    with pytest.raises(Corrupt, match=r"agree with the network that it was made of within 0\.001 .* was not kept"):
        export_portable(run, "saved-model")
    assert [path.name for path in (run.path / "saved_model").iterdir()] == ["1"]
    assert not (run.path / "saved_model.partial").exists()


def test_a_float32_file_has_to_agree_and_a_quantised_one_is_told(run, untouched):
    temperature, score = read_fitted(run.bundle)
    write_fitted(run.bundle, temperature * 1.5, score)
    _write_manifest(run.bundle)
    with pytest.raises(Corrupt, match="agree with the served file"):
        export_portable(run, "saved-model")
    _write_manifest(run.bundle, variant="int8")
    folder, agreement = export_portable(run, "saved-model")
    assert agreement.network == 0
    assert agreement.served > 0.01
    assert (
        f"at most {agreement.served:.1e} from that file's. That is what its quantisation"
        in (folder / "README.md").read_text()
    )


def test_a_bundle_without_what_was_fitted_is_told_with_the_remedy(run, untouched):
    (run.bundle / FITTED_FILE).unlink()
    _write_manifest(run.bundle)
    with pytest.raises(NotFound, match=r"fitted\.npz .* `trainer export` without --format makes the bundle again"):
        export_portable(run, "saved-model")
    assert not (run.path / "saved_model").exists()


def test_the_command_says_where_it_is_and_leaves_the_bundle(run, untouched):
    before = {file: file.read_bytes() for file in run.bundle.rglob("*") if file.is_file()}
    done = CliRunner().invoke(app, ["export", str(run.path), "--format", "saved-model"])
    assert done.exit_code == 0, done.exception
    assert re.fullmatch(
        rf"saved-model \(float32\) in {re.escape(str(run.path))}/saved_model/1, within \d\.\de-\d\d "
        r"of the bundle's float32 file on 3 golden photos; its README\.md says how to call it\n",
        done.output,
    )
    assert {file: file.read_bytes() for file in run.bundle.rglob("*") if file.is_file()} == before


def test_options_of_the_bundle_are_refused_with_another_format(run):
    done = CliRunner().invoke(
        app, ["export", str(run.path), "--format", "onnx", "--variant", "int8", "--tolerance", "1"]
    )
    assert str(done.exception) == (
        "--format onnx leaves --tolerance and --variant without effect: leave one of them out."
    )


def test_without_the_extra_onnx_says_how_to_install_it(run, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tf2onnx" else found(name))
    done = CliRunner().invoke(app, ["export", str(run.path), "--format", "onnx"])
    assert isinstance(done.exception, NotFound)
    assert str(done.exception) == (
        "Expected the packages of --format onnx; not installed: tf2onnx. Install them: pip install '.[trainer,onnx]'"
    )
    assert not (run.path / "onnx").exists()


@pytest.mark.filterwarnings(
    "ignore:Implicitly cleaning up:ResourceWarning"
)  # coremltools forgets its folder of weights
def test_a_core_ml_file_declares_image_labels_and_outputs(original, images, tmp_path_factory):
    """Its declarations; what it computes only Apple's systems can tell: coremltools runs no file on Linux.

    So much more is sure: the network that was converted answers as the served file does.
    """
    pytest.importorskip("coremltools", reason="needs the extra coreml, of which there is none for this machine")
    folder, agreement = export_portable(original, "coreml")
    assert folder == original.path / "coreml/1"
    assert (agreement.photos, agreement.network) == (3, None) and agreement.served < TOLERANCE
    assert read_declared(folder) == {
        "input": {"image": "RGB image 32 x 32"},
        "outputs": {
            "label": "text",
            "label_probs": "numbers by text",
            "score": "float32 [1]",
            "heatmaps": "float32 [1, 3, 4, 4]",
        },
        "labels": list(LABELS),
    }
    spec = _coremltools().utils.load_spec(str(folder / "model.mlpackage"))
    assert spec.WhichOneof("Type") == "mlProgram" and spec.specificationVersion == 6  # iOS 15
    assert spec.description.predictedFeatureName == "label"
    assert spec.description.predictedProbabilitiesName == "label_probs"
    assert json.loads(spec.description.metadata.userDefined["labels"]) == list(LABELS)
    (function,) = spec.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    assert set(block.outputs) == {"label", "label_probs", "score", "heatmaps"}
    # As many weights as the network has, in float32: none was left out.
    (weights,) = folder.rglob("weight.bin")
    network = portable.portable_network(open_bundle(original))
    assert weights.stat().st_size > 4 * network.get_layer("backbone").count_params() * 0.9

    facts = json.loads((folder / "model.json").read_text())
    assert facts["input"]["shape"] == [1, 32, 32, 3] and "coremltools" in facts["made_with"]
    assert facts["agreement"]["largest_difference_from_network"] is None
    for case, image in zip(facts["golden"], images, strict=False):
        with Image.open(folder / case["image"]) as photo:
            assert (np.asarray(photo) == image).all()
        said = Model((original.bundle / "model.tflite").read_bytes()).run(image).probabilities
        np.testing.assert_allclose([case["probabilities"][label] for label in LABELS], said, atol=TOLERANCE)
    text = (folder / "README.md").read_text()
    assert "**Nothing has been computed with this file yet**" in text and "that network's probabilities" in text
    places = [str(place).encode() for place in (original.path, tmp_path_factory.getbasetemp(), Path(__file__).parent)]
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert not [file for file in files if any(place in file.read_bytes() for place in places)]

    network = keras.Model(network.input, {**network.output, "more": network.output["score"]})
    with pytest.raises(Corrupt, match=r"Expected the Core ML file to declare .*'more'"):
        expect_declared(folder, network, LABELS)
    with pytest.raises(Corrupt, match="Expected the Core ML file to declare"):
        expect_declared(folder, portable.portable_network(open_bundle(original)), LABELS[::-1])


def test_without_the_extra_coreml_says_how_to_install_it(run, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "coremltools" else found(name))
    done = CliRunner().invoke(app, ["export", str(run.path), "--format", "coreml"])
    assert isinstance(done.exception, NotFound)
    assert str(done.exception).endswith("Install it: pip install '.[trainer,coreml]'")
    assert not (run.path / "coreml").exists()


def test_the_command_says_that_a_core_ml_file_was_not_run(run, untouched, monkeypatch):
    monkeypatch.setitem(portable.FORMATS, "coreml", replace(untouched, kind="coreml", load=None))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    done = CliRunner().invoke(app, ["export", str(run.path), "--format", "coreml"])
    assert done.exit_code == 0, done.exception
    assert re.search(
        r"of a network within .* golden photos; the file itself was not run, which only Apple's", done.output
    )
