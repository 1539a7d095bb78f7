"""A LiteRT file as a graph that can be read and changed: checked when it is read, and written anew.

A flatbuffer is read through offsets that it holds itself, and LiteRT believes them. So a foreign file never reaches it:
what does is what `Graph.to_bytes` writes, of objects whose every index and size was checked (`checks.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from classifier.errors import InvalidRequest
from trainer.export import flatbuffer
from trainer.export.flatbuffer import IDENTIFIER
from trainer.importing.checks import OPERATORS, TYPES, code_of, expect_counts, expect_sound, indices

LARGEST_FILE = 1 << 30


class Graph:
    """The one subgraph of a LiteRT file.

    Args:
        content: the file's bytes.

    Raises:
        InvalidRequest: it is not a LiteRT file, is damaged, or holds what no image classifier needs.
    """

    def __init__(self, content: bytes) -> None:
        if len(content) > LARGEST_FILE:
            raise InvalidRequest(f"Expected a file of at most {LARGEST_FILE:,} bytes; received {len(content):,}.")
        if content[4:8] != IDENTIFIER:
            raise InvalidRequest(
                f"Expected a LiteRT file (.tflite), whose bytes 5 to 8 are {IDENTIFIER.decode()}; received "
                f"{content[4:8]!r}. Name the .tflite itself, a .keras or .h5 file, or a SavedModel's folder."
            )
        try:
            packed = schema.Model.GetRootAs(content, 0)
            expect_counts(packed, len(content))
            self.model = schema.ModelT.InitFromObj(packed)
            self.sub = self.model.subgraphs[0]
            expect_sound(self.model)
        except InvalidRequest:
            raise
        except Exception as error:  # an offset may point anywhere: whatever comes of it, the file is damaged
            raise InvalidRequest(
                f"Expected a whole LiteRT file; this one is damaged ({type(error).__name__}). Export it again."
            ) from error
        self._written_by: dict[int, Any] = {}
        for operator in self.sub.operators:
            self._written_by.update(dict.fromkeys(indices(operator.outputs), operator))

    @property
    def inputs(self) -> list[int]:
        """The tensors that it takes."""
        return indices(self.sub.inputs)

    @property
    def outputs(self) -> list[int]:
        """The tensors that it gives."""
        return indices(self.sub.outputs)

    def kind(self, operator: Any) -> str:
        """Return an operator's name, such as CONV_2D."""
        kind: str = OPERATORS[code_of(self.model.operatorCodes[operator.opcodeIndex])]
        return kind

    def writer(self, tensor: int) -> Any | None:
        """Return the operator that gives a tensor; None for an input or a constant."""
        return self._written_by.get(tensor)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return a tensor's shape, as the file says it."""
        shape = self.sub.tensors[tensor].shape
        return () if shape is None else tuple(int(side) for side in shape)

    def is_dynamic(self, tensor: int) -> bool:
        """Say whether a side of a tensor, but for the first one, may have any length."""
        signature = self.sub.tensors[tensor].shapeSignature
        return signature is not None and any(int(side) < 0 for side in list(signature)[1:])

    def dtype(self, tensor: int) -> type[np.generic]:
        """Return the type of a tensor's elements."""
        return TYPES[self.sub.tensors[tensor].type]

    def quantisation(self, tensor: int) -> tuple[float, int] | None:
        """Return scale and zero point of a tensor that has one of each; None where it is not quantised so."""
        found = self.sub.tensors[tensor].quantization
        if found is None or found.scale is None or len(found.scale) != 1:
            return None
        zero = found.zeroPoint
        return float(found.scale[0]), int(zero[0]) if zero is not None and len(zero) else 0

    def constant(self, tensor: int) -> NDArray[Any] | None:
        """Return the values of a constant as they are stored, also behind a conversion from float16; else None."""
        writer = self.writer(tensor)
        if writer is not None:
            if self.kind(writer) == "DEQUANTIZE" and self.writer(int(writer.inputs[0])) is None:
                return self.real(int(writer.inputs[0]))
            return None
        data = self.model.buffers[self.sub.tensors[tensor].buffer].data
        if data is None or not len(data):
            return None
        return np.frombuffer(bytes(data), self.dtype(tensor)).reshape(self.shape(tensor))

    def real(self, tensor: int) -> NDArray[np.float32] | None:
        """Return a constant's values as the numbers that they stand for; None where it is none."""
        values = self.constant(tensor)
        if values is None:
            return None
        found = self.sub.tensors[tensor].quantization
        if found is None or found.scale is None or not len(found.scale) or values.dtype.kind == "f":
            return values.astype(np.float32)
        scale, zero = np.asarray(found.scale, np.float32), np.asarray(found.zeroPoint, np.float32)
        sides = [1] * values.ndim
        if len(scale) > 1:
            sides[int(found.quantizedDimension)] = len(scale)
        real: NDArray[np.float32] = (values.astype(np.float32) - zero.reshape(sides)) * scale.reshape(sides)
        return real

    def add_constant(self, values: NDArray[Any]) -> int:
        """Add a constant and return its tensor."""
        buffer = schema.BufferT(data=np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8))
        self.model.buffers.append(buffer)
        return self.add_tensor(values.shape, values.dtype.type, buffer=len(self.model.buffers) - 1)

    def add_tensor(
        self,
        shape: Sequence[int],
        dtype: type[np.generic] = np.float32,
        *,
        name: str = "",
        buffer: int = 0,
    ) -> int:
        """Add a tensor and return its index."""
        code = next(code for code, known in TYPES.items() if known is dtype)
        index = len(self.sub.tensors)
        self.sub.tensors.append(
            schema.TensorT(
                shape=np.asarray(shape, np.int32),
                type=code,
                buffer=buffer,
                name=name or f"pointer/{index}",
                hasRank=True,
            )
        )
        return index

    def add(
        self, kind: str, inputs: Sequence[int], output: int, options: Any = None, *, version: int = 1, front: int = -1
    ) -> int:
        """Add an operator behind all others, or as number `front`; returns its output."""
        operator = schema.OperatorT(
            opcodeIndex=self._opcode(kind, version),
            inputs=np.asarray(inputs, np.int32),
            outputs=np.asarray([output], np.int32),
        )
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = options
        self.sub.operators.insert(len(self.sub.operators) if front < 0 else front, operator)
        self._written_by[output] = operator
        return output

    def finish(self, inputs: dict[str, int], outputs: dict[str, int], signature: str) -> None:
        """Give the graph its one signature, and drop what does not lead to its outputs."""
        self.sub.inputs = np.asarray(list(inputs.values()), np.int32)
        self.sub.outputs = np.asarray(list(outputs.values()), np.int32)
        self.model.signatureDefs = [
            schema.SignatureDefT(
                inputs=[schema.TensorMapT(name, tensor) for name, tensor in inputs.items()],
                outputs=[schema.TensorMapT(name, tensor) for name, tensor in outputs.items()],
                signatureKey=signature,
                subgraphIndex=0,
            )
        ]
        needed = set(outputs.values())
        kept = []
        for operator in reversed(self.sub.operators):
            if needed & set(indices(operator.outputs)):
                kept.append(operator)
                needed.update(indices(operator.inputs))
        self.sub.operators = kept[::-1]
        self._drop_unused(needed | set(inputs.values()))
        self.model.metadata, self.model.metadataBuffer = None, None

    def to_bytes(self) -> bytes:
        """Write the file."""
        return flatbuffer.to_bytes(self.model)

    def _opcode(self, kind: str, version: int) -> int:
        code = getattr(schema.BuiltinOperator, kind)
        for index, known in enumerate(self.model.operatorCodes):
            if code_of(known) == code and known.version >= version:
                return index
        self.model.operatorCodes.append(
            schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version)
        )
        return len(self.model.operatorCodes) - 1

    def _drop_unused(self, needed: set[int]) -> None:
        """Empty the buffers of constants that nothing reads any more, and leave the numbers of all others."""
        used = {self.sub.tensors[tensor].buffer for tensor in needed if tensor >= 0}
        for index, buffer in enumerate(self.model.buffers):
            if index not in used:
                buffer.data = None
