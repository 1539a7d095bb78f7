"""Reads what a .tflite tells of itself: TFLite Metadata, and the label file that is packed into it.

The metadata are a flatbuffer of their own (schema "M001", tensorflow/tflite-support, metadata_schema.fbs) in a buffer
of the file; the label files are a zip behind it. Read are the labels of the output and how the input is scaled.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from classifier.errors import InvalidRequest
from trainer.importing.scaling import Scaling, normalisation

NAME = b"TFLITE_METADATA"
IDENTIFIER = b"M001"
NORMALISATION = 1
"""`ProcessUnitOptions.NormalizationOptions`."""
LABEL_TYPES = (2, 3)
"""`AssociatedFileType`: labels of an axis, labels of values."""
LARGEST_LABELS = 4 << 20
MOST_FILES = 100


@dataclass(frozen=True)
class Metadata:
    """What a file tells."""

    labels: str | None = None
    """The text of its label file."""
    scaling: Scaling | None = None


def read_metadata(content: bytes, graph_model: Any) -> Metadata:
    """Return what a .tflite tells.

    Args:
        content: its bytes.
        graph_model: the same, parsed.

    Raises:
        InvalidRequest: its metadata are damaged.
    """
    data = _buffer(graph_model)
    try:
        table = _Table.root(data) if data is not None else None
        scaling = _scaling(table) if table else None
        name = _label_file(table) if table else None
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise InvalidRequest(
            "Expected metadata as TensorFlow Lite Support writes them; this file's are damaged. Export it again, or "
            "write it without metadata, and tell --labels and --scaling."
        ) from error
    return Metadata(_packed_labels(content, name), scaling)


def _buffer(model: Any) -> bytes | None:
    for each in model.metadata or ():
        if each.name == NAME and 0 <= each.buffer < len(model.buffers):
            data = model.buffers[each.buffer].data
            return None if data is None else bytes(data)
    return None


class _Table:
    """A table of a flatbuffer: its fields by number. Offsets that point outside raise `IndexError`."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        self._fields = place - _read(data, "<i", place)

    @classmethod
    def root(cls, data: bytes) -> _Table | None:
        """Return the root of metadata; None where these are of another schema."""
        return cls(data, _read(data, "<I", 0)) if data[4:8] == IDENTIFIER else None

    def _at(self, field: int) -> int | None:
        """Return where a field's value is; None where it has none."""
        entry = 4 + 2 * field
        if entry >= _read(self._data, "<H", self._fields):
            return None
        offset = _read(self._data, "<H", self._fields + entry)
        return self._place + offset if offset else None

    def byte(self, field: int) -> int:
        """Return a number of 8 bits."""
        place = self._at(field)
        return 0 if place is None else _read(self._data, "<b", place)

    def table(self, field: int) -> _Table | None:
        """Return a table."""
        place = self._at(field)
        return None if place is None else _Table(self._data, place + _read(self._data, "<I", place))

    def text(self, field: int) -> str:
        """Return a text."""
        vector = self._vector(field, 1)
        return "" if vector is None else self._data[vector[0] : vector[0] + vector[1]].decode()

    def numbers(self, field: int) -> tuple[float, ...]:
        """Return numbers of 32 bits."""
        vector = self._vector(field, 4)
        return () if vector is None else struct.unpack_from(f"<{vector[1]}f", self._data, vector[0])

    def tables(self, field: int) -> Iterator[_Table]:
        """Yield tables."""
        first, count = self._vector(field, 4) or (0, 0)
        for place in range(first, first + 4 * min(count, MOST_FILES), 4):
            yield _Table(self._data, place + _read(self._data, "<I", place))

    def _vector(self, field: int, size: int) -> tuple[int, int] | None:
        place = self._at(field)
        if place is None:
            return None
        place += _read(self._data, "<I", place)
        count = _read(self._data, "<I", place)
        if place + 4 + count * size > len(self._data):
            raise IndexError(count)
        return place + 4, count


def _read(data: bytes, form: str, place: int) -> int:
    if place < 0:
        raise IndexError(place)
    return int(struct.unpack_from(form, data, place)[0])


def _scaling(model: _Table) -> Scaling | None:
    """Return how the first input is scaled: the first NormalizationOptions among its process units."""
    for sub in model.tables(3):
        for tensor in sub.tables(2):
            for unit in tensor.tables(4):
                options = unit.table(1)
                if unit.byte(0) == NORMALISATION and options is not None:
                    mean, std = options.numbers(0), options.numbers(1)
                    if len(mean) in (1, 3) and len(std) in (1, 3):
                        return normalisation(mean, std)
            return None
    return None


def _label_file(model: _Table) -> str | None:
    """Return the name of the label file of an output, else of the file."""
    for sub in model.tables(3):
        for tensor in sub.tables(3):
            for file in tensor.tables(6):
                if file.byte(2) in LABEL_TYPES:
                    return file.text(0)
    return None


def _packed_labels(content: bytes, name: str | None) -> str | None:
    """Return the text of a packed file; without a name, of the only one that looks like labels."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            entries = {entry.filename: entry for entry in packed.infolist()[:MOST_FILES]}
            if name is None:
                texts = [each for each in entries if each.lower().endswith(".txt") and "label" in each.lower()]
                name = texts[0] if len(texts) == 1 else None
            if name is None or name not in entries:
                return None
            if entries[name].file_size > LARGEST_LABELS:
                raise InvalidRequest(
                    f"Expected a packed label file of at most {LARGEST_LABELS:,} bytes; received "
                    f"{entries[name].file_size:,}. Give the labels with --labels."
                )
            with packed.open(name) as file:
                return file.read(LARGEST_LABELS).decode("utf-8-sig")
    except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, UnicodeDecodeError):
        return None
    except ValueError:  # of a zip whose numbers are none
        return None
