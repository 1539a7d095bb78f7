"""Reads tensors from a file that PyTorch before 1.6 wrote, without PyTorch, and without running what the file says.

Such a file is a row of pickles: a magic number, the version, the sizes of numbers, the dictionary of tensors, the keys
of their storages; then comes each storage, as a count and that many numbers.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classifier.errors import Corrupt

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
NUMBERS = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_tensors(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors by name, in the order of the file.

    Raises:
        Corrupt: it is no such file, or says something else than tensors.
    """
    try:
        return _read(io.BytesIO(content))
    except Corrupt:
        raise
    except Exception as error:  # unpickling what is broken raises anything
        raise Corrupt(f"Expected tensors as PyTorch writes them; the file is damaged ({error}).") from error


class _Tensor(NamedTuple):
    """Where a tensor is."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In numbers."""

    def of(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Return it from its storage."""
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or last >= len(numbers):
            raise Corrupt(f"Expected a tensor within its {len(numbers)} numbers; the file's goes beyond.")
        strides = [step * numbers.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)


class _Reader(pickle.Unpickler):
    """Makes tensors and dictionaries of them, and nothing else, whatever a file asks for."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.storages: dict[str, np.dtype[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in NUMBERS:
            return NUMBERS[name]
        raise Corrupt(f"Expected tensors and nothing else; the file asks for {module}.{name}.")

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, _, _, view = pid
        if view is not None:
            raise Corrupt("Expected whole storages; the file has a view of one.")
        self.storages[key] = kind
        return str(key)


def _tensor(storage: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _read(file: io.BytesIO) -> dict[str, NDArray[Any]]:
    if _Reader(file).load() != MAGIC or _Reader(file).load() != PROTOCOL:
        raise Corrupt("Expected a file as PyTorch before 1.6 wrote it; received another kind.")
    if not _Reader(file).load().get("little_endian"):
        raise Corrupt("Expected numbers in little endian.")
    reader = _Reader(file)
    tensors = reader.load()
    numbers = {}
    for key in _Reader(file).load():
        kind = reader.storages[key]
        count = int.from_bytes(file.read(8), "little")
        numbers[key] = np.frombuffer(file.read(count * kind.itemsize), kind, count)
    return {name: each.of(numbers[each.storage]) for name, each in tensors.items()}
