"""A network as a Core ML package, made with coremltools: the extra `coreml`.

Only Apple's systems compute such a file, so that nothing elsewhere can say whether it answers as the network does. What
can be checked anywhere is what it declares: `expect_declared`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.errors import Corrupt, NotFound

if TYPE_CHECKING:
    import keras

COREML_FILE = "model.mlpackage"
COREML_PACKAGES = ("coremltools",)
LABEL, PROBABILITIES = "label", "label_probs"
"""Core ML's names for what a classifier gives: the most probable label, and the probability of each by its label."""


def require_coremltools() -> None:
    """Refuse to begin without the packages of the extra.

    Raises:
        NotFound: it is not installed.
    """
    if importlib.util.find_spec("coremltools") is None:
        raise NotFound(
            "Expected the package of --format coreml; not installed: coremltools, which there is for macOS and for "
            "Linux on x86-64. Install it: pip install '.[trainer,coreml]'"
        )


def write_coreml(network: keras.Model, labels: Sequence[str], folder: Path) -> None:
    """Write `COREML_FILE`, an ML program for iOS 15, macOS 12 and later, in float32.

    It takes ``image``, one RGB image, and gives `LABEL`, `PROBABILITIES`, and the network's other outputs under their
    names. Needs the TensorFlow backend.

    Args:
        network: see `trainer.export.portable.portable_network`.
        labels: of its classes, in order.
        folder: is there already.

    Raises:
        Corrupt: what was converted does not declare what it has to.
        Exception: what the converter raised.
    """
    import tensorflow as tf

    ct = _coremltools()
    shape = (1, *network.input_shape[1:])
    others = sorted(set(network.output) - {"probabilities"})

    # coremltools takes uint8 as an input and knows no cast to it.
    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, name="image")])  # type: ignore[untyped-decorator]
    def traced(image: Any) -> list[Any]:
        outputs = network(image, training=False)
        return [outputs[name] for name in ("probabilities", *others)]

    function = traced.get_concrete_function()
    probabilities, *names = [tensor.name.partition(":")[0] for tensor in function.outputs]
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # its progress, a bar for each pass
        warnings.simplefilter("ignore")
        converted = ct.convert(
            [function],
            source="tensorflow",
            convert_to="mlprogram",
            inputs=[ct.ImageType(name="image", shape=shape, color_layout=ct.colorlayout.RGB)],
            classifier_config=ct.ClassifierConfig(
                list(labels), predicted_feature_name=LABEL, predicted_probabilities_output=probabilities
            ),
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS15,
            skip_model_load=True,
        )
        spec = converted.get_spec()
        for name, traced_name in zip(others, names, strict=True):
            ct.utils.rename_feature(spec, traced_name, name)
        spec.description.metadata.shortDescription = f"An image classifier of {len(labels)} classes."
        spec.description.metadata.userDefined["labels"] = json.dumps(list(labels), ensure_ascii=False)
        ct.models.MLModel(spec, weights_dir=converted.weights_dir, skip_model_load=True).save(str(folder / COREML_FILE))
    expect_declared(folder, network, labels)


def expect_declared(folder: Path, network: keras.Model, labels: Sequence[str]) -> None:
    """Expect a written file to declare the network's input, its outputs and the labels in their order.

    Raises:
        Corrupt: it does not; with what it declares.
    """
    found = read_declared(folder)
    height, width = network.input_shape[1:3]
    wanted = {
        "input": {"image": f"RGB image {width} x {height}"},
        "outputs": {
            LABEL: "text",
            PROBABILITIES: "numbers by text",
            **{
                name: f"float32 {[1, *output.shape[1:]]}"
                for name, output in network.output.items()
                if name != "probabilities"
            },
        },
        "labels": list(labels),
    }
    if found != wanted:
        raise Corrupt(
            f"Expected the Core ML file to declare {wanted}; received {found}, and it was not kept. Install the "
            "versions in requirements-coreml.txt and requirements.txt and export again."
        )


def read_declared(folder: Path) -> dict[str, Any]:
    """Return what the file declares: ``input`` and ``outputs`` in words by their names, and ``labels``."""
    ct = _coremltools()
    spec = ct.utils.load_spec(str(folder / COREML_FILE))
    return {
        "input": {each.name: _type_of(each) for each in spec.description.input},
        "outputs": {each.name: _type_of(each) for each in spec.description.output},
        "labels": _labels_of(spec),
    }


def _labels_of(spec: Any) -> list[str]:
    """Return the labels of the program's classify operation, in the order of the probabilities that it takes."""
    operations = (
        operation
        for function in spec.mlProgram.functions.values()
        for block in function.block_specializations.values()
        for operation in block.operations
    )
    classify = next((operation for operation in operations if operation.type == "classify"), None)
    if classify is None:
        return []
    values = classify.inputs["classes"].arguments[0].value.immediateValue.list.values
    return [text for value in values for text in value.immediateValue.tensor.strings.values]


def _type_of(feature: Any) -> str:
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        image = feature.type.imageType
        return f"{image.ColorSpace.Name(image.colorSpace)} image {image.width} x {image.height}"
    if kind == "multiArrayType":
        array = feature.type.multiArrayType
        return f"{array.ArrayDataType.Name(array.dataType).lower()} {list(array.shape)}"
    return {"stringType": "text", "dictionaryType": "numbers by text"}.get(kind, str(kind))


def _coremltools() -> Any:
    """Import coremltools without its remarks: on TensorFlow's version, and that it cannot compute outside macOS."""
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        import coremltools

    return coremltools
