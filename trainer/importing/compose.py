"""Composes the file that serves of a foreign graph: pixels in front, probabilities and Grad-CAM behind.

The network itself stays as it is, operator for operator; `image` uint8 [1, H, W, 3] goes in, `probabilities` float32
[1, N] come out and, where the graph has a head that can be differentiated, `heatmaps` float32 [1, N, h, w].

Grad-CAM (Selvaraju et al. 2017) weighs each channel of the features f by the mean over all positions of
d logit_k / d f, which behind a pooling and dense layers with ReLU is a product of their kernels, each masked by where
its ReLU is open: of kernels that are constants in the file, and of masks that its own tensors give. No gradient is
computed when it serves. Of an int8 file the kernels and the features are taken as the numbers that they stand for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from classifier.registry.manifest import SIGNATURE
from trainer.importing.graph import Graph
from trainer.importing.scaling import Scaling
from trainer.importing.tail import Dense, Gate, Head, Scale, Tail

Array = NDArray[np.float32]
SMALLEST = 1e-30
"""Of a probability whose logarithm is taken."""
HALVES = np.array([[-0.5], [0.5]], np.float32)
"""From one logit z to two, whose softmax is [1 - sigmoid(z), sigmoid(z)]."""


@dataclass(frozen=True)
class ImageInput:
    """What a graph takes."""

    height: int
    width: int
    channels_first: bool


def compose(graph: Graph, image: ImageInput, tail: Tail, scaling: Scaling, temperature: float = 1.0) -> bytes:
    """Return the file that serves. The graph is used up.

    Args:
        graph: the foreign graph.
        image: its input.
        tail: its end; "unknown" is taken as probabilities.
        scaling: from pixels to what the graph takes.
        temperature: what the logits are divided by before the softmax; the heatmaps are of the logits as they are.
    """
    pixels = _pixels_in_front(graph, image, scaling)
    logits = _logits(graph, tail)
    head = tail.head
    if graph.shape(logits)[-1] == 1:
        logits = _dense(graph, logits, HALVES)
        if head is not None:
            head = Head(head.features, head.pooling, head.channels_first, (Dense(HALVES, "", logits), *head.layers))
    outputs = {"probabilities": _probabilities(graph, logits, temperature)}
    if head is not None:
        outputs["heatmaps"] = _heatmaps(graph, head, graph.shape(logits)[-1])
    for name, tensor in outputs.items():
        graph.sub.tensors[tensor].name = name
    graph.finish({"image": pixels}, outputs, SIGNATURE)
    return graph.to_bytes()


def _pixels_in_front(graph: Graph, image: ImageInput, scaling: Scaling) -> int:
    """Make the graph's input a tensor that is computed from `image`; returns that one."""
    former = graph.inputs[0]
    if scaling.is_pixels and graph.dtype(former) is np.uint8 and not image.channels_first:
        graph.sub.tensors[former].name = "image"
        graph.sub.tensors[former].shapeSignature = None  # one photo: a number that is left open keeps LiteRT.js from it
        return former
    shape = (1, image.height, image.width, 3)
    pixels = graph.add_tensor(shape, np.uint8, name="image")
    front = _Front(graph)
    value = front(
        "CAST", [pixels], shape, options=schema.CastOptionsT(schema.TensorType.UINT8, schema.TensorType.FLOAT32)
    )
    if scaling.order == "bgr":
        order = graph.add_constant(np.array([2, 1, 0], np.int32))
        value = front("GATHER", [value, order], shape, options=schema.GatherOptionsT(axis=3))
    factors, offsets = scaling.affine(graph.dtype(former), graph.quantisation(former))
    for kind, options, numbers, neutral in (
        ("MUL", schema.MulOptionsT(), factors, 1.0),
        ("ADD", schema.AddOptionsT(), offsets, 0.0),
    ):
        if np.any(numbers != neutral):
            value = front(kind, [value, graph.add_constant(numbers.astype(np.float32))], shape, options=options)
    if image.channels_first:
        order = graph.add_constant(np.array([0, 3, 1, 2], np.int32))
        value = front(
            "TRANSPOSE", [value, order], (1, 3, image.height, image.width), options=schema.TransposeOptionsT()
        )
    quantised = graph.dtype(former) is not np.float32
    if quantised:
        front.into("QUANTIZE", [value], former, schema.QuantizeOptionsT())
    else:
        _replace(graph, former, value)
    return pixels


class _Front:
    """Adds operators in front of all others, in order."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self.count = graph, 0

    def __call__(self, kind: str, inputs: list[int], shape: tuple[int, ...], options: Any) -> int:
        return self.into(kind, inputs, self._graph.add_tensor(shape), options)

    def into(self, kind: str, inputs: list[int], output: int, options: Any) -> int:
        self._graph.add(kind, inputs, output, options, front=self.count)
        self.count += 1
        return output


def _replace(graph: Graph, former: int, value: int) -> None:
    for operator in graph.sub.operators:
        if former in operator.inputs:
            operator.inputs = np.where(np.asarray(operator.inputs) == former, value, operator.inputs).astype(np.int32)


def _logits(graph: Graph, tail: Tail) -> int:
    """Return the logits, float32 [1, N]; of an end that shows none, the logarithms of its probabilities."""
    if tail.ending == "unknown":
        values = _flat(graph, _real(graph, tail.logits), tail.classes)
        shape = graph.shape(values)
        least = graph.add_constant(np.array(SMALLEST, np.float32))
        values = graph.add("MAXIMUM", [values, least], graph.add_tensor(shape), schema.MaximumMinimumOptionsT())
        return graph.add("LOG", [values], graph.add_tensor(shape))
    return _flat(graph, _real(graph, tail.logits), tail.classes)


def _probabilities(graph: Graph, logits: int, temperature: float) -> int:
    shape = graph.shape(logits)
    if temperature != 1.0:
        factor = graph.add_constant(np.array(1 / temperature, np.float32))
        logits = graph.add("MUL", [logits, factor], graph.add_tensor(shape), schema.MulOptionsT())
    return graph.add("SOFTMAX", [logits], graph.add_tensor(shape), schema.SoftmaxOptionsT(beta=1.0))


def _heatmaps(graph: Graph, head: Head, classes: int) -> int:
    """Return Grad-CAM of every class, [1, classes, h, w]."""
    features = _real(graph, head.features)
    if head.channels_first:
        order = graph.add_constant(np.array([0, 2, 3, 1], np.int32))
        _, channels, rows, columns = graph.shape(features)
        turned = graph.add_tensor((1, rows, columns, channels))
        features = graph.add("TRANSPOSE", [features, order], turned, schema.TransposeOptionsT())
    _, rows, columns, channels = graph.shape(features)
    positions = rows * columns
    flat = _reshaped(graph, features, (positions, channels))
    weights = _Gradient(graph, classes).through(head)
    weights.mean_over(positions, channels, head.pooling)
    if weights.constant is not None:
        maps = _dense(graph, flat, weights.constant, relu=True)
        order = graph.add_constant(np.array([1, 0], np.int32))
        turned = graph.add_tensor((classes, positions))
        maps = graph.add("TRANSPOSE", [maps, order], turned, schema.TransposeOptionsT())
    else:
        maps = graph.add_tensor((classes, positions))
        options = schema.BatchMatMulOptionsT(adjY=True)
        graph.add("BATCH_MATMUL", [weights.tensor, flat], maps, options)
        maps = graph.add("RELU", [maps], graph.add_tensor((classes, positions)))
    return _reshaped(graph, maps, (1, classes, rows, columns))


class _Gradient:
    """d logit_k / d value for every class k, [classes, values], on its way back from the logits.

    A constant for as long as no ReLU is met, then a tensor.
    """

    def __init__(self, graph: Graph, classes: int) -> None:
        self._graph = graph
        self._classes = classes
        self.constant: Array | None = np.eye(classes, dtype=np.float32)
        self.tensor = -1

    def through(self, head: Head) -> _Gradient:
        """Go back through the layers of a head."""
        for layer in head.layers:
            if isinstance(layer, Gate | Dense) and layer.activation:
                self._mask(_open(self._graph, layer.output, layer.activation))
            if isinstance(layer, Dense):
                self._times(layer.weights)
            elif isinstance(layer, Scale):
                self._scale(layer.factors)
        return self

    def mean_over(self, positions: int, channels: int, pooling: str) -> None:
        """Become the weights of the channels: means over the positions of the gradient of the features."""
        graph = self._graph
        if pooling == "flatten":
            if self.constant is not None:
                self.constant = self.constant.reshape(self._classes, positions, channels).mean(axis=1)
                return
            apart = _reshaped(graph, self.tensor, (self._classes, positions, channels))
            axis = graph.add_constant(np.array([1], np.int32))
            mean = graph.add_tensor((self._classes, channels))
            self.tensor = graph.add("MEAN", [apart, axis], mean, schema.ReducerOptionsT(keepDims=False))
        elif pooling != "sum":
            self._scale(np.array([1 / positions], np.float32))

    def _times(self, weights: Array) -> None:
        if self.constant is not None:
            self.constant = self.constant @ weights
        else:
            self.tensor = _dense(self._graph, self.tensor, np.ascontiguousarray(weights.T))

    def _scale(self, factors: Array) -> None:
        if self.constant is not None:
            self.constant = self.constant * factors
        else:
            self._multiply(self.tensor, self._graph.add_constant(factors.reshape(1, -1)))

    def _mask(self, mask: int) -> None:
        tensor = self.tensor if self.constant is None else self._graph.add_constant(self.constant)
        self.constant = None
        self._multiply(tensor, mask)

    def _multiply(self, one: int, other: int) -> None:
        graph = self._graph
        values = max(graph.shape(one)[-1], graph.shape(other)[-1])
        product = graph.add_tensor((self._classes, values))
        self.tensor = graph.add("MUL", [one, other], product, schema.MulOptionsT())


def _open(graph: Graph, output: int, activation: str) -> int:
    """Return [1, values]: 1 where a ReLU is open, by what it gave, else 0."""
    values = graph.shape(output)[-1]
    given = _flat(graph, _real(graph, output), values)
    mask = _as_number(graph, _compared(graph, "GREATER", given, 0.0))
    if activation == "relu6":
        below = _as_number(graph, _compared(graph, "LESS", given, 6.0))
        both = graph.add_tensor(graph.shape(given))
        mask = graph.add("MUL", [mask, below], both, schema.MulOptionsT())
    return mask


def _compared(graph: Graph, kind: str, tensor: int, limit: float) -> int:
    options = schema.GreaterOptionsT() if kind == "GREATER" else schema.LessOptionsT()
    other = graph.add_constant(np.array(limit, np.float32))
    return graph.add(kind, [tensor, other], graph.add_tensor(graph.shape(tensor), np.bool_), options)


def _as_number(graph: Graph, tensor: int) -> int:
    options = schema.CastOptionsT(schema.TensorType.BOOL, schema.TensorType.FLOAT32)
    return graph.add("CAST", [tensor], graph.add_tensor(graph.shape(tensor)), options)


def _dense(graph: Graph, tensor: int, weights: Array, *, relu: bool = False) -> int:
    """Return tensor [n, inputs] times weights [outputs, inputs] transposed: [n, outputs]."""
    function = schema.ActivationFunctionType.RELU if relu else schema.ActivationFunctionType.NONE
    options = schema.FullyConnectedOptionsT(fusedActivationFunction=function)
    output = graph.add_tensor((graph.shape(tensor)[0], weights.shape[0]))
    return graph.add("FULLY_CONNECTED", [tensor, graph.add_constant(weights), -1], output, options)


def _real(graph: Graph, tensor: int) -> int:
    """Return a tensor as float32."""
    if graph.dtype(tensor) is np.float32:
        return tensor
    output = graph.add_tensor(graph.shape(tensor))
    return graph.add("DEQUANTIZE", [tensor], output, schema.DequantizeOptionsT(), version=2)


def _flat(graph: Graph, tensor: int, values: int) -> int:
    return tensor if graph.shape(tensor) == (1, values) else _reshaped(graph, tensor, (1, values))


def _reshaped(graph: Graph, tensor: int, shape: tuple[int, ...]) -> int:
    sides = graph.add_constant(np.asarray(shape, np.int32))
    options = schema.ReshapeOptionsT(newShape=np.asarray(shape, np.int32))
    return graph.add("RESHAPE", [tensor, sides], graph.add_tensor(shape), options)
