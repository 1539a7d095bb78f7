"""Files that are damaged, hostile or something else get a sentence that says so; none is executed or fills the disk."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from classifier.errors import InvalidRequest, NotFound, PointerError
from tests.support.foreign import ENDINGS, SIDE, dense, network, saved, to_tflite, with_metadata
from trainer.importing import isolated
from trainer.importing.compose import compose
from trainer.importing.graph import Graph
from trainer.importing.isolated import run_isolated
from trainer.importing.labels import fitted_labels, labels_in
from trainer.importing.metadata import read_metadata
from trainer.importing.model import Told, read_foreign
from trainer.importing.saved_model import expect_only_computes
from trainer.importing.scaling import CANDIDATES
from trainer.importing.source import source_of
from trainer.networks.keras_file import load_keras_file

LABELS = ["a", "b", "c", "d"]


@pytest.fixture(name="one", scope="module")
def one_fixture() -> keras.Model:
    return network(ENDINGS["one"])


@pytest.fixture(name="content", scope="module")
def content_fixture(one: keras.Model) -> bytes:
    return with_metadata(to_tflite(one), LABELS, [127.5], [127.5])


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "four.txt"
    path.write_text("\n".join(LABELS))
    return path


def changed(content: bytes, change: Callable[[Any], None]) -> bytes:
    graph = Graph(content)
    change(graph)
    return graph.to_bytes()


def set_shape(graph: Graph, shape: list[int]) -> None:
    graph.sub.tensors[0].shape = np.array(shape, np.int32)


def imported(content: bytes, folder: Path, **told: Any) -> Any:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return read_foreign(source_of(path), Told(**told), folder)


def test_metadata_tell_labels_and_scaling(content: bytes, tmp_path: Path):
    found = imported(content, tmp_path)
    assert found.labels == tuple(LABELS)
    assert (found.scaling, found.scaling_from) == (CANDIDATES["-1..1"], "the file's metadata")


def test_every_truncation_is_refused_or_read_whole(content: bytes):
    whole = len(to_tflite_size(content))
    for length in [*range(0, 200, 7), *range(200, whole, 997)]:
        with pytest.raises(InvalidRequest):
            Graph(content[:length])


def to_tflite_size(content: bytes) -> bytes:
    """The flatbuffer without what is packed behind it, nearly."""
    return content[: content.index(b"PK\x03\x04") - 64]


def test_flipped_bytes_never_raise_anything_else(content: bytes):
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(250):
        damaged = bytearray(content)
        for place in rng.integers(0, len(damaged), 4):
            damaged[place] = rng.integers(0, 256)
        try:
            graph = Graph(bytes(damaged))
            read_metadata(bytes(damaged), graph.model)
        except PointerError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda graph: set_shape(graph, [1, 1 << 20, 1 << 20, 3]), "268,435,456 elements"),
        (lambda graph: set_shape(graph, [1, SIDE, SIDE, 4]), "images in colour"),
        (lambda graph: set_shape(graph, [1, SIDE * SIDE * 3]), "images in colour"),
        (lambda graph: setattr(graph.sub.tensors[0], "type", schema.TensorType.STRING), "STRING"),
        (lambda graph: setattr(graph.sub.tensors[0], "shapeSignature", np.int32([1, -1, -1, 3])), "of any size"),
        (lambda graph: setattr(graph.sub, "inputs", np.int32([0, 1])), "2 inputs"),
        (lambda graph: setattr(graph.sub.operators[0], "opcodeIndex", 99), "damaged"),
        (lambda graph: setattr(graph.sub.operators[0], "inputs", np.int32([0, 7777, 1])), "damaged"),
        (lambda graph: graph.sub.operators.reverse(), "damaged"),
        (lambda graph: setattr(graph.model.operatorCodes[0], "builtinCode", schema.BuiltinOperator.WHILE), "WHILE"),
        (lambda graph: setattr(graph.model.operatorCodes[0], "builtinCode", schema.BuiltinOperator.CUSTOM), "CUSTOM"),
        (lambda graph: graph.model.subgraphs.append(graph.sub), "one subgraph"),
    ],
)
def test_a_graph_that_is_none_of_an_image_classifier_is_refused(
    content: bytes, labels: Path, tmp_path: Path, change: Callable[[Any], None], said: str
):
    with pytest.raises(InvalidRequest, match=said):
        imported(changed(content, change), tmp_path, labels=labels, scaling="-1..1")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("model.tflite", b"", "none of them"),
        ("model.pkl", b"\x80\x04\x95" + b"." * 20, "pickle, which is a program"),
        ("model.pt", b"PK\x03\x04" + b"." * 20, "archive: unpack it"),
        ("model.zip", b"PK\x03\x04" + b"." * 20, "archive: unpack it"),
        ("model.onnx", b"\x08\x07" + b"." * 20, "none of them"),
        ("model.keras", b"PK\x03\x04" + b"." * 20, "damaged"),
        ("model.h5", b"\x89HDF\r\n\x1a\n" + b"." * 90, "damaged"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, name: str, data: bytes, said: str):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidRequest, match=said):
        source = source_of(tmp_path / name)
        load_keras_file(source.path, source.kind)


def test_folders_hold_one_model(content: bytes, tmp_path: Path):
    with pytest.raises(NotFound):
        source_of(tmp_path / "nothing")
    with pytest.raises(NotFound, match="there is none"):
        source_of(tmp_path)
    for name in ("one.tflite", "two.tflite"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"one\.tflite, two\.tflite"):
        source_of(tmp_path)


def test_an_export_of_teachable_machine_is_known_by_its_folder(one: keras.Model, tmp_path: Path):
    (tmp_path / "model_unquant.tflite").write_bytes(to_tflite(one))
    (tmp_path / "labels.txt").write_text("0 Class 1\n1 Class 2\n2 Other\n3 Last\n")
    found = read_foreign(source_of(tmp_path), Told(), tmp_path)
    assert found.labels == ("Class 1", "Class 2", "Other", "Last")
    assert (found.scaling, found.resize) == (CANDIDATES["-1..1"], "crop")


@pytest.mark.parametrize(
    ("text", "outputs", "labels", "notes"),
    [
        ("a\nb\n", 2, ("a", "b"), 0),
        ("﻿a\r\nb\r\n\r\n", 2, ("a", "b"), 0),
        ("1 b\n0 a\n", 2, ("a", "b"), 0),
        ("0: a\n1: b", 2, ("a", "b"), 0),
        ("7 up\n12 monkeys", 2, ("7 up", "12 monkeys"), 0),
        ("background\na\nb", 2, ("a", "b"), 1),
        ("crane\ncrane", 2, ("crane (0)", "crane (1)"), 1),
        ("no\nyes", 1, ("no", "yes"), 0),
        ("\n".join(f"n{each}" for each in range(1000)), 1001, None, 1),
    ],
)
def test_label_files(text: str, outputs: int, labels: tuple[str, ...] | None, notes: int):
    found, said = fitted_labels(labels_in(text.removeprefix("﻿")), outputs)
    assert len(said) == notes
    assert found == labels if labels else found[:2] == ("background", "n0")


@pytest.mark.parametrize(("text", "said"), [("a\n\nb", "line 2 is empty"), ("", "line 1"), ("a\nb\nc", "3 labels")])
def test_label_files_that_do_not_fit(text: str, said: str):
    with pytest.raises(InvalidRequest, match=said):
        fitted_labels(labels_in(text), 2)


def test_labels_of_several_sigmoids_do_not_exclude_each_other(labels: Path, tmp_path: Path):
    content = to_tflite(network(lambda x: dense(activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(x))))
    with pytest.raises(InvalidRequest, match="a sigmoid for each label"):
        imported(content, tmp_path, labels=labels, scaling="-1..1")
    found = imported(content, tmp_path, labels=labels, scaling="-1..1", outputs="logits")
    assert found.tail.head is not None


def refused_keras(model: keras.Model, path: Path, said: str) -> None:
    model.save(path)
    with pytest.raises(InvalidRequest, match=said):
        load_keras_file(path, "keras")


def test_a_lambda_layer_is_a_program(tmp_path: Path):
    image = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(image, dense()(keras.layers.Flatten()(keras.layers.Lambda(lambda x: x / 2)(image))))
    refused_keras(model, tmp_path / "m.keras", "received Lambda, which holds a program")


@keras.saving.register_keras_serializable(package="somebody")
class Half(keras.layers.Layer):
    def call(self, x):
        return x / 2


def test_custom_objects_are_not_looked_for(tmp_path: Path):
    image = keras.Input((SIDE, SIDE, 3))
    refused_keras(keras.Model(image, dense()(keras.layers.Flatten()(Half()(image)))), tmp_path / "m.keras", "Half")


def test_what_would_unpack_to_gigabytes_is_not_unpacked(one: keras.Model, tmp_path: Path):
    one.save(tmp_path / "m.keras")
    with (
        zipfile.ZipFile(tmp_path / "m.keras") as good,
        zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        bomb.writestr("config.json", good.read("config.json"))
        with bomb.open("model.weights.h5", "w", force_zip64=True) as file:
            for _ in range(80):
                file.write(bytes(1 << 20))
    with pytest.raises(InvalidRequest, match="unpack to"):
        load_keras_file(tmp_path / "bomb.keras", "keras")


def test_sizes_that_nobody_means_and_depth_without_end(one: keras.Model, tmp_path: Path):
    one.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as good:
        files = {name: good.read(name) for name in good.namelist()}
    config = json.loads(files["config.json"])
    config["config"]["layers"][-1]["config"]["units"] = 1 << 40
    for name, text in (("huge", json.dumps(config)), ("deep", "[" * 100_000 + "]" * 100_000)):
        with zipfile.ZipFile(tmp_path / f"{name}.keras", "w") as bad:
            for each, data in {**files, "config.json": text.encode()}.items():
                bad.writestr(each, data)
        with pytest.raises(InvalidRequest, match=r"at most 16,777,216|damaged"):
            load_keras_file(tmp_path / f"{name}.keras", "keras")


def test_hdf5_leads_nowhere_else_and_has_an_architecture(one: keras.Model, tmp_path: Path):
    one.save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(InvalidRequest, match="weights alone"):
        load_keras_file(tmp_path / "w.weights.h5", "hdf5")
    one.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file["model_weights/elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(InvalidRequest, match="without links"):
        load_keras_file(tmp_path / "m.h5", "hdf5")


def test_keras_2_wrote_groups_which_keras_3_does_not_take(one: keras.Model, tmp_path: Path):
    one.save(tmp_path / "keras_model.h5")
    with h5py.File(tmp_path / "keras_model.h5", "a") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            layer.pop("module", None), layer.pop("registered_name", None)
            if layer["class_name"] == "DepthwiseConv2D":
                layer["config"]["groups"] = 1
        file.attrs["model_config"] = json.dumps(config)
    found = load_keras_file(tmp_path / "keras_model.h5", "hdf5")
    image = np.random.default_rng(0).random((1, SIDE, SIDE, 3)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(found(image)), np.asarray(one(image)), atol=1e-6)


class Runs(tf.Module):
    """Does more than compute."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    @tf.function(input_signature=[tf.TensorSpec([1, SIDE, SIDE, 3])])
    def __call__(self, image):
        if self.how == "python":
            return tf.ensure_shape(tf.py_function(lambda x: x[:, 0, 0], [image], tf.float32), [1, 3])
        if self.how == "writes":
            tf.io.write_file("/tmp/written-by-a-model", "x")
        elif self.how == "reads":
            image += tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)
        return tf.nn.softmax(tf.reduce_mean(image, (1, 2)))


@pytest.mark.parametrize(
    ("how", "operation"), [("python", "EagerPyFunc"), ("writes", "WriteFile"), ("reads", "ReadFile")]
)
def test_a_saved_model_may_only_compute(tmp_path: Path, how: str, operation: str):
    tf.saved_model.save(Runs(how), str(tmp_path / how))
    with pytest.raises(InvalidRequest, match=operation):
        expect_only_computes(tmp_path / how)


def test_a_saved_model_that_computes_is_let_in_and_a_damaged_one_is_not(one: keras.Model, tmp_path: Path):
    folder = saved(one, tmp_path / "sm")
    expect_only_computes(folder)
    data = (folder / "saved_model.pb").read_bytes()
    (folder / "saved_model.pb").write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidRequest):
        expect_only_computes(folder)


def test_a_crash_a_hang_and_a_full_memory_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def ends(code: int, text: str = "") -> Any:
        return lambda command, **_: subprocess.CompletedProcess(command, code, "", text)

    monkeypatch.setattr(isolated.subprocess, "run", ends(-11))
    with pytest.raises(InvalidRequest, match="SIGSEGV"):
        run_isolated("trainer.importing.trial", [], tmp_path)
    monkeypatch.setattr(isolated.subprocess, "run", ends(1, "Traceback\nValueError: no.\n"))
    with pytest.raises(InvalidRequest, match=r"ValueError: no\. Export"):
        run_isolated("trainer.importing.trial", [], tmp_path)

    def hangs(command: Any, **_: Any) -> Any:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(isolated.subprocess, "run", hangs)
    with pytest.raises(InvalidRequest, match="takes longer"):
        run_isolated("trainer.importing.trial", [], tmp_path)


def test_the_graph_of_a_composed_file_can_be_read_again(content: bytes, tmp_path: Path):
    found = imported(content, tmp_path)
    written = compose(Graph(content), found.image, found.tail, CANDIDATES["0..1"])
    with pytest.raises(InvalidRequest, match="one of Pointer's own"):
        imported(written, tmp_path)
