"""Which operators become what: scaled pixels stay as they are, and so do operators that spoil the answers."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import layers

from trainer.export import quantisation
from trainer.export.litert import FLOAT32, QUANTISED, VARIANTS, convert
from trainer.export.quantisation import all_but, quantised
from trainer.importing.graph import Graph
from trainer.networks import backbones, heads, scalings
from trainer.networks.gradcam import serving_model
from trainer.run.export_options import VariantName

SIDE = 32
SPOILT = "spoilt"


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.integers(0, 256, (1, SIDE, SIDE, 3), np.uint8) for _ in range(12)]


@pytest.fixture(scope="module")
def float32(photos) -> bytes:
    """A network one of whose depthwise convolutions has channels that differ a thousandfold, all of which matter."""
    keras.utils.set_random_seed(4)
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, 2, padding="same", activation="relu", name="stem")(image)
    spoilt = layers.DepthwiseConv2D(3, padding="same", name=SPOILT)
    x = spoilt(x)
    evened = layers.Conv2D(8, 1, activation="relu", name="evened")
    x = evened(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="plain")(x)
    x = layers.Conv2D(16, 1, name="last")(x)
    core = keras.Model(image, x, name="core")
    apart = np.geomspace(1, 1000, 8, dtype=np.float32)
    kernel, bias = spoilt.get_weights()
    spoilt.set_weights([kernel * apart[None, None, :, None], bias])
    kernel, bias = evened.get_weights()
    evened.set_weights([kernel / apart[None, None, :, None], bias])
    photo = keras.Input((SIDE, SIDE, 3), dtype="uint8", name="image")
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0, name=scalings.SCALING)(photo)
    backbone = keras.Model(photo, core(scaled), name=backbones.BACKBONE)
    head = heads.build_head(16, 4)
    pooled = np.asarray(backbone(np.concatenate(photos))).mean((1, 2))
    (kernel, bias) = head.get_weights()
    head.set_weights([kernel * 2 / (pooled @ kernel).std(), bias])
    return convert(serving_model(backbone, head), FLOAT32)


def _kinds(content: bytes) -> dict[str, str]:
    """The type of what each operator of a file makes, by the layer that the tensor's name ends with."""
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    made = [tensors[operator["outputs"][0]] for operator in interpreter._get_ops_details()]
    return {tensor["name"]: tensor["dtype"].__name__ for tensor in made}


def _of(kinds: dict[str, str], layer: str) -> set[str]:
    return {
        kind for name, kind in kinds.items() if f"/{layer}" in name and not name.endswith(("_quantized", "_dequant"))
    }


def _error(content: bytes, float32: bytes, photos: list[np.ndarray]) -> float:
    given, expected = (quantisation._answers(each, photos) for each in (content, float32))
    return float(np.abs(given - expected).mean())


def test_what_spoils_the_answers_stays_float32(float32, photos, monkeypatch):
    content = quantised(float32, "int8", QUANTISED, photos)
    kinds = _kinds(content)
    assert "float32" in _of(kinds, SPOILT)
    assert _of(kinds, "plain") == _of(kinds, "last") == {"int8"}
    monkeypatch.setattr(quantisation, "MOST_KEPT", 0)
    plain = quantised(float32, "int8", QUANTISED, photos)
    assert _of(_kinds(plain), SPOILT) == {"int8"}
    assert _error(content, float32, photos) < 0.5 * _error(plain, float32, photos)


def test_pixels_are_scaled_in_float32_and_so_is_what_follows_the_features(float32, photos):
    kinds = _kinds(quantised(float32, "int8", QUANTISED, photos))
    assert _of(kinds, scalings.SCALING) == {"float32"}
    assert {kind for name, kind in kinds.items() if f"/{backbones.BACKBONE}" not in name} <= {
        "float32",
        "int32",
        "bool",
    }


def test_dynamic_range_leaves_depthwise_convolutions_as_they_are(float32):
    content = quantised(float32, "int8-dynamic", QUANTISED)
    tensors = Interpreter(model_content=content).get_tensor_details()
    weights = {tensor["name"]: tensor for tensor in tensors if tensor["dtype"] is np.int8}
    assert len(weights) == 3
    assert {tuple(tensor["shape"][1:3]) for tensor in weights.values()} == {(3, 3), (1, 1)}
    assert not any(tensor["shape"][0] == 1 for tensor in weights.values())


@pytest.mark.parametrize("variant", [each for each in VARIANTS if each != FLOAT32])
def test_the_same_photos_make_the_same_file(float32, photos, variant: VariantName):
    assert quantised(float32, variant, QUANTISED, photos) == quantised(float32, variant, QUANTISED, photos)


@pytest.mark.parametrize("variant", [each for each in VARIANTS if each != FLOAT32])
def test_a_large_file_holds_its_weights(photos, variant: VariantName):
    """Which the quantizer puts behind the flatbuffer, where older runtimes do not look."""
    photo = keras.Input((SIDE, SIDE, 3), dtype="uint8", name="image")
    wide = layers.Conv2D(512, 3, 4, name="wide")(
        layers.Conv2D(64, 3, 4, name="first")(layers.Rescaling(1 / 255)(photo))
    )
    backbone = keras.Model(photo, keras.Model(photo, wide, name="core")(photo), name=backbones.BACKBONE)
    content = quantised(convert(serving_model(backbone, heads.build_head(512, 3)), FLOAT32), variant, QUANTISED, photos)
    assert len(content) > 256 * 1024
    graph = Graph(content)  # refuses others
    assert graph.model.buffers
    assert Interpreter(model_content=content).get_signature_runner()(image=photos[0])["probabilities"].shape == (1, 3)


def test_a_file_that_cannot_be_quantised_is_told(photos):
    with pytest.raises(ValueError, match="AI Edge Quantizer"):
        quantised(b"no model at all", "int8", QUANTISED, photos)


def test_names_are_left_out_as_they_are_written():
    expression = all_but(["a.b", "c (1)"])
    assert [name for name in ("a.b", "a.b;", "axb", "c (1)", "c (1)2") if re.search(expression, name)] == [
        "axb",
        "c (1)2",
    ]
    assert re.search(all_but([]), "anything")
