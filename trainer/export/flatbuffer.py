"""Writes a LiteRT model as one flatbuffer with its weights inside, each at an address that any kernel can read from.

Some tools put weights behind the flatbuffer, which older runtimes on devices do not find.
"""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema

ALIGNMENT = 16
"""Of constants, as the schema wants it; the generated code writes them anywhere."""
IDENTIFIER = b"TFL3"


def to_bytes(model: Any) -> bytes:
    """Return the file of a model of the generated code, a `schema.ModelT`, whose buffers it changes."""
    import flatbuffers

    model.buffers = [_Aligned(each.data) for each in model.buffers]
    size = sum(len(each.data) + 64 for each in model.buffers if each.data is not None)
    builder = flatbuffers.Builder(size + 65536)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


class _Aligned(schema.BufferT):  # type: ignore[misc]
    """A buffer whose data begin at a multiple of `ALIGNMENT`."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the generated code's name
        """Write it."""
        if self.data is None:
            schema.BufferStart(builder)
            return schema.BufferEnd(builder)
        data = bytes(self.data)
        builder.StartVector(1, len(data), ALIGNMENT)
        head = builder.Head() - len(data)
        builder.head = head
        builder.Bytes[head : head + len(data)] = data
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)
