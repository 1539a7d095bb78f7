"""What is checked of a LiteRT file before it is believed: counts, indices, sizes, the operators and their order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from classifier.errors import InvalidRequest

MOST_TENSORS = 20_000
MOST_BUFFERS = 40_000
LARGEST_TENSOR = 1 << 28
"""Elements of one tensor."""

TYPES: dict[int, type[np.generic]] = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.BOOL: np.bool_,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT8: np.int8,
}
"""What image classifiers compute with."""
OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
FORBIDDEN = {
    "CALL", "CALL_ONCE", "CUSTOM", "DELEGATE", "IF", "WHILE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE",
    "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_LOOKUP", "HASHTABLE_SIZE", "STABLEHLO_COMPOSITE",
    "STABLEHLO_CUSTOM_CALL", "STABLEHLO_WHILE", "STABLEHLO_CASE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5",
}  # fmt: skip
"""Operators with a program of their own, with a memory, or of detectors: no image classifier needs them."""


def expect_counts(packed: Any, size: int) -> None:
    """Look at how many there are of everything before any of it is read: entries may be one and the same, many times.

    Raises:
        InvalidRequest: there are more than one file can hold, or than a classifier has.
    """
    if packed.SubgraphsLength() != 1:
        raise InvalidRequest(
            f"Expected a file with one subgraph; received {packed.SubgraphsLength()}. One with control flow or several "
            "programs cannot be imported: export the classifier alone."
        )
    if packed.ExternalBufferGroupsLength() or packed.ExternalBuffersLength():
        raise InvalidRequest("Expected a file that holds its weights; received one with weights in other files.")
    sub = packed.Subgraphs(0)
    counts = (
        (sub.TensorsLength(), MOST_TENSORS),
        (sub.OperatorsLength(), MOST_TENSORS),
        (packed.OperatorCodesLength(), MOST_TENSORS),
        (packed.BuffersLength(), MOST_BUFFERS),
        (packed.MetadataLength(), 1000),
        (packed.SignatureDefsLength(), 1000),
        (sub.InputsLength() + sub.OutputsLength(), 1000),
    )
    if any(found > most for found, most in counts):
        raise InvalidRequest(f"Expected at most {MOST_TENSORS:,} tensors and operators; received more.")
    lengths = 0
    for index in range(packed.BuffersLength()):
        buffer = packed.Buffers(index)
        if buffer.Offset() > 1:
            raise InvalidRequest("Expected weights inside of the flatbuffer; received some behind it.")
        lengths += buffer.DataLength()
    for index in range(sub.TensorsLength()):
        tensor = sub.Tensors(index)
        lengths += tensor.ShapeLength()
        found = tensor.Quantization()
        lengths += 0 if found is None else 4 * found.ScaleLength() + 8 * found.ZeroPointLength()
    for index in range(sub.OperatorsLength()):
        operator = sub.Operators(index)
        lengths += 4 * (operator.InputsLength() + operator.OutputsLength()) + operator.CustomOptionsLength()
    if lengths > 2 * size:
        raise ValueError(lengths)


def expect_sound(model: Any) -> None:
    """Check every index and size by which LiteRT would find something.

    Raises:
        InvalidRequest: one is not what it has to be.
    """
    sub = model.subgraphs[0]
    for operator in sub.operators:
        if not 0 <= operator.opcodeIndex < len(model.operatorCodes):
            raise IndexError(operator.opcodeIndex)
        kind = _known_kind(model.operatorCodes[operator.opcodeIndex])
        if kind in FORBIDDEN:
            raise InvalidRequest(
                f"Expected the operators of an image classifier; received {kind}. A detector, or a file with "
                "operators of its own (Select TF ops, custom ones), cannot be imported: export the classifier with "
                "built-in operators alone."
            )
        for index in indices(operator.inputs):
            _expect_index(index, sub.tensors, low=-1)
        for index in indices(operator.outputs):
            _expect_index(index, sub.tensors)
    for index in (*indices(sub.inputs), *indices(sub.outputs)):
        _expect_index(index, sub.tensors)
    for tensor in sub.tensors:
        _check_tensor(model, tensor)
    _check_order(sub)


def _known_kind(code: Any) -> str:
    kind: str | None = OPERATORS.get(code_of(code))
    if kind is None:
        raise InvalidRequest(
            f"Expected operators that this release of LiteRT knows; received number {code_of(code)}. Update Pointer."
        )
    return kind


def _check_tensor(model: Any, tensor: Any) -> None:
    _expect_index(tensor.buffer, model.buffers)
    if tensor.type not in TYPES:
        name = next((key for key, code in vars(schema.TensorType).items() if code == tensor.type), tensor.type)
        raise InvalidRequest(
            f"Expected tensors of {', '.join(sorted(each.__name__ for each in TYPES.values()))}; received {name}."
        )
    shape = indices(tensor.shape)
    if len(shape) > 8 or any(side < 0 for side in shape) or math.prod(shape) > LARGEST_TENSOR:
        raise InvalidRequest(f"Expected tensors of at most {LARGEST_TENSOR:,} elements; received the shape {shape}.")
    if tensor.isVariable or tensor.sparsity is not None:
        raise InvalidRequest("Expected a file without variables and sparse constants; received one with them.")
    quantised = tensor.quantization
    if quantised is not None and quantised.details is not None:
        raise InvalidRequest("Expected values that are quantised by scale and zero point; received other ones.")
    if quantised is not None and quantised.scale is not None:
        scales, zeros = quantised.scale, quantised.zeroPoint
        if len(scales) != (0 if zeros is None else len(zeros)) or not np.isfinite(np.asarray(scales)).all():
            raise ValueError(scales)
        if len(scales) > 1 and shape[quantised.quantizedDimension] != len(scales):
            raise ValueError(shape)
    data = model.buffers[tensor.buffer].data
    if data is not None and len(data) and len(data) != math.prod(shape) * np.dtype(TYPES[tensor.type]).itemsize:
        raise ValueError(shape)


def _check_order(sub: Any) -> None:
    """An operator reads what is an input, a constant, or written before it: there is no circle."""
    written = set(indices(sub.inputs))
    every = {index for operator in sub.operators for index in indices(operator.outputs)}
    for operator in sub.operators:
        if any(index in every and index not in written for index in indices(operator.inputs)):
            raise ValueError("circle")
        outputs = indices(operator.outputs)
        if written & set(outputs):
            raise ValueError("written twice")
        written.update(outputs)


def code_of(code: Any) -> int:
    """Return an operator's number."""
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def indices(values: Any) -> list[int]:
    """Return a vector of a flatbuffer, which may be missing, as numbers."""
    return [] if values is None else [int(value) for value in values]


def _expect_index(index: int, among: Sequence[Any], *, low: int = 0) -> None:
    if not low <= index < len(among):
        raise IndexError(index)
