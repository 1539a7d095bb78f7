"""Finds how a graph ends: features, pooling and dense layers, logits, probabilities. It reads, and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from trainer.importing.graph import Graph

Ending = Literal["softmax", "log-softmax", "sigmoid", "logits", "unknown"]
"""By what the output is made: see `Tail.ending`."""
Pooling = Literal["mean", "max", "sum", "flatten"]

SAME = ("QUANTIZE", "DEQUANTIZE")
RESHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
ACTIVATIONS = {
    schema.ActivationFunctionType.NONE: "",
    schema.ActivationFunctionType.RELU: "relu",
    schema.ActivationFunctionType.RELU6: "relu6",
}
PLAIN = {"RELU": "relu", "RELU6": "relu6"}


@dataclass(frozen=True)
class Dense:
    """A linear layer, and the ReLU behind it if there is one; by its output's sign it says where that is open."""

    weights: NDArray[np.float32]
    """[outputs, inputs]."""
    activation: str
    """"relu", "relu6" or ""."""
    output: int
    """The tensor behind the activation."""


@dataclass(frozen=True)
class Scale:
    """A factor for each value: what is left of a normalisation behind the pooling."""

    factors: NDArray[np.float32]


@dataclass(frozen=True)
class Gate:
    """An activation that is an operator of its own."""

    activation: str
    output: int


Layer = Dense | Scale | Gate


@dataclass(frozen=True)
class Head:
    """What stands between features and logits, where all of it can be differentiated exactly."""

    features: int
    """The tensor [1, h, w, channels], or [1, channels, h, w] with `channels_first`."""
    pooling: Pooling
    channels_first: bool
    layers: tuple[Layer, ...]
    """From the logits back to the pooling."""


@dataclass(frozen=True)
class Tail:
    """How a graph ends."""

    ending: Ending
    """What its output goes through last; "unknown" where that is none of these."""
    logits: int
    """The tensor before that; for "unknown" the output itself."""
    classes: int
    head: Head | None
    why_not: str = field(default="")
    """Why there is no head."""


def tail_of(graph: Graph) -> Tail:
    """Return how a graph ends, whose one output is a value for each class."""
    output = graph.outputs[0]
    classes = graph.shape(output)[-1]
    tensor = _before(graph, output)
    writer = graph.writer(tensor)
    kind = graph.kind(writer) if writer is not None else ""
    if kind in ("SOFTMAX", "LOGISTIC", "LOG_SOFTMAX"):
        ending: Ending = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid", "LOG_SOFTMAX": "log-softmax"}[kind]  # type: ignore[assignment]
        logits = int(writer.inputs[0])  # type: ignore[union-attr]
    elif kind in ("FULLY_CONNECTED", "CONV_2D", "ADD", "MUL", "MEAN", "AVERAGE_POOL_2D"):
        ending, logits = "logits", output
    else:
        why = f"its last layer is {kind or 'none'}, in which no logits are to be found"
        return Tail("unknown", output, classes, None, why)
    head = head_of(graph, logits)
    return (
        Tail(ending, logits, classes, head, "") if isinstance(head, Head) else Tail(ending, logits, classes, None, head)
    )


def head_of(graph: Graph, logits: int) -> Head | str:
    """Return what stands between the features and a tensor of logits, or why that cannot be differentiated here."""
    layers: list[Layer] = []
    tensor = logits
    while True:
        writer = graph.writer(tensor)
        if writer is None:
            return "no features are pooled before its labels"
        kind, before = graph.kind(writer), int(writer.inputs[0])
        if kind in SAME:
            tensor = before
        elif kind in RESHAPES or (kind == "TRANSPOSE" and not _is_map(graph, before)):
            if _is_map(graph, before):
                return _with_features(graph, before, "flatten", False, layers)
            tensor = before
        elif kind in ("FULLY_CONNECTED", "CONV_2D"):
            dense = _dense(graph, writer, tensor)
            if isinstance(dense, str):
                return dense
            layers.append(dense)
            tensor = before
        elif kind in PLAIN:
            layers.append(Gate(PLAIN[kind], tensor))
            tensor = before
        elif kind in ("ADD", "SUB", "MUL") and not _is_map(graph, tensor):
            found = _elementwise(graph, writer, kind)
            if found is None:
                return f"two branches meet between its features and its labels ({kind})"
            layer, tensor = found
            layers += [layer] if layer else []
        else:
            pooled = _pooling(graph, writer, kind)
            if pooled is None:
                return f"the layer {kind} stands between its features and its labels"
            return _with_features(graph, before, *pooled, layers)


def _before(graph: Graph, tensor: int) -> int:
    """Go back over what changes no value."""
    while True:
        writer = graph.writer(tensor)
        if writer is None or graph.kind(writer) not in (*SAME, *RESHAPES) or _is_map(graph, int(writer.inputs[0])):
            return tensor
        tensor = int(writer.inputs[0])


def _is_map(graph: Graph, tensor: int) -> bool:
    """Say whether a tensor has two sides besides its channels, as features have."""
    return len(graph.shape(tensor)) == 4 and sum(side > 1 for side in graph.shape(tensor)[1:]) > 1


def _with_features(
    graph: Graph, features: int, pooling: Pooling, channels_first: bool, layers: list[Layer]
) -> Head | str:
    shape = graph.shape(features)
    if len(shape) != 4 or shape[0] != 1:
        return f"its features have the shape {list(shape)}"
    channels = shape[1] if channels_first else shape[3]
    if np.prod(shape[1:]) == channels:
        return "its features have one position only"
    return Head(features, pooling, channels_first, tuple(layers))


def _pooling(graph: Graph, writer: Any, kind: str) -> tuple[Pooling, bool] | None:
    """Return how an operator pools all positions, and whether of features whose channels stand first; else None."""
    before = int(writer.inputs[0])
    shape = graph.shape(before)
    if len(shape) != 4:
        return None
    if kind in ("MEAN", "SUM", "REDUCE_MAX"):
        axes = graph.constant(int(writer.inputs[1]))
        found = set() if axes is None else {int(axis) % 4 for axis in np.ravel(axes)}
        how: Pooling = {"MEAN": "mean", "SUM": "sum", "REDUCE_MAX": "max"}[kind]  # type: ignore[assignment]
        if found == {1, 2}:
            return how, False
        return (how, True) if found == {2, 3} else None
    if kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        options, out = writer.builtinOptions, graph.shape(int(writer.outputs[0]))
        whole = (options.filterHeight, options.filterWidth) == shape[1:3] and out[1:3] == (1, 1)
        plain = options.fusedActivationFunction == schema.ActivationFunctionType.NONE
        return ("mean" if kind == "AVERAGE_POOL_2D" else "max", False) if whole and plain else None
    return None


def _dense(graph: Graph, writer: Any, output: int) -> Dense | str:
    kind = graph.kind(writer)
    if _is_map(graph, output):
        return "the layer CONV_2D gives its labels at several positions"
    weights = graph.real(int(writer.inputs[1]))
    activation = ACTIVATIONS.get(writer.builtinOptions.fusedActivationFunction)
    if weights is None or activation is None:
        return f"the layer {kind} between its features and its labels has no constant weights, or another activation"
    if kind == "CONV_2D":
        if weights.shape[1:3] != (1, 1) or graph.shape(int(writer.inputs[0]))[1:3] != (1, 1):
            return "a convolution of several positions stands between its features and its labels"
        weights = weights.reshape(weights.shape[0], weights.shape[3])
    return Dense(weights, activation, output)


def _elementwise(graph: Graph, writer: Any, kind: str) -> tuple[Layer | None, int] | None:
    """Return the layer of a sum or product with a constant, and what it is of; None where neither is a constant."""
    if writer.builtinOptions is not None and ACTIVATIONS.get(writer.builtinOptions.fusedActivationFunction) != "":
        return None
    one, other = (int(index) for index in writer.inputs[:2])
    values, tensor = graph.real(other), one
    if values is None:
        values, tensor = graph.real(one), other
        if values is None or kind == "SUB":
            return None
    return (Scale(np.ravel(values)) if kind == "MUL" else None), tensor
